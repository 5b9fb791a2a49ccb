//! What subsets do to the load of many replicas that many processes read from. `docs/subsets.md` has the tables.

use super::Subset;
use Choice::{All, Numbered, Rendezvous};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::fmt::Write;

const PROCESSES: usize = 1000;
const REPLICAS: usize = 50;
const POOL_SIZE: usize = 10;

/// Services with processes of their own; what is told is the median.
const SERVICES: usize = 7;

/// How processes choose the replicas that they read from.
#[derive(Debug, Clone, Copy)]
enum Choice {
    All,
    Rendezvous(usize),
    /// By the number of the process: as many as it takes to use each replica once share all of them out, in an order that is shuffled
    /// anew for the next so many.
    Numbered(usize),
}

impl Choice {
    fn name(self) -> String {
        match self {
            All => "all".into(),
            Rendezvous(size) => size.to_string(),
            Numbered(size) => format!("{size}, by numbers"),
        }
    }

    fn subset(self, service: usize, process: usize, replicas: &[usize], names: &[String]) -> Vec<usize> {
        match self {
            All => replicas.to_vec(),
            Rendezvous(size) => {
                let subset = Subset { size, seed: Subset::seed(&format!("service-{service}-{process}")) };
                let named = replicas.iter().map(|replica| (*replica, &*names[*replica])).collect();
                subset.split(named, |(_, name)| name).0.into_iter().map(|(replica, _)| replica).collect()
            }
            Numbered(size) => {
                let sharing = replicas.len() / size;
                let mut shuffled = replicas.to_vec();
                let round = service * PROCESSES + process / sharing;
                shuffled.shuffle(&mut StdRng::seed_from_u64(round as u64));
                shuffled[process % sharing * size..][..size].to_vec()
            }
        }
    }
}

/// For each process of a service the replicas that it reads from.
struct Readers {
    subsets: Vec<Vec<usize>>,
    replicas: Vec<usize>,
}

impl Readers {
    fn new(choice: Choice, service: usize, processes: usize, replicas: impl Iterator<Item = usize>) -> Self {
        let replicas: Vec<_> = replicas.collect();
        let names: Vec<_> = (0..REPLICAS + 10).map(|replica| format!("replica-{replica}")).collect();
        let subset = |process| choice.subset(service, process, &replicas, &names);
        Self { subsets: (0..processes).map(subset).collect(), replicas }
    }

    fn per_replica(&self) -> usize {
        self.subsets.iter().map(Vec::len).sum::<usize>() / self.replicas.len()
    }

    /// What each replica has to serve, in relation to their mean, when each process reads as much as any other.
    fn loads(&self) -> Vec<f64> {
        let mut loads = vec![0.0; REPLICAS + 10];
        for subset in &self.subsets {
            for replica in subset {
                loads[*replica] += 1.0 / subset.len() as f64;
            }
        }
        let mean = self.subsets.len() as f64 / self.replicas.len() as f64;
        self.replicas.iter().map(|replica| loads[*replica] / mean).collect()
    }

    fn least(&self) -> f64 {
        self.loads().into_iter().fold(f64::INFINITY, f64::min)
    }

    fn greatest(&self) -> f64 {
        self.loads().into_iter().fold(0.0, f64::max)
    }

    /// How many pools of processes on replicas there are that were not there before.
    fn opened(&self, before: &Self) -> usize {
        let new = |(before, after): (&Vec<usize>, &Vec<usize>)| {
            after.iter().filter(|replica| !before.contains(replica)).count()
        };
        before.subsets.iter().zip(&self.subsets).map(new).sum()
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn by_choice() -> String {
    let mut text = String::from(
        "| replicas that a process reads from | readers of a replica | connections of their pools | load of a replica | when one fails | pools opened for that | when ten are added | pools opened |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for choice in [All, Rendezvous(20), Rendezvous(10), Rendezvous(5), Numbered(10)] {
        let of = |service: usize, replicas: usize, lost: Option<usize>| {
            let replicas = (0..replicas).filter(|replica| Some(*replica) != lost);
            Readers::new(choice, service, PROCESSES, replicas)
        };
        let all = |replicas, lose: bool| -> Vec<_> {
            (0..SERVICES).map(|service| of(service, replicas, lose.then_some(service))).collect()
        };
        let (before, fewer, more) = (all(REPLICAS, false), all(REPLICAS, true), all(REPLICAS + 10, false));
        let least = |services: &[Readers]| median(services.iter().map(Readers::least));
        let greatest = |services: &[Readers]| median(services.iter().map(Readers::greatest));
        let opened = |services: &[Readers]| {
            median(services.iter().zip(&before).map(|(after, before)| after.opened(before) as f64))
        };
        let readers = before[0].per_replica();
        let row = [
            choice.name(),
            readers.to_string(),
            (readers * POOL_SIZE).to_string(),
            format!("{:.2} to {:.2}", least(&before), greatest(&before)),
            format!("up to {:.2}", greatest(&fewer)),
            opened(&fewer).to_string(),
            format!("up to {:.2}", greatest(&more)),
            opened(&more).to_string(),
        ];
        writeln!(text, "| {} |", row.join(" | ")).expect("text grows");
    }
    text
}

fn by_readers() -> String {
    let mut text = String::from("| readers of a replica | load of a replica |\n|---|---|\n");
    for processes in [100, 500, 1000, 4000] {
        let all: Vec<_> = (0..SERVICES)
            .map(|service| Readers::new(Rendezvous(5), service, processes, 0..REPLICAS))
            .collect();
        let (least, greatest) =
            (median(all.iter().map(Readers::least)), median(all.iter().map(Readers::greatest)));
        writeln!(text, "| {} | {least:.2} to {greatest:.2} |", all[0].per_replica()).expect("text grows");
    }
    text
}

#[test]
fn the_documented_tables_are_these() {
    let documented = include_str!("../../../docs/subsets.md");
    let missing: Vec<_> =
        [by_choice(), by_readers()].into_iter().filter(|table| !documented.contains(table)).collect();
    assert!(missing.is_empty(), "not in the documentation:\n{}", missing.join("\n"));
}

//! Makes things go wrong.

use crate::schedule::{self, Fault, Promotion, Step};
use crate::until;
use crate::world::{REPLICAS, World};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use pg_cluster::{Lsn, Node};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// From the start of one set of rooms to that of the next.
const ERA: Duration = Duration::from_secs(10);

/// How often it happens on average.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub promotion: Duration,
    /// Of what happens to a service, in turns: it stands still, or is restarted.
    pub service: Duration,
}

/// All that happens to the world beside its load.
pub struct Faults<'a> {
    counts: Arc<Counts>,
    going_on: FuturesUnordered<LocalBoxFuture<'a, ()>>,
}

#[derive(Default)]
struct Counts {
    done: Mutex<BTreeMap<String, usize>>,
    /// Held by a node that does not receive: there is always one that acknowledges commits.
    not_receiving: tokio::sync::Mutex<()>,
}

impl Counts {
    fn add(&self, what: String) {
        *self.done.lock().unwrap().entry(what).or_default() += 1;
    }
}

impl<'a> Faults<'a> {
    pub fn of(world: &'a World, seed: u64, pace: Pace) -> Self {
        let counts = Arc::<Counts>::default();
        let going_on = FuturesUnordered::<LocalBoxFuture<'a, ()>>::new();
        for node in 0..=REPLICAS {
            going_on.push(Box::pin(trouble(world, node, seed, Arc::clone(&counts))));
        }
        going_on.push(Box::pin(promote(world, seed, pace.promotion, Arc::clone(&counts))));
        going_on.push(Box::pin(services(world, seed, pace.service, Arc::clone(&counts))));
        going_on.push(Box::pin(renew(world)));
        Self { counts, going_on }
    }

    /// Makes them happen for so long. Fails when one could not be brought about or healed.
    pub async fn go_on_for(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = self.going_on.next() => unreachable!("they do not end"),
        }
    }

    /// How often each happened.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.done.lock().unwrap().clone()
    }
}

/// One node, while it is a replica.
async fn trouble(world: &World, number: usize, seed: u64, counts: Arc<Counts>) {
    let node = world.node(number);
    for Step { after, fault, lasts } in schedule::steps(seed, number) {
        sleep(after).await;
        let primary = world.primary.read().await;
        if *primary == number {
            continue;
        }
        let _alone = world.alone(number).await;
        let _one_receives = match fault.receives() {
            true => None,
            false => Some(counts.not_receiving.lock().await),
        };
        inject(node, fault).await;
        counts.add(fault.to_string());
        sleep(lasts).await;
        heal(node, fault).await;
    }
}

async fn inject(node: &Node, fault: Fault) {
    match fault {
        Fault::Pause => node.pause_replay().await.unwrap(),
        Fault::Delay(delay) => node.apply_delay(delay).await.unwrap(),
        Fault::Cut => node.cut_receiver().await.unwrap(),
        Fault::Freeze => node.freeze().await.unwrap(),
        Fault::Kill => node.kill().await.unwrap(),
    }
}

async fn heal(node: &Node, fault: Fault) {
    match fault {
        Fault::Pause => node.resume_replay().await.unwrap(),
        Fault::Delay(_) => node.apply_delay(Duration::ZERO).await.unwrap(),
        Fault::Cut => node.reconnect_receiver().await.unwrap(),
        Fault::Freeze => node.thaw().await.unwrap(),
        Fault::Kill => node.start().await.unwrap(),
    }
}

async fn promote(world: &World, seed: u64, every: Duration, counts: Arc<Counts>) {
    for (number, turn) in schedule::promotions(seed, every).enumerate() {
        sleep(turn.after).await;
        let mut primary = world.primary.write().await;
        let (old, deposed) = (*primary, world.node(*primary));
        until("every replica streams", async || {
            let sql = "SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming'";
            deposed.sql(sql).await.unwrap().as_deref() == Some(&*REPLICAS.to_string())
        })
        .await;
        let unaware = match turn.behind_the_back {
            true => Some(world.service(number / 4).await),
            false => None,
        };
        if let Some(service) = &unaware {
            service.signal("-STOP").await;
        }
        match turn.promotion {
            Promotion::Planned => deposed.stop_fast().await.unwrap(),
            Promotion::Failover => deposed.kill().await.unwrap(),
        }
        let mut most = None;
        for number in (0..=REPLICAS).filter(|number| *number != old) {
            most = most.max(Some((received(world.node(number)).await, number)));
        }
        let (_, chosen) = most.unwrap();
        let promoted = world.node(chosen);
        promoted.promote().await.unwrap();
        world.names_primary(promoted);
        for number in (0..=REPLICAS).filter(|number| *number != chosen && *number != old) {
            world.node(number).follow(promoted).await.unwrap();
        }
        *primary = chosen;
        if let Some(service) = unaware {
            service.signal("-CONT").await;
            counts.add(format!("{:?} promotion unseen by a service", turn.promotion));
        } else {
            counts.add(format!("{:?} promotion", turn.promotion));
        }
        // The faults go on meanwhile, but for one that leaves nobody to acknowledge commits.
        let _alone = world.alone(old).await;
        let _one_receives = counts.not_receiving.lock().await;
        drop(primary);
        deposed.follow(promoted).await.unwrap();
    }
}

/// How much it has: nothing more arrives once the primary is gone.
async fn received(node: &Node) -> Lsn {
    let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
    until("its receiver has noticed", async || node.sql(gone).await.unwrap().as_deref() == Some("t")).await;
    let sql = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())";
    node.sql(sql).await.unwrap().unwrap().parse().unwrap()
}

/// The services, one after the other.
async fn services(world: &World, seed: u64, every: Duration, counts: Arc<Counts>) {
    for (number, lasts) in schedule::stalls(seed).enumerate() {
        sleep(every).await;
        if number % 2 == 0 {
            let service = world.service(number / 2).await;
            service.signal("-STOP").await;
            counts.add("service stood still".to_owned());
            sleep(lasts).await;
            service.signal("-CONT").await;
        } else {
            world.restart_service(number / 2 + 1).await;
            counts.add("service restarted".to_owned());
        }
    }
}

/// Lets rooms fall out of use, and removes those that nobody uses any more.
async fn renew(world: &World) {
    let mut old = Vec::new();
    loop {
        sleep(ERA).await;
        old.push(world.next_era());
        let (gone, used): (Vec<_>, Vec<_>) = old.into_iter().partition(|era| Arc::strong_count(era) == 1);
        old = used;
        let rooms: Vec<_> = gone.iter().flat_map(|era| era.rooms()).map(|room| room.to_string()).collect();
        if rooms.is_empty() {
            continue;
        }
        let rooms = rooms.join(", ");
        let primary = world.primary.read().await;
        let node = world.node(*primary);
        for table in ["read_markers", "messages"] {
            node.sql(&format!("DELETE FROM {table} WHERE room_id IN ({rooms})")).await.unwrap();
        }
        node.sql(&format!("DELETE FROM rooms WHERE id IN ({rooms})")).await.unwrap();
        for table in ["read_markers", "messages", "rooms"] {
            node.sql(&format!("VACUUM {table}")).await.unwrap();
        }
    }
}

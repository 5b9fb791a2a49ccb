//! The loop that asks a source of nodes again and again.

use super::Discovery;
use crate::{config::NodeConfig, error::Chain};
use futures_util::FutureExt;
use rand::RngExt;
use std::{error::Error, mem, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// The longest that an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks at once and then every so often, give or take a fifth, and hands over what there is whenever that has changed; nothing is
/// known before the first answer. A source that fails changes nothing, and a node is gone when two answers in a row lack it: right
/// after a restart a primary does not know its standbys yet, and a resolver may answer in part.
///
/// Never ends; to be dropped.
pub(crate) async fn watch(
    discovery: Arc<dyn Discovery>,
    every: Duration,
    mut found: impl FnMut(Vec<NodeConfig>),
) {
    let mut known: Vec<NodeConfig> = vec![];
    let mut missed: Vec<NodeConfig> = vec![];
    let mut failing = false;
    loop {
        match ask(&*discovery, every.min(PATIENCE)).await {
            Ok(mut nodes) => {
                if failing {
                    info!(?discovery, nodes = nodes.len(), "discovery works again");
                }
                failing = false;
                let lacking = known.iter().filter(|node| !nodes.contains(node)).cloned().collect();
                let before = mem::replace(&mut missed, lacking);
                nodes.extend(missed.iter().filter(|node| !before.contains(node)).cloned());
                if !same(&nodes, &known) {
                    known.clone_from(&nodes);
                    found(nodes);
                }
            }
            Err(error) => {
                if !failing {
                    let error = Chain(&*error);
                    warn!(?discovery, %error, nodes = known.len(), "discovery fails: what it found last stays");
                }
                failing = true;
            }
        }
        // Services that start together would otherwise ask together for ever.
        let pause = every.mul_f64(rand::rng().random_range(0.8..=1.2));
        sleep(pause).await;
    }
}

/// One answer, without what it repeats.
async fn ask(
    discovery: &dyn Discovery,
    limit: Duration,
) -> Result<Vec<NodeConfig>, Box<dyn Error + Send + Sync>> {
    let answer = AssertUnwindSafe(async { timeout(limit, discovery.discover()).await });
    let nodes = match answer.catch_unwind().await {
        Ok(Ok(answer)) => answer?,
        Ok(Err(_)) => return Err(format!("no answer within {} ms", limit.as_millis()).into()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            return Err(format!("it panicked: {text}").into());
        }
    };
    let mut distinct = Vec::with_capacity(nodes.len());
    for node in nodes {
        if !distinct.contains(&node) {
            distinct.push(node);
        }
    }
    Ok(distinct)
}

/// Whether two lists without repetition hold the same nodes, in any order.
fn same(some: &[NodeConfig], others: &[NodeConfig]) -> bool {
    some.len() == others.len() && some.iter().all(|node| others.contains(node))
}

#[cfg(test)]
mod tests {
    use super::{super::Discovering, *};
    use futures_util::future::BoxFuture;
    use std::{collections::VecDeque, io, sync::Mutex};
    use tokio::time::Instant;

    const EVERY: Duration = Duration::from_secs(30);

    /// What a source does when it is asked.
    #[derive(Debug, Clone, Copy)]
    enum Turn {
        Finds(&'static [&'static str]),
        Fails,
        Hangs,
        Panics,
        PanicsAtOnce,
    }
    use Turn::{Fails, Finds, Hangs, Panics, PanicsAtOnce};

    /// Does one thing after the other, the last one for ever.
    #[derive(Debug)]
    struct Scripted {
        turns: Mutex<VecDeque<Turn>>,
        asked: Mutex<Vec<Instant>>,
    }

    impl Discovery for Scripted {
        fn discover(&self) -> Discovering<'_> {
            self.asked.lock().expect("not poisoned").push(Instant::now());
            let mut turns = self.turns.lock().expect("not poisoned");
            let turn = if turns.len() > 1 { turns.pop_front() } else { turns.front().copied() };
            drop(turns);
            assert!(!matches!(turn, Some(PanicsAtOnce)), "before the first await");
            Box::pin(async move {
                match turn.expect("a script has turns") {
                    Finds(urls) => Ok(urls.iter().copied().map(NodeConfig::from).collect()),
                    Fails => Err("no such host".into()),
                    Hangs => std::future::pending().await,
                    Panics | PanicsAtOnce => panic!("in the midst"),
                }
            })
        }
    }

    /// What has been logged, as text.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Watched {
        found: Vec<Vec<NodeConfig>>,
        asked: Vec<Instant>,
        log: Vec<String>,
    }

    /// Watches a source for this long.
    async fn watched(turns: &[Turn], lasts: Duration) -> Watched {
        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false);
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        let turns = Mutex::new(turns.iter().copied().collect());
        let source = Arc::new(Scripted { turns, asked: Mutex::default() });
        let mut found = vec![];
        let discovery = Arc::clone(&source) as Arc<dyn Discovery>;
        let watching: BoxFuture<'_, ()> = Box::pin(watch(discovery, EVERY, |nodes| found.push(nodes)));
        timeout(lasts, watching).await.expect_err("it never ends");
        let asked = source.asked.lock().expect("not poisoned").clone();
        let log = String::from_utf8(log.0.lock().expect("no writer panics").clone()).expect("text");
        Watched { found, asked, log: log.lines().map(str::to_owned).collect() }
    }

    fn nodes(urls: &[&str]) -> Vec<NodeConfig> {
        urls.iter().copied().map(NodeConfig::from).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_at_once_and_then_at_jittered_intervals() {
        let started = Instant::now();
        let Watched { asked, .. } = watched(&[Finds(&["a"])], EVERY * 1000).await;
        assert_eq!(asked[0], started);
        let (least, most) = (EVERY * 8 / 10, EVERY * 12 / 10 + Duration::from_millis(2));
        let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (least..=most).contains(gap)), "{gaps:?}");
        assert!(
            gaps.iter().any(|gap| *gap < EVERY * 9 / 10) && gaps.iter().any(|gap| *gap > EVERY * 11 / 10)
        );
        assert!((950..1050).contains(&gaps.len()), "{}", gaps.len());
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_set_is_handed_over() {
        let turns = [
            Finds(&[]),
            Finds(&["a", "b", "b"]),
            Finds(&["b", "a"]),
            Finds(&["a", "a", "b"]),
            Finds(&["a", "c"]),
            Finds(&["a"]),
            Finds(&[]),
            Finds(&[]),
        ];
        let Watched { found, log, .. } = watched(&turns, EVERY * 20).await;
        let sets = [nodes(&["a", "b"]), nodes(&["a", "c", "b"]), nodes(&["a", "c"]), nodes(&["a"]), vec![]];
        assert_eq!(found, sets, "a node is gone when it is lacking twice");
        assert_eq!(log, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_any_kind_keeps_the_last_answer_and_is_logged_once() {
        for (failure, text) in [
            (Fails, "no such host"),
            (Hangs, "no answer within 10000 ms"),
            (Panics, "it panicked: in the midst"),
            (PanicsAtOnce, "it panicked: before the first await"),
        ] {
            let turns = [
                failure,
                failure,
                Finds(&["a"]),
                failure,
                failure,
                Finds(&["a"]),
                Finds(&["a"]),
                failure,
                Finds(&["b"]),
            ];
            let Watched { found, asked, log } = watched(&turns, EVERY * 20).await;
            assert_eq!(found, [nodes(&["a"]), nodes(&["b", "a"]), nodes(&["b"])], "{failure:?}");
            assert!(asked.len() > turns.len(), "{failure:?}");
            let expected = [
                ("WARN", "nodes=0"),
                ("INFO", "nodes=1"),
                ("WARN", "nodes=1"),
                ("INFO", "nodes=1"),
                ("WARN", "nodes=1"),
                ("INFO", "nodes=1"),
            ];
            assert_eq!(log.len(), expected.len(), "{log:#?}");
            for (line, (level, nodes)) in log.iter().zip(expected) {
                assert!(line.contains(level) && line.contains(nodes), "{level} {nodes}: {line}");
                assert_eq!(line.contains("WARN"), line.contains(text), "{line}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_waited_for_longer_than_the_interval() {
        let source = Scripted { turns: Mutex::new([Hangs].into()), asked: Mutex::default() };
        let started = Instant::now();
        let limit = Duration::from_millis(100);
        ask(&source, limit).await.expect_err("no answer");
        assert!(started.elapsed() < limit * 2);
    }
}

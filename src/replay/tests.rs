mod asking;
mod proxy;
mod waiting;

use super::*;
use pg_cluster::{Cluster, Node};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{pause, resume, sleep, timeout};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const NOWHERE: &str = "postgres://app@127.0.0.1:1/chat";

fn replay(url: &str) -> Arc<Replay> {
    Arc::new(Replay::new(Endpoint::parse(url).unwrap()))
}

impl Replay {
    fn asked(&self) -> usize {
        self.board.asked.load(Relaxed)
    }

    /// Waits until the node has been asked so many times more.
    async fn until_asked(&self, times: usize) {
        let wanted = self.asked() + times;
        until("it is asked", async || self.asked() >= wanted).await;
    }
}

/// What a node says of itself now.
async fn now(replay: &Replay) -> Position {
    timeout(PATIENCE, replay.asked_after(Instant::now())).await.expect("it answers")
}

/// Whoever waits for this on a task of its own.
fn waiter(replay: &Arc<Replay>, lsn: Lsn, started: i64) -> JoinSet<Position> {
    let replay = Arc::clone(replay);
    let mut waiter = JoinSet::new();
    waiter.spawn(async move { replay.reached(lsn, started).await });
    waiter
}

async fn answer(waiter: &mut JoinSet<Position>) -> Position {
    let answer = timeout(PATIENCE, waiter.join_next()).await.expect("there is an answer");
    answer.expect("somebody waits").expect("no panic")
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

async fn cluster() -> Cluster {
    let cluster = Cluster::builder().replicas(1).start().await.unwrap();
    commit(&cluster, "CREATE TABLE notes (body text); CREATE ROLE nobody LOGIN").await;
    cluster
}

/// Up to where the primary has written, this included.
async fn commit(cluster: &Cluster, sql: &str) -> Lsn {
    cluster.primary().sql(sql).await.unwrap();
    position(cluster.primary()).await
}

async fn note(cluster: &Cluster) -> Lsn {
    commit(cluster, "INSERT INTO notes VALUES ('a')").await
}

async fn position(node: &Node) -> Lsn {
    Lsn::new(node.position().await.unwrap().lsn.into())
}

/// How many connections for asking the node has, of which `which` is true.
async fn sessions(node: &Node, which: &str) -> String {
    let sql = format!(
        "SELECT count(*)::text FROM pg_stat_activity \
         WHERE application_name = 'diesel-replicas monitor' AND {which}"
    );
    node.sql(&sql).await.unwrap().unwrap()
}

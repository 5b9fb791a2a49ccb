//! What becomes of connections that nobody has.

use super::*;
use futures_util::future::join_all;

#[tokio::test]
async fn what_was_used_last_is_used_next() {
    let cluster = cluster(0).await;
    let (pool, _) = pool(&cluster.primary().url(), Access::ReadOnly, 3);
    let mut all = join_all((0..3).map(|_| checkout(&pool))).await;
    let pids = join_all(all.iter_mut().map(pid)).await;
    let [first, second, third] = all.try_into().ok().unwrap();
    [second, first, third].into_iter().for_each(drop);
    for _ in 0..3 {
        assert_eq!(pid(&mut checkout(&pool).await).await, pids[2]);
    }
    let mut both = [checkout(&pool).await, checkout(&pool).await];
    assert_eq!(pid(&mut both[1]).await, pids[0]);
}

/// A call that has one opened takes one that comes back, and what was opened is there for the next.
#[tokio::test]
async fn who_has_a_connection_opened_takes_one_that_comes_back_first() {
    let cluster = cluster(0).await;
    let policy = PoolPolicy { size: 2, connect_timeout: PATIENCE, common: false };
    let (pool, _) = pool_with(&cluster.primary().url(), Access::ReadOnly, policy);
    let mut held = checkout(&pool).await;
    let pid_of_held = pid(&mut held).await;
    cluster.primary().freeze().await.unwrap();
    let mut waiting = std::pin::pin!(checkout(&pool));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(held);
    let mut lease = timeout(SECOND, waiting).await.unwrap();
    cluster.primary().thaw().await.unwrap();
    assert_eq!(pid(&mut lease).await, pid_of_held);
    until_sessions(cluster.primary(), "true", "2").await;
    assert!(pool.try_checkout().is_none(), "it is bb8's until somebody looks");
    let looking = async {
        loop {
            pool.shared.prune(Instant::now(), 1);
            match pool.try_checkout() {
                Some(other) => return other,
                // What it told when it was opened may still have to be handed on.
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    let mut other = timeout(PATIENCE, looking).await.unwrap();
    assert_ne!(pid(&mut other).await, pid_of_held);
}

#[tokio::test]
async fn what_is_too_old_or_was_not_used_is_closed() {
    let cluster = cluster(0).await;
    let primary = cluster.primary();
    let (pool, traffic) = pool(&primary.url(), Access::ReadOnly, 3);
    let looks = age::UNUSED.as_secs() as u32 / age::LOOK.as_secs() as u32;
    let all = join_all((0..3).map(|_| checkout(&pool))).await;
    drop(all);
    let now = Instant::now();
    // From here on it is seen who is used.
    pool.shared.prune(now, looks);
    drop(checkout(&pool).await);
    pool.shared.prune(now, looks + 1);
    assert_eq!(pool.shared.bb8.state().connections, 3);
    pool.shared.prune(now, 2 * looks);
    until_sessions(primary, "true", "1").await;

    let held = checkout(&pool).await;
    pool.shared.prune(now + 30 * 60 * SECOND, 2 * looks + 1);
    drop(held);
    until_sessions(primary, "true", "0").await;
    assert_eq!((traffic.tally().failed, pool.shared.bb8.state().connections), (0, 0));
}

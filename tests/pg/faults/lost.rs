//! Servers that die, freeze and come back.

use super::{Failure, SECOND, is_idle, is_well, only, read, served, until_lost, write};
use crate::support::{self, notes, status, until, until_health};
use diesel::prelude::*;
use diesel_replicas::{Error, Fallback, HealthState, Reason, RunQueryDsl};
use std::time::{Duration, Instant};

/// Expected: a fast stop ends sessions with a word, a restart may be over before a probe has noticed: no read fails either way,
/// none meets a connection of before, and the replica serves again.
#[tokio::test]
async fn a_replica_restarts() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let restarted = cluster.replica(0);
    for fast in [true, false, true] {
        served(&router, 4).await;
        let restarting = async {
            if fast {
                restarted.stop_fast().await.unwrap()
            } else {
                restarted.stop_immediate().await.unwrap()
            }
            restarted.start().await.unwrap();
        };
        let reading = async {
            for _ in 0..100 {
                read(&router).await.unwrap();
            }
        };
        tokio::join!(restarting, reading);
        is_well(&router, &cluster, cluster.primary().name()).await;
    }
}

/// Expected: reads go to the primary, or fail with a typed error if the policy says so, in either case at once; the replicas are
/// back by themselves.
#[tokio::test]
async fn all_replicas_are_dead() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let strict = support::ready(support::builder(&cluster).fallback(Fallback::Fail)).await;
    for replica in cluster.replicas() {
        replica.kill().await.unwrap();
    }
    // Before and after the monitor has noticed.
    only(&router, cluster.primary().name()).await;
    for replica in cluster.replicas() {
        until_lost(&router, replica.name()).await;
        until_lost(&strict, replica.name()).await;
    }
    only(&router, cluster.primary().name()).await;
    let started = Instant::now();
    let error = read(&strict).await.unwrap_err();
    assert!(matches!(error, Failure::Router(Error::NoEligibleNode { .. })), "{error:?}");
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    write(&strict).await.unwrap();
    for replica in cluster.replicas() {
        replica.start().await.unwrap();
    }
    is_well(&router, &cluster, cluster.primary().name()).await;
    is_well(&strict, &cluster, cluster.primary().name()).await;
}

/// Expected: reads go on, marked as unverified. A write waits two probe intervals for a primary, and fails with an error that
/// names the reason; a dead primary and a frozen one differ only in how long it takes to tell. Writes go on by themselves.
#[tokio::test]
async fn the_primary_is_dead_or_frozen() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let primary = cluster.primary();
    for frozen in [false, true] {
        write(&router).await.unwrap();
        if frozen {
            primary.freeze().await.unwrap()
        } else {
            primary.kill().await.unwrap()
        }
        until_health(&router, primary.name(), HealthState::Unreachable).await;
        let started = Instant::now();
        let error = write(&router).await.unwrap_err();
        let took = started.elapsed();
        println!("a write failed after {took:.1?}: {error:?}");
        assert!(matches!(&error, Failure::Router(Error::NoPrimary { .. })), "{error:?}");
        assert!(took >= Duration::from_millis(400) && took < 2 * SECOND, "two probe intervals: {took:?}");
        until("lag can no longer be verified", || {
            cluster.replicas().iter().all(|node| status(&router, node.name()).reason == Reason::LagUnverified)
        })
        .await;
        let served = served(&router, 12).await;
        assert_eq!(served.len(), 2, "{served:?}");
        assert!(!served.contains_key(primary.name()));
        assert!(router.status().no_primary.is_some());

        if frozen {
            primary.thaw().await.unwrap()
        } else {
            primary.start().await.unwrap()
        }
        is_well(&router, &cluster, primary.name()).await;
        assert_eq!(router.status().no_primary, None);
    }
}

/// Expected: a write that is under way when the primary freezes ends with an error, not at TCP's leisure, and so does one that
/// comes before it has been noticed.
#[tokio::test]
async fn writes_meet_a_primary_that_freezes() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    write(&router).await.unwrap();
    cluster.primary().freeze().await.unwrap();
    let started = Instant::now();
    let with_write = router.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq("lost")).execute(conn).await?;
        Ok::<_, Failure>(())
    });
    let (with_write, plain) = tokio::join!(super::in_time(with_write), write(&router));
    println!("writes on a frozen primary ended after {:.1?}: {with_write:?}, {plain:?}", started.elapsed());
    assert!(matches!(with_write, Err(Failure::Router(Error::Lost { .. }))), "{with_write:?}");
    assert!(plain.is_err());
    cluster.primary().thaw().await.unwrap();
    is_well(&router, &cluster, cluster.primary().name()).await;
}

/// Expected: every call fails in time and with a typed error that says what is wrong with each node. As the nodes come back, reads
/// and writes go on by themselves; but a replica that comes back before the primary does not begin to serve, since nobody can
/// tell how far it is behind.
#[tokio::test]
async fn everything_is_dead_and_comes_back() {
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    for primary_first in [true, false] {
        for node in cluster.nodes() {
            node.kill().await.unwrap();
        }
        for node in cluster.nodes() {
            until_lost(&router, node.name()).await;
        }
        let started = Instant::now();
        let failed = [read(&router).await.unwrap_err(), write(&router).await.unwrap_err()];
        assert!(started.elapsed() < 2 * SECOND, "{:?}", started.elapsed());
        for error in failed {
            let Failure::Router(error) = error else { panic!("{error:?}") };
            assert!(error.is_unavailable(), "{error:?}");
            for node in cluster.nodes() {
                assert!(error.to_string().contains(node.name()), "{error}");
            }
        }
        let (primary, replica) = (cluster.primary(), cluster.replica(0));
        let first = if primary_first { primary } else { replica };
        first.start().await.unwrap();
        if primary_first {
            until_health(&router, primary.name(), HealthState::Healthy).await;
            only(&router, primary.name()).await;
            assert_eq!(write(&router).await.unwrap(), primary.name());
        } else {
            until_health(&router, replica.name(), HealthState::Lagging).await;
            until("nobody can tell", || status(&router, replica.name()).reason == Reason::LagUnverified)
                .await;
            let error = read(&router).await.unwrap_err();
            assert!(matches!(error, Failure::Router(Error::NoEligibleNode { .. })), "{error:?}");
        }
        for node in cluster.nodes() {
            node.start().await.unwrap();
        }
        is_well(&router, &cluster, primary.name()).await;
    }
    is_idle(&router, &cluster).await;
}

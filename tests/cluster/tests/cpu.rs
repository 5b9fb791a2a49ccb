//! Nodes that have less than a processor each.

#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use pg_cluster::{Cluster, Error};

const SHARE: f64 = 0.2;

/// Keeps its backend busy, and tells the CPU time that the backend had, in nanoseconds.
const BUSY: &str = "\
    DO $$ BEGIN WHILE clock_timestamp() < statement_timestamp() + interval '1 second' LOOP END LOOP; END $$; \
    SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)";

#[tokio::test]
async fn a_busy_node_has_no_more_than_its_share() {
    let cluster = match Cluster::builder().replicas(1).cpu_limit(SHARE).start().await {
        Err(error @ Error::CpuLimit { .. }) => {
            assert!(!can_be_limited(), "{error}");
            // Past the test harness, which shows nothing of what a passing test prints.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED, not tested with a limit: {error}");
            return;
        }
        started => started.unwrap(),
    };
    for node in cluster.nodes() {
        assert_limited(node).await;
    }
    // A server that is started anew is in its group again.
    let replica = cluster.replica(0);
    replica.kill().await.unwrap();
    replica.start().await.unwrap();
    assert_limited(replica).await;
    cluster.shutdown().await;
}

async fn assert_limited(node: &pg_cluster::Node) {
    let started = Instant::now();
    let used_ns = node.sql(BUSY).await.unwrap().unwrap().parse().unwrap();
    let used = Duration::from_nanos(used_ns).as_secs_f64() / started.elapsed().as_secs_f64();
    // The kernel hands quota out in slices, so a little more passes.
    assert!(used > 0.0 && used < SHARE * 1.25, "{} had {used} of a processor", node.name());
}

/// Found out by other means, so that the test is left out only where the machine is to blame.
fn can_be_limited() -> bool {
    let make_group = r#"
        if [ -n "$PG_CLUSTER_BACKEND" ] && [ "$PG_CLUSTER_BACKEND" = containers ]; then exit 0; fi
        group=/sys/fs/cgroup/cpu
        [ -d "$group" ] || group=/sys/fs/cgroup
        [ -e "$group/cpu.cfs_quota_us" ] || grep -qw cpu "$group/cgroup.subtree_control" || exit 1
        mkdir "$group/pg-cluster-$$-test" && rmdir "$group/pg-cluster-$$-test"
    "#;
    Command::new("sh").args(["-c", make_group]).status().unwrap().success()
}

#[tokio::test]
async fn a_share_that_is_none_is_refused() {
    let error = Cluster::builder().cpu_limit(0.01).start().await.unwrap_err();
    assert_eq!(error.to_string(), "cpu_limit is `0.01`: a share of one processor is wanted, at least 0.1");
}

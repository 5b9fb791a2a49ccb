//! Replicas that are level.

use pg_cluster::Cluster;

/// Waits until all replicas have what has been written.
pub(crate) async fn followed(cluster: &Cluster) {
    let written = cluster.primary().position().await.expect("the primary is up").lsn;
    for replica in cluster.replicas() {
        cluster.wait_replayed(replica, written).await.expect("the replica follows");
    }
}

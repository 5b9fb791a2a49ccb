//! What the tests of queries and handles act on: the tables of [`schema`](crate::schema) on a primary and a replica.

use crate::schema::SETUP;
use crate::support;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{Fallback, ReadConn, Router, WriteConn};
use pg_cluster::Cluster;

pub(crate) struct Stage {
    cluster: Cluster,
    /// Reads from the replica, and from nowhere else.
    replicated: Router,
    /// Has no replica, so that the primary serves its reads.
    alone: Router,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let cluster = Cluster::builder().replicas(1).start().await.unwrap();
        cluster.primary().sql(SETUP).await.unwrap();
        let replicated = support::ready(support::builder(&cluster).fallback(Fallback::Fail)).await;
        let alone = Router::builder().primary(cluster.primary().url()).build().await.unwrap();
        let stage = Self { cluster, replicated, alone };
        stage.caught_up().await;
        stage
    }

    /// Waits until the replica has everything that the primary has.
    pub(crate) async fn caught_up(&self) {
        let written = self.cluster.primary().position().await.unwrap().lsn;
        self.cluster.wait_replayed(self.cluster.replica(0), written).await.unwrap();
    }

    /// A read handle on the replica.
    pub(crate) async fn read(&self) -> ReadConn {
        self.replicated.read().await.unwrap()
    }

    /// A read handle on the primary.
    pub(crate) async fn read_primary(&self) -> ReadConn {
        self.alone.read().await.unwrap()
    }

    /// A write handle, on the primary.
    pub(crate) async fn write(&self) -> WriteConn {
        self.replicated.write().await.unwrap()
    }

    /// A connection of diesel-async's own, to the primary.
    pub(crate) async fn plain(&self) -> AsyncPgConnection {
        AsyncPgConnection::establish(&self.cluster.primary().url()).await.unwrap()
    }
}

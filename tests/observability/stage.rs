//! A chat service on a real cluster, with traffic, watched by a Prometheus.

use std::time::Duration;

use pg_cluster::Cluster;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::programs::installed;
use crate::prometheus::Prometheus;
use crate::service::{Service, name_of};
use crate::until;

/// All of it ends with the stage.
pub struct Stage {
    pub prometheus: Prometheus,
    pub cluster: Cluster,
    traffic: JoinHandle<()>,
}

impl Stage {
    /// One with two replicas, where all is well, unless there is no Prometheus.
    pub async fn set() -> Option<Self> {
        let program = installed("prometheus")?;
        let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
        let service = Service::on(&cluster).await;
        let prometheus = Prometheus::start(&program, service.address()).await;
        let traffic = tokio::spawn(traffic(service));
        let stage = Self { prometheus, cluster, traffic };
        until("all is well", async || stage.prometheus.shows("diesel_replicas_serving_replicas == 2").await)
            .await;
        Some(stage)
    }

    /// The names of the primary and the replicas, as they were at the start.
    pub fn names(&self) -> [String; 3] {
        [0, 1, 2].map(|index| name_of(&self.cluster.nodes()[index]))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.traffic.abort();
    }
}

/// Reads and writes, one after the other, whether or not they are answered.
async fn traffic(service: Service) {
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    let messages = format!("/api/rooms/{room}/messages");
    loop {
        service.post(&messages, json!({ "author_id": ada, "body": "hello" })).await;
        for _ in 0..4 {
            service.get("/api/rooms").await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

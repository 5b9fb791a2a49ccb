use std::{process::Child, sync::Arc, thread};

use tokio::task;

#[cfg(feature = "containers")]
use crate::container::{ContainerServer, Fleet};
use crate::{
    ClusterBuilder, Error, Lsn, Node, Position,
    guardian::Guardian,
    local::{Host, LocalServer},
    server::Server,
};

/// A primary and its streaming replicas.
///
/// Dropping it removes everything, in the background; so does the end of the process, whatever the end is. It may live in a
/// `static`, be used from several runtimes one after the other, and be dropped outside of one.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    ground: Ground,
    /// In the order in which they are to clean up; none once that has begun.
    guardians: Vec<Guardian>,
}

/// What new nodes are made on.
#[derive(Debug)]
pub(crate) enum Ground {
    Local(Arc<Host>),
    #[cfg(feature = "containers")]
    Containers(Arc<Fleet>),
}

impl Ground {
    fn node(&self, name: String) -> Node {
        let server = match self {
            Self::Local(host) => Server::Local(LocalServer::new(Arc::clone(host), name.clone())),
            #[cfg(feature = "containers")]
            Self::Containers(fleet) => {
                Server::Container(ContainerServer::new(Arc::clone(fleet), name.clone()))
            }
        };
        Node::new(name, server)
    }
}

impl Cluster {
    /// Describes a cluster; [`ClusterBuilder::start`] starts it.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// A cluster without nodes: from here on whatever fails is cleaned up.
    pub(crate) fn on(ground: Ground, guardians: Vec<Guardian>) -> Self {
        Self { nodes: Vec::new(), ground, guardians }
    }

    pub(crate) fn push_node(&mut self) -> &Node {
        let name = match self.nodes.len() {
            0 => "primary".to_owned(),
            n => format!("replica{n}"),
        };
        let node = self.ground.node(name);
        self.nodes.push(node);
        &self.nodes[self.nodes.len() - 1]
    }

    /// The node that was the primary at first.
    #[must_use]
    pub fn primary(&self) -> &Node {
        &self.nodes[0]
    }

    /// The nodes that were replicas at first.
    #[must_use]
    pub fn replicas(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// One of [`replicas`](Self::replicas), counted from 0.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    #[must_use]
    pub fn replica(&self, index: usize) -> &Node {
        &self.replicas()[index]
    }

    /// All nodes, the primary first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds a replica of [`primary`](Self::primary), and returns when it streams.
    ///
    /// # Errors
    ///
    /// As [`add_replica_of`](Self::add_replica_of).
    pub async fn add_replica(&mut self) -> Result<&Node, Error> {
        let primary = self.primary().clone();
        self.add_replica_of(&primary).await
    }

    /// Adds a replica of any node, another replica too, and returns when it streams.
    ///
    /// # Errors
    ///
    /// When `upstream` cannot be copied or the new server does not start. It is then no node of the cluster.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a node that may not run; [`Node::follow`] repairs it.
    pub async fn add_replica_of(&mut self, upstream: &Node) -> Result<&Node, Error> {
        let node = self.push_node().clone();
        if let Err(error) = node.follow(upstream).await {
            // A server that runs without streaming is of no use to anybody.
            let _ = node.kill().await;
            self.nodes.pop();
            return Err(error);
        }
        Ok(&self.nodes[self.nodes.len() - 1])
    }

    /// Waits until a node has replayed everything up to `lsn` (a primary: has written it).
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`] after 30 seconds.
    pub async fn wait_replayed(&self, node: &Node, lsn: Lsn) -> Result<(), Error> {
        node.until_replayed(lsn).await
    }

    /// Reads how far every node has come, in the order of [`nodes`](Self::nodes).
    ///
    /// # Errors
    ///
    /// When one cannot be asked; [`Node::position`] asks a single one.
    pub async fn positions(&self) -> Result<Vec<Position>, Error> {
        let mut positions = Vec::new();
        for node in &self.nodes {
            positions.push(node.position().await?);
        }
        Ok(positions)
    }

    /// Removes everything, and returns when it is gone.
    pub async fn shutdown(mut self) {
        let end = self.end();
        // Where the runtime is shutting down, the guardians go on by themselves.
        let _ = task::spawn_blocking(end).await;
    }

    /// What is left to do at the end: the guardians kill, we wait for our children.
    fn end(&mut self) -> impl FnOnce() + Send + 'static {
        let guardians = std::mem::take(&mut self.guardians);
        let processes: Vec<Child> =
            self.nodes.iter().filter_map(|node| node.server().take_process()).collect();
        move || {
            guardians.into_iter().for_each(Guardian::dismiss);
            for mut process in processes {
                // Fails only when somebody else has waited for it.
                let _ = process.wait();
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.guardians.is_empty() {
            // The thread only keeps zombies away. Where it cannot be started, dropping its closure sets the guardians off.
            let _ = thread::Builder::new().name("pg-cluster-end".to_owned()).spawn(self.end());
        }
    }
}

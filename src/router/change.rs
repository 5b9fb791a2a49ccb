//! Changes of the nodes and the settings while the service runs.

use super::rollout::InForce;
use super::{Router, parts};
use crate::config::{Config, NodeConfig};
use crate::error::Error;
use crate::monitor::{Command, Reply};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Router {
    /// Adds a node to read from. It serves from its first good probe on, with a share that grows over the
    /// [slow start](crate::RouterBuilder::slow_start).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the node is not valid, [`Error::NodeExists`], [`Error::ShutDown`]. That it cannot be reached is none.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the node may be added although the call was dropped.
    pub async fn add_replica(&self, node: impl Into<NodeConfig>) -> Result<(), Error> {
        let spec = Box::new(node.into().check()?);
        self.tell(|reply| Command::Add(spec, reply)).await
    }

    /// Removes a node: it gets no new reads from now on, those that wait for it go elsewhere, and the call returns when all handles
    /// to it are back. Handles that are not back after the [drain timeout](crate::RouterBuilder::drain_timeout) are cut: queries
    /// on them fail. Returns how many that were.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::IsPrimary`], [`Error::ShutDown`].
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the node is removed although the call was dropped. Calling again waits for the same end.
    pub async fn remove_replica(&self, name: &str) -> Result<usize, Error> {
        self.tell(|reply| Command::Remove(Arc::from(name), reply)).await
    }

    /// Changes a node's share of reads relative to the others, from the next read on: see
    /// [`NodeConfig::weight`](crate::NodeConfig::weight). Weight 0 takes it out of service, watched and with its connections.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::ShutDown`].
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the weight may be changed although the call was dropped.
    pub async fn set_weight(&self, node: &str, weight: u32) -> Result<(), Error> {
        self.tell(|reply| Command::SetWeight(Arc::from(node), weight, reply)).await
    }

    /// Puts another configuration in the place of the present one, in one step: nodes that are new are added, those that are in
    /// both stay as they are, those that are not any more are drained in the background, and all settings hold from the next
    /// request on. A node is the same if its name, its address and where its password comes from are. With another pool size or connect timeout all pools are
    /// opened anew, and the old ones close as their handles come back.
    ///
    /// Writes never go back to an older timeline of the same cluster, be it that the node that was promoted is not listed any more. A
    /// service that is to write to a deposed primary again has to be restarted.
    ///
    /// Sources of discovery stay those that the router was started with.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`].
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the configuration may be in place although the call was dropped.
    pub async fn reload(&self, config: Config) -> Result<(), Error> {
        let rollout = InForce::of(&config);
        let keyless = config.subset_seed.is_none();
        let (nodes, mut settings) = parts(config);
        let present = self.shared.topology.load().settings.subset;
        if let (Some(subset), Some(present)) = (&mut settings.subset, present.filter(|_| keyless)) {
            subset.seed = present.seed;
        }
        let settings = Arc::new(settings);
        self.tell(|reply| Command::Reload { nodes, settings, reply }).await?;
        self.shared.rollout.set(rollout);
        Ok(())
    }

    async fn tell<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).map_err(|_| Error::ShutDown)?;
        answer.await.map_err(|_| Error::ShutDown)?
    }
}

use std::{path::PathBuf, sync::Arc};

use tokio::task::JoinSet;

#[cfg(feature = "containers")]
use crate::container::{self, Fleet, ImageName};
use crate::{
    Backend, Cluster, Error, Node,
    account::Account,
    cluster::Ground,
    cpu::{CpuLimit, Groups},
    guardian::Guardian,
    installation::Installation,
    local::{self, Host},
    selection::{Source, Wish},
    settings::Setting,
    storage,
    template::Template,
};

/// What a cluster is to be like; made by [`Cluster::builder`].
///
/// What is not said here is taken from the environment, and else chosen: see the table of variables in the
/// [crate's documentation](crate).
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct ClusterBuilder {
    replicas: usize,
    wish: Wish,
    settings: Vec<Setting>,
    directory: Option<PathBuf>,
    own_identity: bool,
    cpu_limit: Option<f64>,
}

impl ClusterBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The number of streaming replicas, 0 if not said.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// What the servers run as; `PG_CLUSTER_BACKEND` or the first that is there if not said.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.wish.backend = Some(backend);
        self
    }

    /// The major version of PostgreSQL, such as 18; `PG_CLUSTER_VERSION` or any from 14 on if not said.
    pub fn version(mut self, major: u32) -> Self {
        self.wish.version = Some(major);
        self
    }

    /// The image for containers; `PG_CLUSTER_IMAGE` or the official one of the wanted version if not said. It is pulled only
    /// when the engine does not have it.
    pub fn image(mut self, name: impl Into<String>, tag: impl Into<String>) -> Self {
        self.wish.image = Some((name.into(), tag.into()));
        self
    }

    /// One more line for `postgresql.conf` of every node. It wins over what the cluster sets by itself.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push(Setting::new(name.into(), value.into()));
        self
    }

    /// The directory below which local servers keep their data; memory-backed storage if not said, else the directory for
    /// temporary files.
    pub fn directory(mut self, parent: impl Into<PathBuf>) -> Self {
        self.directory = Some(parent.into());
        self
    }

    /// Gives the cluster a system identifier of its own, at the price of an `initdb` of about a second. Without it all local
    /// clusters of one installation have the same one, since they are copies of one template; in containers each has its own.
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Limits every node to a share of one processor: with 0.2 its processes run for 2 ms of any 10 ms, all of them together. So many
    /// nodes on few processors are as far apart as on machines of their own. At least 0.1; no limit if not said.
    ///
    /// Of local servers it takes Linux, and root or a delegated control group (version 1 or 2); of containers an engine that can.
    pub fn cpu_limit(mut self, share: f64) -> Self {
        self.cpu_limit = Some(share);
        self
    }

    /// Starts the cluster, and returns when every replica streams.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToRun`] or [`Error::Unavailable`] when there is no PostgreSQL to be had; [`Error::Configuration`];
    /// [`Error::CpuLimit`] when a limit was asked for that cannot be had here; [`Error::Start`] with the end of the server's log.
    /// Nothing is left behind then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes what was started.
    pub async fn start(mut self) -> Result<Cluster, Error> {
        self.settings.iter().try_for_each(Setting::check)?;
        let limit = self.cpu_limit.map(CpuLimit::new).transpose()?;
        self.wish = self.wish.or_environment()?;
        let (ground, guardians) = match self.wish.choose().await? {
            Source::Programs(installation) => self.local_ground(installation, limit).await?,
            #[cfg(feature = "containers")]
            Source::Image(image) => self.container_ground(image, limit).await?,
        };
        let mut cluster = Cluster::on(ground, guardians);
        for _ in 0..=self.replicas {
            cluster.push_node();
        }
        let primary = cluster.primary();
        primary.server().create(None).await?;
        each(cluster.replicas(), |node| {
            let primary = primary.clone();
            async move {
                node.server().create(Some(&node.conninfo(&primary))).await?;
                node.set_upstream(&primary);
                node.until_streaming_from(&primary).await
            }
        })
        .await?;
        Ok(cluster)
    }

    async fn local_ground(
        &self,
        installation: Installation,
        limit: Option<CpuLimit>,
    ) -> Result<(Ground, Vec<Guardian>), Error> {
        let Self { directory, settings, own_identity, .. } = self.clone();
        local::blocking(move || {
            let account = Account::for_servers();
            let name = storage::unique_name();
            let (base, guardian) = storage::base_directory(directory.as_deref(), &name, account)?;
            let mut guardians = vec![guardian];
            let groups = match limit {
                Some(limit) => {
                    let (groups, guardian) = Groups::of_cluster(&name, limit)?;
                    guardians.push(guardian);
                    Some(groups)
                }
                None => None,
            };
            let template = if own_identity {
                Template::fresh(&installation, account, &base)?
            } else {
                Template::of(&storage::cache_directory()?, &installation, account, &base)?
            };
            let host = Host { installation, account, base, settings, template, groups };
            Ok((Ground::Local(Arc::new(host)), guardians))
        })
        .await
    }

    #[cfg(feature = "containers")]
    async fn container_ground(
        &self,
        image: ImageName,
        limit: Option<CpuLimit>,
    ) -> Result<(Ground, Vec<Guardian>), Error> {
        if limit.is_some() {
            container::check_that_cpu_can_be_limited().await?;
        }
        let settings = self.settings.clone();
        local::blocking(move || {
            let name = storage::unique_name();
            let guardian = Guardian::of_containers(&name)?;
            Ok((Ground::Containers(Arc::new(Fleet { name, image, settings, limit })), vec![guardian]))
        })
        .await
    }
}

/// Does the same to several nodes at once.
async fn each<F>(nodes: &[Node], act: impl Fn(Node) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut acts: JoinSet<_> = nodes.iter().cloned().map(act).collect();
    while let Some(done) = acts.join_next().await {
        match done {
            Ok(result) => result?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(())
}

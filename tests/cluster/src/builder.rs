use std::{path::PathBuf, sync::Arc};

use tokio::task::JoinSet;

use crate::{
    Cluster, Error, Node,
    account::Account,
    cluster::Ground,
    installation::Installation,
    local::{self, Host},
    server::Server,
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
    version: Option<u32>,
    settings: Vec<Setting>,
    directory: Option<PathBuf>,
    own_identity: bool,
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

    /// The major version of PostgreSQL, such as 18; any from 14 on if not said.
    pub fn version(mut self, major: u32) -> Self {
        self.version = Some(major);
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
    /// clusters of one installation have the same one, since they are copies of one template.
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Starts the cluster, and returns when every replica streams.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToRun`] when there is no PostgreSQL to be had; [`Error::Configuration`]; [`Error::Start`] with the end
    /// of the server's log. Nothing is left behind then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes what was started.
    pub async fn start(self) -> Result<Cluster, Error> {
        self.settings.iter().try_for_each(Setting::check)?;
        let version = self.version;
        let installation = local::blocking(move || Installation::find(version)).await?;
        let installation = installation.ok_or_else(|| Error::NothingToRun { tried: "local".to_owned() })?;
        self.start_locally(installation).await
    }

    async fn start_locally(self, installation: Installation) -> Result<Cluster, Error> {
        let account = Account::for_servers();
        let directory = self.directory;
        let (base, guardian) =
            local::blocking(move || storage::base_directory(directory.as_deref(), account)).await?;
        let host = Arc::new(Host { installation, account, base, settings: self.settings });
        let mut cluster = Cluster::on(Ground::Local(Arc::clone(&host)), guardian);

        let own_identity = self.own_identity;
        let template = {
            let host = Arc::clone(&host);
            local::blocking(move || {
                let make = if own_identity { Template::fresh } else { Template::of };
                make(&host.installation, host.account, &host.base).map(Arc::new)
            })
            .await?
        };
        for _ in 0..=self.replicas {
            cluster.push_node();
        }
        each(cluster.nodes(), move |node| {
            let template = Arc::clone(&template);
            async move {
                let Server::Local(server) = node.server();
                server.create(template).await
            }
        })
        .await?;

        let primary = cluster.primary().clone();
        primary.start().await?;
        each(cluster.replicas(), move |node| {
            let primary = primary.clone();
            async move {
                let Server::Local(server) = node.server();
                server.make_standby(&node.conninfo(&primary))?;
                node.set_upstream(&primary);
                node.start().await?;
                node.until_streaming_from(&primary).await
            }
        })
        .await?;
        Ok(cluster)
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

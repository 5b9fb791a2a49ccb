//! `diesel-replicas doctor` on real clusters, healthy and broken.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

mod access;
mod document;
mod encryption;
mod healthy;
#[path = "../pg/pgbouncer/process.rs"]
mod pgbouncer;
mod replication;
mod roles;
mod support;
mod top;
mod usage;

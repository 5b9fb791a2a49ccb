//! The router against real clusters.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

mod discovery;
mod events;
mod faults;
mod fence;
mod fencing;
mod freshness;
mod handles;
mod managed;
mod membership;
mod metrics;
mod off;
mod outages;
mod passwords;
mod pgbouncer;
mod pools;
mod promotion;
mod proxy;
mod queries;
mod retries;
mod rollout;
mod routing;
mod schema;
mod sockets;
mod stage;
mod storm;
mod support;
mod testing;
mod tls;
mod unaware;
mod usage;
mod web;

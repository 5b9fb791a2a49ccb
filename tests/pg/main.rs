//! The router against real clusters.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

mod events;
mod fence;
mod fencing;
mod handles;
mod outages;
mod pools;
mod proxy;
mod queries;
mod routing;
mod schema;
mod sockets;
mod stage;
mod storm;
mod support;
mod usage;

//! The router against real clusters.

mod handles;
mod pools;
mod proxy;
mod routing;
mod support;

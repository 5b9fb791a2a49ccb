//! The router against real clusters.

mod handles;
mod pools;
mod routing;
mod support;

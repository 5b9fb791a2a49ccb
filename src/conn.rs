//! Handles: what the router hands out, and what functions that run queries take.
//!
//! | handle | runs | made from |
//! |---|---|---|
//! | [`ReadConn`] | reads | `router.read().await?`, [`WriteConn::as_read`] |
//! | [`WriteConn`] | everything | `router.write().await?` |
//! | [`Reader`] | reads | `&mut ReadConn`, `&mut WriteConn` and `&mut AsyncPgConnection`, by coercion |
//! | [`Pipeline`] | several reads at once | `&ReadConn`, `&WriteConn`, `&AsyncPgConnection` |
//! | [`Snapshot`] | a transaction that reads | [`ReadConn::snapshot`] |

pub(crate) mod commit;
mod freshness;
mod pipeline;
mod read;
mod reader;
mod snapshot;
mod write;

pub use freshness::{AtLeast, Causal, Eventual, Freshness, Latest};
pub use pipeline::Pipeline;
pub use read::ReadConn;
pub use reader::{Readable, ReadableCausal, ReadableLatest, Reader};
pub use snapshot::{SendFn, Snapshot};
pub use write::WriteConn;

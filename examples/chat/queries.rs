//! Every query of the service.
//!
//! What reads takes a [`Reader`](diesel_replicas::Reader), so that it runs on a replica and, within a write, on the primary
//! alike. What writes takes a [`WriteConn`](diesel_replicas::WriteConn).

pub mod messages;
pub mod rooms;
pub mod totals;
pub mod users;

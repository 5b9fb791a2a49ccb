//! A connection router for Diesel services on PostgreSQL with a primary and streaming read replicas: reads go to healthy
//! replicas, writes to the primary, and the compiler keeps them apart.
//!
//! ```
//! use diesel::prelude::*;
//! use diesel_replicas::{Reader, Router, RunQueryDsl};
//!
//! diesel::table! {
//!     rooms (id) {
//!         id -> Integer,
//!         name -> Text,
//!     }
//! }
//!
//! // Takes whatever can read: a `ReadConn`, a `WriteConn`, a bare `AsyncPgConnection`.
//! async fn names(conn: &mut Reader) -> QueryResult<Vec<String>> {
//!     rooms::table.select(rooms::name).load(conn).await
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = pg_cluster::Cluster::builder().replicas(1).start().await?;
//! # let schema = "CREATE TABLE rooms (id serial PRIMARY KEY, name text NOT NULL)";
//! # cluster.primary().sql(schema).await?;
//! # let (primary, replica) = (cluster.primary().url(), cluster.replica(0).url());
//! let router = Router::builder().primary(primary).replica(replica).build().await?;
//!
//! let mut conn = router.write().await?; // the primary
//! diesel::insert_into(rooms::table).values(rooms::name.eq("lobby")).execute(&mut conn).await?;
//! assert_eq!(names(&mut conn).await?, ["lobby"]);
//!
//! # let written = cluster.primary().position().await?.lsn;
//! # cluster.wait_replayed(cluster.replica(0), written).await?;
//! let mut conn = router.read().await?; // a healthy replica
//! assert_eq!(names(&mut conn).await?, ["lobby"]);
//! # Ok(())
//! # }
//! ```
//!
//! Import [`RunQueryDsl`] from here **instead of** diesel-async's; it has the same verbs and futures, and works on
//! diesel-async's own connections too.
//!
//! # Contents
//!
//! * [Handles](#handles) · [What compiles](#what-compiles) · [The second fence](#the-second-fence) · [Freshness](#freshness)
//! * [Routing and health](#routing-and-health) · [Retries](#retries) · [Nodes that come and go](#nodes-that-come-and-go)
//! * [Configuration](#configuration) · [Errors](#errors)
//! * [Cancelled work and dropped handles](#cancelled-work-and-dropped-handles) · [Testing](#testing) · [Migrating](#migrating)
//! * [Alternatives](#alternatives) · [Limits](#limits)
//! * [What the types catch, and what they cannot](what_the_types_catch) · [Compiler messages explained](compiler_messages)
//!
//! # Handles
//!
//! | handle | runs | comes from |
//! |---|---|---|
//! | [`ReadConn<F>`](ReadConn) | reads, on a replica or what the fallback policy says, [as fresh](#freshness) as `F` | [`Router::read`] |
//! | [`WriteConn`] | everything, on the primary; derefs to `AsyncPgConnection` | [`Router::write`] |
//! | [`Reader`] | reads: the type for functions | `&mut` of any of them, by coercion |
//! | [`Pipeline`] | several reads at a time on one connection | [`ReadConn::pipeline`], or `From` a shared connection |
//! | [`Snapshot`] | reads that all see one state | [`ReadConn::snapshot`] |
//!
//! # What compiles
//!
//! On a read-only handle everything that Diesel's query builder knows to only read, and queries of one's own that implement
//! [`Statement`]. Inserts, updates, deletes and row locks do not; raw SQL does once it is
//! [asserted](AssertReadOnlyDsl::assert_read_only) to only read:
//!
//! ```compile_fail,E0277
//! # use diesel::prelude::*;
//! # use diesel_replicas::{ReadConn, RunQueryDsl};
//! # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
//! # async fn example(mut conn: ReadConn) -> QueryResult<()> {
//! // error[E0277]: `DELETE` is not allowed on a read-only connection
//! diesel::delete(rooms::table).execute(&mut conn).await?;
//! # Ok(()) }
//! ```
//!
//! # The second fence
//!
//! Every read session starts with `default_transaction_read_only = on`, on the primary too. What no type can see, a function
//! that writes or a wrong assertion, fails there with Diesel's read-only error and changes nothing. Only while
//! [replicas are off](RouterBuilder::read_replicas_enabled), and all is as it was with one pool, there is no such fence.
//! [What neither fence stops](what_the_types_catch) needs a role that may `SELECT` and nothing else.
//!
//! # Freshness
//!
//! A replica is always a little behind. How much of that a read can take is part of the type of its connection:
//!
//! | | is | comes from |
//! |---|---|---|
//! | [`Eventual`] | any healthy replica; the default, so nobody sees the parameter until it is wanted | [`Router::read`] |
//! | [`Causal`] | at least as new as a commit, named by its [`CausalToken`] | [`ReadRequest::after`], [`Session`] |
//! | [`Latest`] | on the primary | [`ReadRequest::latest`], [`Router::write`] |
//!
//! A fresher connection goes where a staler one is asked for, never the other way: a function that takes a `&mut Reader<Causal>` can
//! not be called with what may lack its caller's writes.
//!
//! [`Router::with_write`] returns its commit's token, at no further round trip. A read after a token goes to a replica that is known
//! to have replayed the commit; else to one that gets there within the [causal wait](RouterBuilder::causal_wait), which is asked for
//! all who wait with one question; else to the primary. [`ReadRequest::max_staleness`] bounds the age of data instead. A [`Session`]
//! carries its token forward over reads and writes. Where a token goes to a client, sign it with [`TokenKeys`].
//!
//! The feature `tower` has a layer that carries tokens in headers and cookies, `axum` has extractors, so that a handler that takes a
//! `ReadConn`, a `ReadConn<Causal>` or a `WriteConn` says all that there is to say, and `serde` lets a token travel in a job.
//!
//! # Routing and health
//!
//! A monitor asks every node four times a second, on a connection of its own. A replica serves from its first good probe on. It
//! leaves as soon as its lag passes the [threshold](RouterBuilder::lag_threshold), when it refuses a connection, when two probes
//! get no answer, or when it [fails the work](Ejection) sent to it; it returns after two good probes in a row, at or below half of
//! the threshold, or, ejected, when its time is over and a probe finds it good, with a share that
//! [grows](RouterBuilder::slow_start). Lag is an upper bound, taken from the primary's own log
//! positions and one clock; unknown is not zero. While the primary does not answer, replicas that have all that is known of it go on
//! serving.
//!
//! Roles are observed. When another node of the cluster is writable on a higher timeline, writes go there, and the connections for
//! writing to the old primary are closed; on the same timeline nobody can tell who is right, and writes fail. A server of another
//! cluster is never served, nor is a second entry of the same server, nor a standby of a primary that was deposed.
//!
//! Among healthy replicas a [`Strategy`] picks. A node that cannot be reached costs a request one attempt: the next is tried
//! at once, then what the [`Fallback`] policy says. Reads that fall back to the primary have a pool of their own, so they can
//! never starve writes. [`Router::status`] tells all of this; each change of a node's health is one `tracing` event.
//!
//! # Retries
//!
//! [`Router::with_read`] runs a closure, and runs it once more elsewhere when its node is lost: safe, since what it is given cannot
//! write. [`Router::with_write`] runs one in a transaction, once, and returns its token.
//!
//! # Nodes that come and go
//!
//! [`Router::add_replica`], [`Router::remove_replica`], [`Router::set_weight`] and [`Router::reload`] change the nodes while traffic
//! flows; a [`Discovery`] does so by itself.
//!
//! # Configuration
//!
//! [`Router::from_env`] reads [these variables](Config::from_env), [`Router::builder`] has [the same in code](RouterBuilder).
//! Until `DB_READ_REPLICAS_ENABLED` is on, all reads go to the primary, and code is the same.
//!
//! The feature `cli` has the program `diesel-replicas`: its `doctor` checks a configuration against the servers that it names, and says
//! what to do about what it finds; its `top` shows them live. The checks are also in code, as the module `doctor`.
//!
//! # Errors
//!
//! A request for a connection ends by its deadline with an [`Error`] that says what is wrong: nothing eligible, no primary, pool
//! exhausted, cannot connect, timed out. [`Error::is_unavailable`] tells what may pass, for which a web service answers 503, from a wrong
//! configuration, which will not. What fails in a query is Diesel's error, as ever.
//!
//! # Cancelled work and dropped handles
//!
//! Futures may be dropped at any point. A handle that goes back with a query under way, a stream half read or a transaction
//! open, a raw `BEGIN` included, is settled in the background: the work is cancelled on the server, and the connection is given
//! to nobody unless it has become idle by itself. The protocol itself tells what a connection is doing, so checking costs no
//! round trip. (On a Unix socket there is no place to look from: there a round trip after each use replaces it.)
//!
//! # Testing
//!
//! The feature `testing` has a `TestDatabase`: one database that shows itself as a primary and replicas, which lag when a test says so,
//! in a transaction that is rolled back.
//!
//! # Migrating
//!
//! From a bb8 pool of `AsyncPgConnection`, in steps that each compile and can each be deployed. Where the pool was asked, ask the
//! router for a [`WriteConn`]: it goes where the connection went. Then import this crate's [`RunQueryDsl`], let functions that only
//! read take a [`Reader`] (or a [`Pipeline`], where they took `&AsyncPgConnection`), and move handlers to [`Router::read`] one by
//! one; the compiler names those that write. Half-way it looks like this:
//!
//! ```no_run
//! use diesel::prelude::*;
//! use diesel_async::{AsyncConnection, AsyncPgConnection};
//! use diesel_replicas::{Pipeline, Reader, Router, RunQueryDsl};
//! # diesel::table! { rooms (id) { id -> Integer, name -> Text, } }
//!
//! // Not touched yet.
//! async fn add(conn: &mut AsyncPgConnection, name: &str) -> QueryResult<usize> {
//!     diesel::insert_into(rooms::table).values(rooms::name.eq(name)).execute(conn).await
//! }
//!
//! // Took a `&mut AsyncPgConnection`.
//! async fn names(conn: &mut Reader) -> QueryResult<Vec<String>> {
//!     rooms::table.select(rooms::name).load(conn).await
//! }
//!
//! // Took a `&AsyncPgConnection`.
//! async fn count(mut conn: Pipeline<'_>) -> QueryResult<i64> {
//!     rooms::table.count().get_result(&mut conn).await
//! }
//!
//! # async fn example(router: Router) -> Result<(), Box<dyn std::error::Error>> {
//! let mut conn = router.write().await?; // was `pool.get().await?`
//! conn.transaction(async |conn| {
//!     add(conn, "lobby").await?;
//!     names(conn).await
//! })
//! .await?;
//!
//! let mut conn = router.read().await?; // was `router.write().await?`
//! names(&mut conn).await?;
//! tokio::try_join!(count(conn.pipeline()), count(conn.pipeline()))?;
//! # Ok(()) }
//! ```
//!
//! # Alternatives
//!
//! | | tells reads from writes | takes lagging replicas out | serves | adds |
//! |---|---|---|---|---|
//! | a pool for each node, by hand | by discipline | no | this process | nothing |
//! | HAProxy | by port, so by discipline | with a check script of yours | any language | a hop, a service to run |
//! | PgBouncer | by name of the database, so by discipline | no | any language; caps the connections of many processes | a hop, a service to run |
//! | Pgpool-II | by parsing SQL when it runs; functions by lists | yes | any language; caps connections, can fail over | a hop that parses, a service to run |
//! | this crate | by types when it compiles, the rest by read-only sessions | yes, by an upper bound | Diesel in Rust | nothing |
//!
//! This crate caps no connections across processes and promotes nobody: for those, a pooler or a failover manager stays in place.
//! A pooler between it and a node must pass on the start-up parameter `options`, or reads fail with an error that says so.
//!
//! # Limits
//!
//! This crate follows promotions; it makes none.

mod alerts;
#[cfg(feature = "axum")]
pub mod axum;
mod balance;
mod channel;
mod config;
mod conn;
mod discovery;
#[cfg(feature = "cli")]
pub mod doctor;
mod endpoint;
mod error;
mod event;
mod failure;
mod fleet;
mod freshness;
mod gauge;
mod health;
mod limitation;
mod lsn;
mod metrics;
mod monitor;
mod observation;
mod pool;
mod query;
mod replay;
mod retry;
mod rollout;
mod router;
mod status;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "cli")]
pub mod top;
mod topology;
#[cfg(feature = "tower")]
pub mod tower;
mod traffic;

/// The version of `rand` in the signature of [`Strategy::pick`].
pub use rand;

pub use balance::{Candidate, Candidates, LoadBalancing, ParseLoadBalancingError, Strategy};
pub use config::{Config, ConfigError, Fault, NodeConfig, RouterBuilder};
pub use conn::{
    AtLeast, Causal, Eventual, Freshness, Latest, Pipeline, ReadConn, Readable, ReadableCausal,
    ReadableLatest, Reader, SendFn, Snapshot, WriteConn,
};
pub use discovery::{Discovering, Discovery, DnsDiscovery, StandbyDiscovery};
pub use endpoint::{Login, PasswordProvider, Providing};
pub use error::{ConnectFailure, Error, InvalidToken};
pub use event::{Event, EventKind, Events, NoEvent, Severity};
pub use fleet::Role;
pub use freshness::{CausalToken, DifferentClusters, ParseTokenError, TokenKeys, WeakKey};
pub use health::{Ejection, HealthState, Lag, Reason, UnverifiedLag};
pub use limitation::Limitation;
pub use lsn::{Lsn, ParseLsnError, WalBytes};
pub use observation::Receiver;
pub use query::{
    AssertReadOnly, AssertReadOnlyDsl, Permits, RawSql, ReadOnly, ReadOnlyQuery, ReadWrite, RunQueryDsl,
    SaveChangesDsl, Statement, Target, WithBind, effect,
};
pub use retry::{Retry, RetryBudget};
pub use rollout::{Rollout, ShadowStatus};
pub use router::{ReadFn, ReadFuture, ReadRequest, Reading, Router, Session, WriteFuture, WriteRequest};
pub use status::{NodeStatus, Status};
pub use topology::Fallback;

#[doc = include_str!("../docs/compiler-messages.md")]
pub mod compiler_messages {}

#[doc = include_str!("../docs/what-the-types-catch.md")]
pub mod what_the_types_catch {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../docs/metrics.md")]
struct Metrics;

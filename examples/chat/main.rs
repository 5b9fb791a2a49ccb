//! A chat service on a PostgreSQL primary and its streaming read replicas.
//!
//! `cargo run --example chat` starts a primary and two replicas of its own and serves a page at <http://127.0.0.1:3000>.
//!
//! | variable | is |
//! |---|---|
//! | `CHAT_ADDR` | where to listen: `127.0.0.1:3000` |
//! | `CHAT_ENV_FILE` | a file with more variables for the router, `NAME=value` on each line: they come before the environment, and are read again at SIGHUP |
//! | `CHAT_TOKEN_KEY` | signs causal tokens: 32 random bytes or more, the same for all instances; without it a random one for this process |
//! | `DATABASE_URL` | the primary; without it the service starts a cluster of its own |
//! | `DB_READ_REPLICA_URLS` | its replicas, separated by commas; they serve with `DB_READ_REPLICAS_ENABLED=true` |
//! | the other `DB_*` | how to route: see [`diesel_replicas::Config::from_env`] |
//! | `RUST_LOG` | what to log: `info` |
//!
//! The files, from the outside in: [`api`] and [`page`] answer requests, [`db`] gives them connections, [`queries`] holds what
//! runs on these, [`schema`] and [`models`] say what there is. [`history`] remembers how the nodes were, [`metrics`] what was
//! measured. [`settings`], [`database`] and [`stop`] begin and end the whole.

#![allow(unreachable_pub, unnameable_types, reason = "a program has no outside")]

mod api;
mod database;
mod db;
mod error;
mod extract;
mod history;
mod metrics;
mod models;
mod page;
mod queries;
mod schema;
mod settings;
mod stop;
mod text;

use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use diesel_replicas::{TokenKeys, rand};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;

use crate::api::{App, Migrated};
use crate::database::Database;
use crate::history::History;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::stop::Stop;

/// How long requests under way may take once the service is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let stop = Stop::on_signals()?;
    let mut settings = Settings::from_env()?;
    let keys = token_keys()?;
    let metrics = Metrics::record()?;
    let listener = listen().await?;
    let address = listener.local_addr()?;

    let database = tokio::select! {
        database = Database::open(&settings) => database?,
        () = stop.requested() => return Ok(()),
    };
    println!("chat on http://{address}");
    println!("{}", database.describe());

    let outcome = tokio::select! {
        outcome = serve(listener, &database, keys, metrics, stop) => outcome,
        never = settings.follow(database.router()) => match never {},
    };
    database.close().await;
    outcome.map_err(Into::into)
}

async fn listen() -> Result<TcpListener, String> {
    let address = std::env::var("CHAT_ADDR").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&address)
        .await
        .map_err(|error| {
            format!("CHAT_ADDR is {address:?}, not a host and port such as 127.0.0.1:3000: {error}")
        })?
        .collect();
    TcpListener::bind(&addresses[..])
        .await
        .map_err(|error| format!("cannot listen on {address}: {error} (set CHAT_ADDR to listen elsewhere)"))
}

fn token_keys() -> Result<TokenKeys, String> {
    let keys = match std::env::var_os("CHAT_TOKEN_KEY") {
        Some(key) => TokenKeys::new(key.as_encoded_bytes()),
        None => {
            println!("CHAT_TOKEN_KEY is not set: no other process accepts the causal tokens of this one");
            TokenKeys::new(rand::random::<[u8; 32]>())
        }
    };
    keys.map_err(|error| format!("CHAT_TOKEN_KEY: {error}"))
}

/// Answers from the start, while the schema is still on its way: until then the API says 503.
async fn serve(
    listener: TcpListener,
    database: &Database,
    keys: TokenKeys,
    metrics: Metrics,
    stop: Stop,
) -> std::io::Result<()> {
    let router = database.router().clone();
    let app =
        App { router: router.clone(), migrated: Migrated::default(), history: History::default(), metrics };
    // They end with this function.
    let mut background = JoinSet::new();
    background.spawn(database::migrate(router.clone(), app.migrated.clone()));
    background.spawn(app.history.clone().follow(router));
    background.spawn(app.metrics.clone().upkeep());

    let draining = stop.clone();
    let server = axum::serve(listener, api::service(app, keys))
        .with_graceful_shutdown(async move { draining.requested().await });
    tokio::select! {
        outcome = server => outcome,
        () = stop.expired(DRAIN) => Ok(()),
    }
}

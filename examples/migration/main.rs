//! A small service before, during and after its migration from a bare pool: `docs/migrating.md` walks through it.
//!
//! ```text
//! DATABASE_URL=.. DB_READ_REPLICA_URLS=.. DB_READ_REPLICAS_ENABLED=true cargo run --example migration -- after
//! ```

#[allow(unreachable_pub, reason = "a part of a program, and of a test")]
mod after;
#[allow(unreachable_pub, reason = "a part of a program, and of a test")]
mod before;
#[allow(unreachable_pub, reason = "a part of a program, and of a test")]
mod swapped;

use diesel_replicas::TokenKeys;
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let service = match std::env::args().nth(1).as_deref() {
        Some("before") => before::service(before::connect().await?),
        Some("swapped") => swapped::service(swapped::connect().await?),
        Some("after") => after::service(after::connect().await?, TokenKeys::new(rand::random::<[u8; 32]>())?),
        _ => return Err("which one: before, swapped or after?".into()),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("notes on http://{}/notes", listener.local_addr()?);
    Ok(axum::serve(listener, service).await?)
}

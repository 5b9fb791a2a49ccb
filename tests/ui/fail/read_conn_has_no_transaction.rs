use diesel::prelude::*;
use diesel_async::AsyncConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = conn.transaction(async |_| QueryResult::Ok(())).await;
}

fn main() {}

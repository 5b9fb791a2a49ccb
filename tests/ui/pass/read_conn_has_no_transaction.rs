use diesel::prelude::*;
use diesel_replicas::ReadConn;

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = conn.snapshot().run(async |_| QueryResult::Ok(())).await;
}

fn main() {}

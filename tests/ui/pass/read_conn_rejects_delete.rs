use diesel::prelude::*;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::delete(users::table.find(1)).execute(conn).await;
}

fn main() {}

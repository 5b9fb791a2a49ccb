use diesel::prelude::*;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::update(users::table.find(1)).set(users::name.eq("Ada")).execute(conn).await;
}

fn main() {}

use diesel::prelude::*;
use diesel_async::AsyncConnection;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = conn
        .transaction(async |conn| {
            diesel::insert_into(users::table).values(users::name.eq("Ada")).execute(conn).await
        })
        .await;
}

fn main() {}

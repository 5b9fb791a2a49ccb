use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = users::table
        .select(users::name)
        .insert_into(users::table)
        .into_columns(users::name)
        .execute(conn)
        .await;
}

fn main() {}

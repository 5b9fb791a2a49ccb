use diesel::prelude::*;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::insert_into(users::table)
        .values(vec![users::name.eq("Ada"), users::name.eq("Ada")])
        .execute(conn)
        .await;
}

fn main() {}

use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::update(users::table)
        .into_boxed()
        .filter(users::id.eq(1))
        .set(users::name.eq("Ada"))
        .execute(conn)
        .await;
}

fn main() {}

use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::insert_into(users::table)
        .values(users::name.eq("Ada"))
        .returning(users::id)
        .get_result::<i32>(conn)
        .await;
}

fn main() {}

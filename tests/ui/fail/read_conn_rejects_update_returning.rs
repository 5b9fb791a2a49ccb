use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::update(users::table.find(1))
        .set(users::name.eq("Ada"))
        .returning(users::name)
        .get_result::<String>(conn)
        .await;
}

fn main() {}

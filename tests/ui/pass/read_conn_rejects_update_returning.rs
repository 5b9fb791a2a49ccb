use diesel::prelude::*;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::update(users::table.find(1))
        .set(users::name.eq("Ada"))
        .returning(users::name)
        .get_result::<String>(conn)
        .await;
}

fn main() {}

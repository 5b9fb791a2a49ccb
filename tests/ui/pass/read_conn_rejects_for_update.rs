use diesel::prelude::*;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = users::table.for_update().load::<(i32, String)>(conn).await;
}

fn main() {}

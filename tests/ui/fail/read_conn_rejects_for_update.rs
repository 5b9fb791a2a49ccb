use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = users::table.for_update().load::<(i32, String)>(conn).await;
}

fn main() {}

use diesel::prelude::*;
use diesel_async::RunQueryDsl as _;
use diesel_replicas::{ReadConn, RunQueryDsl as _};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = users::table.load::<(i32, String)>(conn).await;
}

fn main() {}

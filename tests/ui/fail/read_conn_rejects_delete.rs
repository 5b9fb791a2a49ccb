use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::delete(users::table.find(1)).execute(conn).await;
}

fn main() {}

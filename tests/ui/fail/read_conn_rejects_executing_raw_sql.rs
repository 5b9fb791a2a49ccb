use diesel::sql_query;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = sql_query("TABLE users").execute(conn).await;
}

fn main() {}

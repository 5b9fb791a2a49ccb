use diesel::sql_query;
use diesel_replicas::{AssertReadOnlyDsl, ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = sql_query("TABLE users").assert_read_only().execute(conn).await;
}

fn main() {}

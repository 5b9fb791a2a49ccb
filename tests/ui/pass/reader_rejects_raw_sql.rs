use diesel_replicas::{AssertReadOnlyDsl, Reader, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut Reader) {
    let _ = diesel::sql_query("TABLE users").assert_read_only().execute(conn).await;
}

fn main() {}

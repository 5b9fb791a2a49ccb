use diesel_replicas::{Reader, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut Reader) {
    let _ = diesel::sql_query("TABLE users").execute(conn).await;
}

fn main() {}

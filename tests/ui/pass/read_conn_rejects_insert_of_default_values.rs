use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::insert_into(users::table).default_values().execute(conn).await;
}

fn main() {}

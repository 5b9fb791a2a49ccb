use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::delete(users::table).execute(conn.as_read()).await;
}

fn main() {}

use diesel_replicas::{Reader, RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let reader: &mut Reader = conn;
    let _ = diesel::delete(users::table).execute(reader).await;
}

fn main() {}

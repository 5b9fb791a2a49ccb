use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = diesel::delete(users::table).returning(users::id).load::<i32>(conn).await;
}

fn main() {}

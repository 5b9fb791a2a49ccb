use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::delete(users::table).returning(users::id).load_stream::<i32>(conn).await;
}

fn main() {}

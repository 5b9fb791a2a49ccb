use diesel_async::RunQueryDsl;
use diesel_replicas::ReadConn;

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = users::table.load::<(i32, String)>(conn).await;
}

fn main() {}

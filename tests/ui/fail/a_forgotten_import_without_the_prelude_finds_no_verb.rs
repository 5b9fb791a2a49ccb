use diesel::QueryDsl;
use diesel_replicas::ReadConn;

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = users::table.find(1).load::<(i32, String)>(conn).await;
}

fn main() {}

use diesel_async::SimpleAsyncConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = conn.batch_execute("DELETE FROM users").await;
}

fn main() {}

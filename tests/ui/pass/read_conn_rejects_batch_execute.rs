use diesel_async::SimpleAsyncConnection;
use diesel_replicas::WriteConn;

include!("../schema.rs");

async fn run(conn: &mut WriteConn) {
    let _ = conn.batch_execute("DELETE FROM users").await;
}

fn main() {}

use diesel_async::AsyncPgConnection;
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn run(conn: &mut WriteConn) -> &AsyncPgConnection {
    conn
}

fn main() {}

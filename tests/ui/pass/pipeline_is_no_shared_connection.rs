use diesel_async::AsyncPgConnection;
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn takes_a_connection(_: &AsyncPgConnection) {}

fn run(conn: &WriteConn) {
    takes_a_connection(conn);
}

fn main() {}

use diesel_async::AsyncPgConnection;
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn takes_a_connection(_: &mut AsyncPgConnection) {}

fn run(conn: &mut WriteConn) {
    takes_a_connection(conn);
}

fn main() {}

use diesel_async::AsyncPgConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn takes_a_connection(_: &AsyncPgConnection) {}

fn run(conn: &ReadConn) {
    takes_a_connection(conn);
}

fn main() {}

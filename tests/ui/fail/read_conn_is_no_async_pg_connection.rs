use diesel_async::AsyncPgConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn takes_a_connection(_: &mut AsyncPgConnection) {}

fn run(conn: &mut ReadConn) {
    takes_a_connection(conn);
}

fn main() {}

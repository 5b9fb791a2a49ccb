use diesel_async::AsyncPgConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &mut ReadConn) -> &AsyncPgConnection {
    conn
}

fn main() {}

use diesel_async::AsyncPgConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &mut ReadConn) {
    let _: &mut AsyncPgConnection = conn.as_mut();
}

fn main() {}

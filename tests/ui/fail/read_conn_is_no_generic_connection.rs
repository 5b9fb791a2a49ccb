use diesel_async::AsyncConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn generic<C: AsyncConnection>(_: &mut C) {}

fn run(conn: &mut ReadConn) {
    generic(conn);
}

fn main() {}

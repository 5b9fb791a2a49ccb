use diesel_async::AsyncConnection;
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn generic<C: AsyncConnection>(_: &mut C) {}

fn run(conn: &mut WriteConn) {
    generic(conn);
}

fn main() {}

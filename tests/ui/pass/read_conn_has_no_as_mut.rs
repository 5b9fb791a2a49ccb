use diesel_async::AsyncPgConnection;
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn run(conn: &mut WriteConn) {
    let _: &mut AsyncPgConnection = conn;
}

fn main() {}

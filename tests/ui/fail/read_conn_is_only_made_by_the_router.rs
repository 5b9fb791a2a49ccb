use diesel_async::AsyncPgConnection;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: AsyncPgConnection) {
    let _ = ReadConn::from(conn);
}

fn main() {}

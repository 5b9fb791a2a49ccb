use diesel_async::AsyncPgConnection;
use diesel_replicas::Reader;

include!("../schema.rs");

fn run(conn: &mut AsyncPgConnection) {
    let _: &mut Reader = conn;
}

fn main() {}

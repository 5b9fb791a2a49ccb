use diesel_async::AsyncPgConnection;
use diesel_replicas::Reader;

include!("../schema.rs");

fn takes_a_connection(_: &mut AsyncPgConnection) {}

fn run(conn: &mut Reader) {
    takes_a_connection(conn);
}

fn main() {}

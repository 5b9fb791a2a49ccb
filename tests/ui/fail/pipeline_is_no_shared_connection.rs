use diesel_async::AsyncPgConnection;
use diesel_replicas::Pipeline;

include!("../schema.rs");

fn takes_a_connection(_: &AsyncPgConnection) {}

fn run(conn: Pipeline<'_>) {
    takes_a_connection(conn);
}

fn main() {}

use diesel_replicas::{Causal, ReadConn};

include!("../schema.rs");

async fn task(_: ReadConn<Causal>) {}

fn run(conn: ReadConn) {
    tokio::spawn(task(conn));
}

fn main() {}

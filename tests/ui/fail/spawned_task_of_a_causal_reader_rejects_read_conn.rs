use diesel_replicas::{Causal, ReadConn, Reader};

include!("../schema.rs");

async fn task(_: Box<Reader<Causal>>) {}

fn run(conn: ReadConn) {
    tokio::spawn(task(Box::new(conn)));
}

fn main() {}

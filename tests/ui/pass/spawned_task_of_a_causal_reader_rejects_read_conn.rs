use diesel_replicas::{Causal, Latest, ReadConn, Reader, WriteConn};

include!("../schema.rs");

async fn task(_: Box<Reader<Causal>>) {}

fn run(causal: ReadConn<Causal>, latest: ReadConn<Latest>, write: WriteConn) {
    tokio::spawn(task(Box::new(causal)));
    tokio::spawn(task(Box::new(latest)));
    tokio::spawn(task(Box::new(write)));
}

fn main() {}

use diesel_replicas::{Causal, Pipeline, ReadConn, Reader};

include!("../schema.rs");

fn takes_causal(_: Pipeline<'_, Causal>) {}

fn run(conn: &ReadConn<Causal>, reader: &Reader<Causal>) {
    takes_causal(conn.pipeline());
    takes_causal(reader.pipeline());
}

fn main() {}

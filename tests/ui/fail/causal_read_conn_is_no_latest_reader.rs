use diesel_replicas::{Causal, Latest, ReadConn, Reader};

include!("../schema.rs");

fn takes_latest(_: &mut Reader<Latest>) {}

fn run(conn: &mut ReadConn<Causal>) {
    takes_latest(conn);
}

fn main() {}

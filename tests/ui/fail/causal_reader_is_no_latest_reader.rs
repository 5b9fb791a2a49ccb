use diesel_replicas::{Causal, Latest, Reader};

include!("../schema.rs");

fn takes_latest(_: &mut Reader<Latest>) {}

fn run(conn: &mut Reader<Causal>) {
    takes_latest(conn);
}

fn main() {}

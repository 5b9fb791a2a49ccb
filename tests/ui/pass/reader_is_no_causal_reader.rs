use diesel_replicas::{Causal, Latest, Reader};

include!("../schema.rs");

fn takes_causal(_: &mut Reader<Causal>) {}

fn run(conn: &mut Reader<Latest>) {
    takes_causal(conn);
}

fn main() {}

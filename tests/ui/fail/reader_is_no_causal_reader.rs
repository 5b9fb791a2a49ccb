use diesel_replicas::{Causal, Reader};

include!("../schema.rs");

fn takes_causal(_: &mut Reader<Causal>) {}

fn run(conn: &mut Reader) {
    takes_causal(conn);
}

fn main() {}

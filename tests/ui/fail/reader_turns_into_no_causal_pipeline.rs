use diesel_replicas::{Causal, Pipeline, Reader};

include!("../schema.rs");

fn takes_causal(_: Pipeline<'_, Causal>) {}

fn run(conn: &Reader) {
    takes_causal(conn.into());
}

fn main() {}

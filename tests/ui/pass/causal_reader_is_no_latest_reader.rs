use diesel_replicas::{Causal, Latest, Reader};

include!("../schema.rs");

fn takes_any(_: &mut Reader) {}

fn run(causal: &mut Reader<Causal>, latest: &mut Reader<Latest>) {
    takes_any(causal);
    takes_any(latest);
}

fn main() {}

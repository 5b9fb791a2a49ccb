use diesel_replicas::{Causal, Latest, ReadConn, Reader};

include!("../schema.rs");

fn takes_causal(_: &mut ReadConn<Causal>) {}

fn takes_causal_or_latest(_: &mut Reader<Causal>) {}

fn run(causal: &mut ReadConn<Causal>, latest: &mut ReadConn<Latest>) {
    takes_causal(causal);
    takes_causal_or_latest(causal);
    takes_causal_or_latest(latest);
}

fn main() {}

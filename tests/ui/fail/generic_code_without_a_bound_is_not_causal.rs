use diesel_replicas::{Causal, Freshness, ReadConn, Reader};

include!("../schema.rs");

fn takes_causal(_: &mut Reader<Causal>) {}

fn run<F: Freshness>(conn: &mut ReadConn<F>) {
    takes_causal(conn);
}

fn main() {}

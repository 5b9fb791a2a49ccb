use diesel_replicas::{Causal, ReadConn};

include!("../schema.rs");

fn takes_causal(_: &mut ReadConn<Causal>) {}

fn run(conn: &mut ReadConn) {
    takes_causal(conn);
}

fn main() {}

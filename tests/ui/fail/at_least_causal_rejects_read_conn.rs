use diesel_replicas::{AtLeast, Causal, ReadConn};

include!("../schema.rs");

fn takes_causal<F: AtLeast<Causal>>(_: &mut ReadConn<F>) {}

fn run(conn: &mut ReadConn) {
    takes_causal(conn);
}

fn main() {}

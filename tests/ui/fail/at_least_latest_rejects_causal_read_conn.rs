use diesel_replicas::{AtLeast, Causal, Latest, ReadConn};

include!("../schema.rs");

fn takes_latest<F: AtLeast<Latest>>(_: &mut ReadConn<F>) {}

fn run(conn: &mut ReadConn<Causal>) {
    takes_latest(conn);
}

fn main() {}

use diesel_replicas::{AtLeast, Causal, Eventual, Latest, ReadConn, WriteConn};

include!("../schema.rs");

fn takes_causal<F: AtLeast<Causal>>(conn: &mut ReadConn<F>) {
    takes_any(conn);
}

fn takes_any<F: AtLeast<Eventual>>(_: &mut ReadConn<F>) {}

fn run(causal: &mut ReadConn<Causal>, latest: &mut ReadConn<Latest>, write: &mut WriteConn) {
    takes_causal(causal);
    takes_causal(latest);
    takes_causal(write.as_read());
}

fn main() {}

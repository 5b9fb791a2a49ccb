use diesel_replicas::{AtLeast, Causal, Latest, ReadConn, Reader};

include!("../schema.rs");

fn takes_latest<F: AtLeast<Latest>>(conn: &mut ReadConn<F>) {
    let _: &mut Reader<Latest> = conn;
    takes_causal(conn);
}

fn takes_causal<F: AtLeast<Causal>>(_: &mut ReadConn<F>) {}

fn run(conn: &mut ReadConn<Latest>) {
    takes_latest(conn);
}

fn main() {}

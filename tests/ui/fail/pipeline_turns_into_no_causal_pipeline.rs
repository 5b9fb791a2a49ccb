use diesel_replicas::{Causal, Pipeline, ReadConn};

include!("../schema.rs");

fn takes_causal(_: Pipeline<'_, Causal>) {}

fn run(conn: &ReadConn) {
    takes_causal(conn.pipeline().into());
}

fn main() {}

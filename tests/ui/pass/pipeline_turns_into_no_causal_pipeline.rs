use diesel_replicas::{Causal, Latest, Pipeline, ReadConn, WriteConn};

include!("../schema.rs");

fn takes_causal(_: Pipeline<'_, Causal>) {}

fn takes_any(_: Pipeline<'_>) {}

fn run(causal: &ReadConn<Causal>, latest: &ReadConn<Latest>, write: &WriteConn) {
    takes_any(causal.pipeline().into());
    takes_any(latest.pipeline().into());
    takes_causal(latest.pipeline().into());
    takes_causal(write.pipeline().into());
}

fn main() {}

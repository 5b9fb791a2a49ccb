use diesel_async::AsyncPgConnection;
use diesel_replicas::{Causal, Latest, Pipeline, ReadConn, WriteConn};

include!("../schema.rs");

fn takes_causal(_: Pipeline<'_, Causal>) {}

fn takes_any(_: Pipeline<'_>) {}

fn run(causal: &ReadConn<Causal>, latest: &ReadConn<Latest>, write: &WriteConn, pg: &AsyncPgConnection) {
    takes_causal(causal.into());
    takes_causal(latest.into());
    takes_causal(write.into());
    takes_causal(pg.into());
    takes_any(latest.into());
}

fn main() {}

use diesel_replicas::{Causal, Latest, Pipeline, Reader};

include!("../schema.rs");

fn takes_causal(_: Pipeline<'_, Causal>) {}

fn takes_any(_: Pipeline<'_>) {}

fn run(any: &Reader, causal: &Reader<Causal>, latest: &Reader<Latest>) {
    takes_causal(causal.into());
    takes_causal(latest.into());
    takes_any(latest.into());
    takes_any(any.into());
}

fn main() {}

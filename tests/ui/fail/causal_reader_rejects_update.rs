use diesel::prelude::*;
use diesel_replicas::{Causal, Reader, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut Reader<Causal>) {
    let _ = diesel::update(users::table).set(users::name.eq("Ada")).execute(conn).await;
}

fn main() {}

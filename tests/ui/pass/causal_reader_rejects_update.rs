use diesel::prelude::*;
use diesel_replicas::{Causal, Reader, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut Reader<Causal>) {
    let _: QueryResult<Vec<String>> = users::table.select(users::name).load(conn).await;
}

fn main() {}

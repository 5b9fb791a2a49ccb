use diesel::prelude::*;
use diesel_replicas::{Pipeline, RunQueryDsl};

include!("../schema.rs");

async fn run(mut conn: Pipeline<'_>) {
    let _ = diesel::update(users::table).set(users::name.eq("Ada")).execute(&mut conn).await;
}

fn main() {}

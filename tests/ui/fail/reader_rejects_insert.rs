use diesel::prelude::*;
use diesel_replicas::{Reader, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut Reader) {
    let _ = diesel::insert_into(users::table).values(users::name.eq("Ada")).execute(conn).await;
}

fn main() {}

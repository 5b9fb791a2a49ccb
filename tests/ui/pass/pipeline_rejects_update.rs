use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_replicas::RunQueryDsl;

include!("../schema.rs");

async fn run(mut conn: &AsyncPgConnection) {
    let _ = diesel::update(users::table).set(users::name.eq("Ada")).execute(&mut conn).await;
}

fn main() {}

use diesel::prelude::*;
use diesel_replicas::{Reader, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut Reader) {
    let _ = users::table.for_update().load::<(i32, String)>(conn).await;
}

fn main() {}

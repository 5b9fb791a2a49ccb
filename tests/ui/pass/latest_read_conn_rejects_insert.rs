use diesel::prelude::*;
use diesel_replicas::{Error, Router, RunQueryDsl};

include!("../schema.rs");

async fn run(router: &Router) -> Result<(), Error> {
    let mut conn = router.write().await?;
    let _ = diesel::insert_into(users::table).values(users::name.eq("Ada")).execute(&mut conn).await;
    Ok(())
}

fn main() {}

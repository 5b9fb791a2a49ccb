use diesel::prelude::*;
use diesel_replicas::{CausalToken, Router, RunQueryDsl};
use std::error::Error;

include!("../schema.rs");

async fn run(router: &Router) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (_, token) = router.with_write(async |conn| delete_users(conn).await).await?;
    let _: CausalToken = token.to_string().parse()?;
    let _: CausalToken = router.write().await?.causal_token().await?;
    Ok(())
}

async fn delete_users(conn: &mut diesel_async::AsyncPgConnection) -> Result<usize, Box<dyn Error + Send + Sync>> {
    Ok(diesel::delete(users::table).execute(conn).await?)
}

fn main() {}

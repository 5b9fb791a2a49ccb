use diesel_async::{AsyncConnection, AsyncPgConnection};
use diesel_replicas::{Latest, Reader, Router};
use std::error::Error;

include!("../schema.rs");

async fn takes_latest(_: &mut Reader<Latest>) {}

async fn run(router: &Router) -> Result<(), Box<dyn Error + Send + Sync>> {
    takes_latest(&mut router.read().latest().await?).await;
    let mut conn = router.write().await?;
    takes_latest(&mut conn).await;
    takes_latest(conn.as_read()).await;
    conn.transaction(async |conn| transaction(conn).await).await?;
    router.with_write(async |conn| transaction(conn).await).await?;
    Ok(())
}

async fn transaction(conn: &mut AsyncPgConnection) -> Result<(), Box<dyn Error + Send + Sync>> {
    takes_latest(conn).await;
    Ok(())
}

fn main() {}

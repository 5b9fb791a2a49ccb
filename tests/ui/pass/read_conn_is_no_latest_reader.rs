use diesel::QueryResult;
use diesel_async::AsyncConnection;
use diesel_replicas::{Error, Latest, Reader, Router};

include!("../schema.rs");

async fn takes_latest(_: &mut Reader<Latest>) {}

async fn run(router: &Router) -> Result<(), Error> {
    takes_latest(&mut router.read().latest().await?).await;
    let mut conn = router.write().await?;
    takes_latest(&mut conn).await;
    takes_latest(conn.as_read()).await;
    let _: QueryResult<()> = conn
        .transaction(async |conn| {
            takes_latest(conn).await;
            Ok(())
        })
        .await;
    Ok(())
}

fn main() {}

use diesel_replicas::{Latest, Error, Reader, Router};

include!("../schema.rs");

async fn takes_latest(_: &mut Reader<Latest>) {}

async fn run(router: &Router) -> Result<(), Error> {
    takes_latest(&mut router.read().await?).await;
    Ok(())
}

fn main() {}

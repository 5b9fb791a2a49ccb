use diesel_replicas::{Causal, Error, Reader, Router};

include!("../schema.rs");

async fn takes_causal(_: &mut Reader<Causal>) {}

async fn run(router: &Router) -> Result<(), Error> {
    takes_causal(&mut router.read().await?).await;
    Ok(())
}

fn main() {}

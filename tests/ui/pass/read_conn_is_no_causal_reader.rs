use diesel_replicas::{Causal, CausalToken, Error, Reader, Router};

include!("../schema.rs");

async fn takes_causal(_: &mut Reader<Causal>) {}

async fn run(router: &Router, token: &CausalToken) -> Result<(), Error> {
    takes_causal(&mut router.read().after(token).await?).await;
    takes_causal(&mut router.read().latest().await?).await;
    takes_causal(&mut router.session().read().await?).await;
    takes_causal(&mut router.write().await?).await;
    Ok(())
}

fn main() {}

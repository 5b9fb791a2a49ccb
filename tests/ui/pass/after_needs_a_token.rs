use diesel_replicas::{CausalToken, Router};

include!("../schema.rs");

async fn run(router: &Router, token: CausalToken) {
    let _ = router.read().after(&token).await;
}

fn main() {}

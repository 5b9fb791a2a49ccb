use diesel_replicas::Router;

include!("../schema.rs");

async fn run(router: &Router) {
    let _ = router.read().after().await;
}

fn main() {}

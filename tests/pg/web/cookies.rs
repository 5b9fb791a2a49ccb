//! What is set, and under which names.

use super::{ask, keys, patient, service};
use crate::support;
use axum::http::HeaderName;
use diesel_replicas::tower::{CausalCookie, CausalLayer, SameSite};
use std::time::Duration;

#[tokio::test]
async fn a_cookie_is_kept_from_scripts_and_other_sites_unless_asked_otherwise() {
    let cluster = support::cluster(0).await;
    let router = support::ready(patient(&cluster)).await;
    let layer = CausalLayer::signed(&router, keys());
    let token_of = |set: &str, name: &str| {
        let (pair, attributes) = set.split_once("; ").unwrap();
        keys().verify(pair.strip_prefix(name).unwrap().strip_prefix('=').unwrap()).unwrap();
        attributes.to_owned()
    };

    let written = ask(&service(&router, layer.clone()), "POST /add", &[]).await;
    let attributes = token_of(written.set_cookie().unwrap(), "causal_token");
    assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=3600");

    let cookie = CausalCookie::new("chat_token").unwrap().path("/chat").unwrap();
    let cookie = cookie.domain("example.org").unwrap().max_age(Duration::from_secs(60));
    let cookie = cookie.secure(false).same_site(SameSite::Strict);
    let chat = service(&router, layer.clone().cookie(cookie));
    let written = ask(&chat, "POST /add", &[]).await;
    let attributes = token_of(written.set_cookie().unwrap(), "chat_token");
    assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/chat; Domain=example.org; Max-Age=60");
    // Without the same path and domain it would take another cookie from the client.
    let taken_back = ask(&chat, "GET /eventual", &[("cookie", "chat_token=nonsense")]).await;
    let set = taken_back.set_cookie().unwrap();
    let removal =
        "chat_token=; HttpOnly; SameSite=Strict; Path=/chat; Domain=example.org; Max-Age=0; Expires=";
    assert!(set.starts_with(removal), "{set}");
    let other = ask(&chat, "GET /eventual", &[("cookie", "causal_token=nonsense")]).await;
    assert_eq!(other.set_cookie(), None, "of another service");
}

#[tokio::test]
async fn each_way_can_be_left_out() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let layer = CausalLayer::signed(&router, keys());
    let by_cookie = service(&router, layer.clone().without_header());
    let by_header = service(&router, layer.without_cookie().header(HeaderName::from_static("x-seen")));
    cluster.replica(0).pause_replay().await.unwrap();

    let written = ask(&by_cookie, "POST /add", &[]).await;
    assert!(written.token().is_none() && written.cookie().is_some());
    let token = written.cookie().unwrap().trim_start_matches("causal_token=").to_owned();
    let read = ask(&by_cookie, "GET /causal", &[(super::TOKEN, &token)]).await;
    assert_eq!(read.body, format!("1 on {}", cluster.replica(0).name()));

    let written = ask(&by_header, "POST /add", &[]).await;
    assert_eq!((written.token(), written.set_cookie()), (None, None));
    let token = written.headers["x-seen"].to_str().unwrap();
    let read = ask(&by_header, "GET /causal", &[("cookie", &format!("causal_token={token}"))]).await;
    assert_eq!(read.body, format!("1 on {}", cluster.replica(0).name()));
    let read = ask(&by_header, "GET /causal", &[("x-seen", token)]).await;
    assert_eq!(read.body, format!("3 on {}", cluster.primary().name()));
}

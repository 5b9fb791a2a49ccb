//! Tokens over HTTP: the layer and the extractors.

use crate::support::{self, notes};
use axum::body::Body;
use axum::extract::FromRef;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::{get, post};
use diesel::prelude::*;
use diesel_replicas::tower::CausalLayer;
use diesel_replicas::{Causal, ReadConn, Router, RunQueryDsl, TokenKeys, WriteConn};
use http_body_util::BodyExt;
use tower::ServiceExt;

#[derive(Clone, FromRef)]
struct App {
    router: Router,
}

async fn count(mut conn: ReadConn<Causal>) -> String {
    let notes: i64 = notes::table.count().get_result(&mut conn).await.unwrap();
    format!("{notes} on {}", conn.node())
}

async fn add(mut conn: WriteConn) -> &'static str {
    diesel::insert_into(notes::table).values(notes::body.eq("new")).execute(&mut conn).await.unwrap();
    "added"
}

fn service(router: &Router, layer: CausalLayer) -> axum::Router {
    let routes = axum::Router::new().route("/", post(add)).route("/causal", get(count));
    routes.layer(layer).with_state(App { router: router.clone() })
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

async fn ask(service: &axum::Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

#[tokio::test]
async fn who_writes_sees_it_in_the_next_request() {
    let cluster = support::cluster(1).await;
    let router = support::router(&cluster).await;
    let service = service(&router, CausalLayer::signed(&router, TokenKeys::new([1; 32]).unwrap()));
    cluster.replica(0).pause_replay().await.unwrap();
    let written = ask(&service, "POST", "/", &[]).await;
    assert_eq!(written.status, StatusCode::OK, "{}", written.body);
    let token = written.headers["x-causal-token"].to_str().unwrap();
    let cookie = written.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
    let on_primary = format!("2 on {}", cluster.primary().name());
    for carried in [("x-causal-token", token), ("cookie", cookie)] {
        assert_eq!(ask(&service, "GET", "/causal", &[carried]).await.body, on_primary);
    }
    let stale = format!("1 on {}", cluster.replica(0).name());
    assert_eq!(ask(&service, "GET", "/causal", &[]).await.body, stale);
}

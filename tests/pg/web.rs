//! Tokens over HTTP: a service with the layer and the extractors, on real clusters.

mod arguments;
mod cookies;
mod tokens;

use crate::support::{self, PATIENCE, notes};
use axum::body::Body;
use axum::extract::FromRef;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, header};
use axum::routing::{get, post};
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel_replicas::tower::CausalLayer;
use diesel_replicas::{
    Causal, Freshness, Latest, ReadConn, Router, RouterBuilder, RunQueryDsl, Session, TokenKeys, WriteConn,
};
use http_body_util::BodyExt;
use pg_cluster::Cluster;
use tower::ServiceExt;

#[derive(Clone, FromRef)]
struct App {
    router: Router,
}

/// Handlers whose arguments say what they do.
fn routes() -> axum::Router<App> {
    axum::Router::new()
        .route("/eventual", get(async |conn: ReadConn| count(conn).await))
        .route("/causal", get(async |conn: ReadConn<Causal>| count(conn).await))
        .route("/latest", get(async |conn: ReadConn<Latest>| count(conn).await))
        .route("/add", post(add))
        .route("/add-late", post(async |conn: WriteConn, _reading: ReadConn<Causal>| add(conn).await))
        .route("/commit-and-fail", post(commit_and_fail))
}

async fn count<F: Freshness>(mut conn: ReadConn<F>) -> String {
    let notes: i64 = notes::table.count().get_result(&mut conn).await.unwrap();
    format!("{notes} on {}", conn.node())
}

/// Says which token there is after the commit.
async fn add(mut conn: WriteConn) -> String {
    diesel::insert_into(notes::table).values(notes::body.eq("new")).execute(&mut conn).await.unwrap();
    conn.causal_token().await.unwrap().to_string()
}

async fn commit_and_fail(session: Session) -> StatusCode {
    let adding = session.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq("new")).execute(conn).await
    });
    assert_eq!(adding.await, Ok::<_, QueryError>(1));
    StatusCode::INTERNAL_SERVER_ERROR
}

fn service(router: &Router, layer: CausalLayer) -> axum::Router {
    routes().layer(layer).with_state(App { router: router.clone() })
}

/// A router that does not mind how far its replicas are behind.
fn patient(cluster: &Cluster) -> RouterBuilder {
    support::builder(cluster).lag_threshold(PATIENCE * 10)
}

fn keys() -> TokenKeys {
    TokenKeys::new([7; 32]).unwrap()
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into()).map(|value| value.to_str().unwrap())
    }

    /// What the header for tokens says.
    fn token(&self) -> Option<&str> {
        self.header(diesel_replicas::tower::HEADER)
    }

    fn set_cookie(&self) -> Option<&str> {
        self.header(header::SET_COOKIE)
    }

    /// As a browser sends it back.
    fn cookie(&self) -> Option<&str> {
        Some(self.set_cookie()?.split_once(';').unwrap().0)
    }

    #[track_caller]
    fn removes_cookie(&self) {
        let set = self.set_cookie().unwrap();
        assert!(set.starts_with("causal_token=;") && set.contains("; Max-Age=0;"), "{set}");
    }
}

/// Sends `GET /..` or `POST /..` with these headers.
async fn ask(service: &axum::Router, request: &str, headers: &[(&str, &str)]) -> Answer {
    let (method, path) = request.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() }
}

const TOKEN: &str = "x-causal-token";

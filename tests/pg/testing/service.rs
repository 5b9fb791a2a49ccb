//! A service's handlers, as a test of theirs calls them.

use super::begin;
use crate::support::notes;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use diesel::prelude::*;
use diesel_replicas::tower::{CausalLayer, HEADER};
use diesel_replicas::{Causal, ReadConn, Router, RunQueryDsl, TokenKeys, WriteConn};
use http_body_util::BodyExt;
use tower::ServiceExt;

async fn create(mut conn: WriteConn) -> StatusCode {
    let note = diesel::insert_into(notes::table).values(notes::body.eq("mine"));
    note.execute(&mut conn).await.map_or(StatusCode::INTERNAL_SERVER_ERROR, |_| StatusCode::CREATED)
}

async fn list(mut conn: ReadConn<Causal>) -> String {
    notes::table.select(notes::body).load::<String>(&mut conn).await.unwrap().join(" ")
}

async fn list_without_token(mut conn: ReadConn) -> String {
    notes::table.select(notes::body).load::<String>(&mut conn).await.unwrap().join(" ")
}

/// Reads its own write, and has forgotten how old a replica may be.
async fn create_and_show(State(router): State<Router>) -> String {
    let written = router.with_write(async |conn| {
        diesel::insert_into(notes::table).values(notes::body.eq("mine")).execute(conn).await
    });
    written.await.unwrap();
    list_without_token(router.read().await.unwrap()).await
}

fn service(router: Router) -> axum::Router {
    axum::Router::new()
        .route("/notes", get(list).post(create))
        .route("/forgetful", get(list_without_token).post(create_and_show))
        .layer(CausalLayer::signed(&router, TokenKeys::new([7; 32]).unwrap()))
        .with_state(router)
}

async fn ask(
    service: &axum::Router,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> (Option<String>, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(HEADER, token);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    let token = response.headers().get(HEADER).map(|token| token.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (token, String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn handlers_with_tokens_see_their_clients_writes_and_those_without_do_not() {
    let (_cluster, database) = begin().await;
    let service = service(database.router());
    database.pause_replay().await.unwrap();
    let (token, _) = ask(&service, "POST", "/notes", None).await;
    let token = token.as_deref();
    assert!(token.is_some());
    assert_eq!(ask(&service, "GET", "/notes", token).await.1, "first mine");
    assert_eq!(ask(&service, "GET", "/notes", None).await.1, "first");
    assert_eq!(ask(&service, "GET", "/forgetful", token).await.1, "first");
    assert_eq!(ask(&service, "POST", "/forgetful", None).await.1, "first");
    database.resume_replay().await.unwrap();
    assert_eq!(ask(&service, "GET", "/forgetful", token).await.1, "first mine mine");
    database.rollback().await.unwrap();
}

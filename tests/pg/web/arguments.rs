//! What a handler gets for its arguments, and what the client gets when it cannot.

use super::{App, ask, keys, patient, routes, service};
use crate::support::{self, until_health};
use axum::http::{StatusCode, header};
use axum::routing::get;
use diesel_replicas::axum::Rejection;
use diesel_replicas::tower::CausalLayer;
use diesel_replicas::{Causal, Error, Fallback, HealthState, ReadConn, Session};

#[tokio::test]
async fn each_argument_goes_where_its_type_says() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let with = service(&router, CausalLayer::signed(&router, keys()));
    let without = routes().with_state(App { router: router.clone() });
    let (primary, replica) = (cluster.primary().name(), cluster.replica(0).name());
    cluster.replica(0).pause_replay().await.unwrap();
    for service in [&with, &without] {
        cluster.primary().sql("DELETE FROM notes WHERE id > 1").await.unwrap();
        assert_eq!(ask(service, "POST /add", &[]).await.status, StatusCode::OK);
        assert_eq!(ask(service, "GET /eventual", &[]).await.body, format!("1 on {replica}"));
        assert_eq!(ask(service, "GET /latest", &[]).await.body, format!("2 on {primary}"));
    }
    assert_eq!(ask(&with, "GET /causal", &[]).await.body, format!("1 on {replica}"));
}

#[tokio::test]
async fn without_the_layer_there_is_no_causal_read() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let service = routes()
        .route(
            "/told",
            get(async |conn: Result<ReadConn<Causal>, Rejection>| {
                let rejection = conn.unwrap_err();
                assert!(rejection.error().is_none());
                rejection.to_string()
            }),
        )
        .route("/session", get(async |_: Session| ()))
        .with_state(App { router });
    for path in ["GET /causal", "GET /session"] {
        let answer = ask(&service, path, &[]).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::INTERNAL_SERVER_ERROR, "internal error"));
    }
    assert_eq!(ask(&service, "GET /told", &[]).await.body, "internal error");
}

#[tokio::test]
async fn when_nobody_may_serve_the_client_is_told_to_come_back() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster).fallback(Fallback::Fail)).await;
    let service = routes()
        .route(
            "/by-hand",
            get(async |session: Session| {
                let conn = session.read().await?;
                Ok::<_, Rejection>(conn.node().to_owned())
            }),
        )
        .route(
            "/told",
            get(async |conn: Result<ReadConn, Rejection>| {
                let rejection = conn.unwrap_err();
                assert!(matches!(rejection.error(), Some(Error::NoEligibleNode { .. })), "{rejection:?}");
                (StatusCode::IM_A_TEAPOT, rejection.body_text())
            }),
        )
        .layer(CausalLayer::signed(&router, keys()))
        .with_state(App { router: router.clone() });
    cluster.replica(0).kill().await.unwrap();
    until_health(&router, cluster.replica(0).name(), HealthState::Unreachable).await;
    for path in ["GET /eventual", "GET /causal", "GET /by-hand"] {
        let answer = ask(&service, path, &[]).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.header(header::RETRY_AFTER), Some("1"));
        assert_eq!(answer.body, "the database is not available right now, try again");
    }
    assert_eq!(ask(&service, "GET /told", &[]).await.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(ask(&service, "GET /latest", &[]).await.status, StatusCode::OK);

    router.shutdown().await;
    assert_eq!(ask(&service, "POST /add", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

//! The small service of `examples/migration`: what it answers before, during and after its migration, and what its guide shows of it.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where by panicking")]

#[expect(dead_code, reason = "tests connect by themselves")]
#[path = "../../examples/migration/after.rs"]
mod after;
#[expect(dead_code, reason = "tests connect by themselves")]
#[path = "../../examples/migration/before.rs"]
mod before;
mod guide;
#[expect(dead_code, reason = "tests connect by themselves")]
#[path = "../../examples/migration/swapped.rs"]
mod swapped;

use axum::body::Body;
use axum::http::{Request, Response, header};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8::Pool};
use diesel_replicas::{HealthState, Router, TokenKeys};
use http_body_util::BodyExt;
use pg_cluster::Cluster;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const SCHEMA: &str = "CREATE TABLE notes (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, \
                      body text NOT NULL, views int NOT NULL DEFAULT 0)";

/// A client that keeps its cookie.
struct Client {
    service: axum::Router,
    cookie: Option<String>,
}

impl Client {
    fn of(service: axum::Router) -> Self {
        Self { service, cookie: None }
    }

    /// The status and the body.
    async fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut request =
            Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer: Response<Body> = self.service.clone().oneshot(request).await.unwrap();
        if let Some(cookie) = answer.headers().get(header::SET_COOKIE) {
            self.cookie = Some(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What a client does, and what it is told.
    async fn visit(&mut self) -> Vec<(u16, String)> {
        let mut told = vec![];
        for (method, path, body) in [
            ("GET", "/notes", ""),
            ("POST", "/notes", r#"{"body":"first"}"#),
            ("POST", "/notes", r#"{"body":"second"}"#),
            ("GET", "/notes", ""),
            ("GET", "/notes/1", ""),
            ("GET", "/notes/1", ""),
            ("GET", "/notes/7", ""),
            ("GET", "/notes", ""),
        ] {
            told.push(self.send(method, path, body).await);
        }
        told
    }
}

async fn cluster() -> Cluster {
    let cluster = Cluster::builder().replicas(1).start().await.unwrap();
    cluster.primary().sql(SCHEMA).await.unwrap();
    cluster
}

async fn router(cluster: &Cluster) -> Router {
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = builder.build().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while router.status().nodes.iter().any(|node| node.health != HealthState::Healthy) {
        assert!(Instant::now() < deadline, "waited in vain for healthy nodes: {:?}", router.status());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    router
}

fn keys() -> TokenKeys {
    TokenKeys::new([7; 32]).unwrap()
}

#[tokio::test]
async fn each_step_answers_as_the_one_before() {
    let expected = {
        let cluster = cluster().await;
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(cluster.primary().url());
        let pool = Pool::builder().build(manager).await.unwrap();
        Client::of(before::service(pool)).visit().await
    };
    assert_eq!(expected[3].1, r#"[{"id":2,"body":"second","views":0},{"id":1,"body":"first","views":0}]"#);
    assert_eq!(expected[5].1, r#"{"id":1,"body":"first","views":2}"#);
    assert_eq!(expected[6].0, 500, "there is none");

    let first = cluster().await;
    assert_eq!(Client::of(swapped::service(router(&first).await)).visit().await, expected);
    let second = cluster().await;
    assert_eq!(Client::of(after::service(router(&second).await, keys())).visit().await, expected);
}

#[tokio::test]
async fn in_the_end_reads_are_on_replicas_and_a_client_sees_what_it_has_written() {
    let cluster = cluster().await;
    let router = router(&cluster).await;
    let reads_of = |name: &str| {
        let nodes = router.status().nodes;
        nodes.iter().find(|node| name == node.name).unwrap().reads
    };
    let name = |url: String| url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let (primary, replica) = (name(cluster.primary().url()), name(cluster.replica(0).url()));
    let mut client = Client::of(after::service(router.clone(), keys()));
    assert_eq!(client.send("GET", "/notes/count", "").await.1, "0");
    assert_eq!(client.send("GET", "/notes", "").await.1, "[]");
    assert_eq!((reads_of(&replica), reads_of(&primary)), (2, 0));

    cluster.replica(0).sql("SELECT pg_wal_replay_pause()").await.unwrap();
    assert_eq!(client.send("POST", "/notes", r#"{"body":"mine"}"#).await.0, 201);
    let told = client.send("GET", "/notes", "").await.1;
    assert_eq!(told, r#"[{"id":1,"body":"mine","views":0}]"#);
    let mut other = Client::of(client.service.clone());
    assert_eq!(
        other.send("GET", "/notes", "").await.1,
        "[]",
        "somebody else reads on the replica, which is behind"
    );
}

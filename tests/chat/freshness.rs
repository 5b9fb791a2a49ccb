//! Who posts sees the post, whichever replica answers: over HTTP, as clients without the page's scripts see it.

use diesel_replicas::{CausalToken, TokenKeys};
use pg_cluster::Cluster;
use serde_json::json;

use crate::http::Answer;
use crate::service::{Service, command_on, name_of};
use crate::until;

const KEY: &str = "a key of 32 bytes, for tests only";

const HEADER: &str = "x-causal-token";

/// On two replicas that serve however far behind they are.
pub async fn service_without_lag_limit(cluster: &Cluster) -> Service {
    let mut command = command_on(cluster);
    command
        .env("DB_REPLICA_LAG_THRESHOLD_MS", "600000")
        .env("DB_SLOW_START_MS", "0")
        .env("CHAT_TOKEN_KEY", KEY);
    let service = Service::start(command).await;
    service.ready().await;
    service
}

/// From now on the replicas show nothing new.
pub async fn hold_back(cluster: &Cluster) {
    for replica in cluster.replicas() {
        replica.pause_replay().await.expect("replay pauses");
    }
}

/// A token of a cluster that is not there, as if the service had given it out. Its text is greater than any that is.
pub fn foreign_token() -> String {
    sign("1-ffffffffffffffff-00000001-0000000003000000")
}

fn sign(text: &str) -> String {
    let token: CausalToken = text.parse().expect("a token");
    TokenKeys::new(KEY).expect("a key").sign(&token)
}

fn token_of(answer: &Answer) -> &str {
    answer.header(HEADER).unwrap_or_else(|| panic!("no token: {answer:?}"))
}

/// `name=value` of the cookie that the answer sets.
fn cookie_of(answer: &Answer) -> &str {
    let cookie = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    cookie.split(';').next().expect("split yields one piece at least")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_posts_sees_the_post_and_others_read_from_replicas() {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = service_without_lag_limit(&cluster).await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    service.replicated(&cluster).await;
    hold_back(&cluster).await;
    let [primary, fresh, stale] = cluster.nodes() else { panic!("three nodes") };
    let (primary, replicas) = (name_of(primary), [name_of(fresh), name_of(stale)]);

    let path = format!("/api/rooms/{room}/messages");
    let post = async |body: &str| {
        let answer = service.post(&path, json!({ "author_id": ada, "body": body })).await;
        answer.expect(201);
        answer
    };
    let earlier = post("earlier").await;
    let posted = post("hello").await;
    let (token, cookie) = (token_of(&posted), cookie_of(&posted));
    assert!(token_of(&earlier) < token);
    let attributes = &posted.header("set-cookie").expect("found above")[cookie.len()..];
    assert!(attributes.contains("HttpOnly"), "{attributes}");
    assert!(!attributes.contains("Secure"), "for browsers that talk plain HTTP: {attributes}");
    let read = async |headers: &[(&str, &str)]| {
        let answer = service.get_with(&path, headers).await;
        let newest = answer.expect(200)[0]["body"].as_str().map(str::to_owned);
        (answer, newest)
    };

    // The page while it is open; without its scripts, or when only the cookie outlived it; a window that is behind another one.
    for headers in
        [&[(HEADER, token)][..], &[("cookie", cookie)], &[(HEADER, token_of(&earlier)), ("cookie", cookie)]]
    {
        for _ in 0..2 {
            let (answer, newest) = read(headers).await;
            assert_eq!(newest.as_deref(), Some("hello"), "{headers:?}");
            assert_eq!(answer.served_by(), primary, "no replica has it");
        }
    }
    for _ in 0..4 {
        let (answer, newest) = read(&[]).await;
        assert_eq!(newest, None, "a stranger has not seen anything yet");
        assert!(replicas.iter().any(|replica| answer.served_by() == replica), "{answer:?}");
    }

    // One replica has it: it serves who has seen the post, without having written a thing.
    fresh.resume_replay().await.expect("replay resumes");
    let mut seen = String::new();
    until("a stranger sees the post", async || {
        let (answer, newest) = read(&[]).await;
        answer.header(HEADER).unwrap_or_default().clone_into(&mut seen);
        newest.is_some()
    })
    .await;
    for _ in 0..6 {
        let (answer, newest) = read(&[(HEADER, &seen)]).await;
        assert_eq!(newest.as_deref(), Some("hello"));
        assert_eq!(answer.served_by(), name_of(fresh));
        assert_eq!(answer.header("set-cookie"), None, "cookies move with what is written");
        if let Some(token) = answer.header(HEADER) {
            token.clone_into(&mut seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_followed_is_dropped() {
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let service = service_without_lag_limit(&cluster).await;
    let posted = service.post("/api/rooms", json!({ "name": "general" })).await;
    posted.expect(201);
    service.replicated(&cluster).await;

    let here = token_of(&posted);
    let (system, timeline) = (&here[2..18], &here[19..27]);
    let forged = format!("1-{system}-{timeline}-00ffffffffffffff-{}", "0".repeat(32));
    for (what, token) in [
        ("forged", forged),
        ("of another cluster", foreign_token()),
        ("of a position of the future", sign(&format!("1-{system}-{timeline}-00ffffffffffffff"))),
    ] {
        let answer = service.get_with("/api/rooms", &[(HEADER, &token)]).await;
        assert_eq!(answer.expect(200)[0]["name"], "general", "{what}");
        assert_eq!(answer.served_by(), name_of(cluster.replica(0)), "{what}");
        assert!(token_of(&answer) < &*token, "{what}: the client is to see that it was dropped");
    }

    // Of a promotion that this service has not noticed yet, for all that it knows.
    let later = sign(&format!("1-{system}-7fffffff-{}", &here[28..44]));
    service.get_with("/api/rooms", &[(HEADER, &later)]).await.expect(503);
}

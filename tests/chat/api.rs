//! What the API answers, right and wrong requests alike.

use hyper::Method;
use pg_cluster::Cluster;
use serde_json::{Value, json};

use crate::http::Body;
use crate::service::{Service, id_of};

async fn service() -> (Cluster, Service) {
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    (cluster, service)
}

fn ids(messages: &Value) -> Vec<i64> {
    messages.as_array().expect("a list").iter().map(id_of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_answer_201_with_the_row() {
    let (_cluster, service) = service().await;

    let user = service.post("/api/users", json!({ "name": "  Ada Lovelace " })).await.expect(201);
    assert_eq!(user["name"], "Ada Lovelace");
    assert!(user["created_at"].is_string());

    let room = service.post("/api/rooms", json!({ "name": "general" })).await.expect(201);
    assert_eq!(room["name"], "general");

    let path = format!("/api/rooms/{}/messages", room["id"]);
    let message = json!({ "author_id": user["id"], "body": "Hello\n<b>world</b> 🎉" });
    let message = service.post(&path, message).await.expect(201);
    assert_eq!(message["room_id"], room["id"]);
    assert_eq!(message["author_id"], user["id"]);
    assert_eq!(message["author"], "Ada Lovelace");
    assert_eq!(message["body"], "Hello\n<b>world</b> 🎉");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_paged_newest_first() {
    let (cluster, service) = service().await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    let other_room = service.create_room("other").await;
    let mut said = Vec::new();
    for number in 0..7 {
        said.insert(0, service.say(room, ada, &format!("message {number}")).await);
        service.say(other_room, ada, "elsewhere").await;
    }
    service.replicated(&cluster).await;

    let path = format!("/api/rooms/{room}/messages");
    assert_eq!(ids(&service.get(&path).await.expect(200)), said);
    let page = service.get(&format!("{path}?limit=3")).await.expect(200);
    assert_eq!(ids(&page), said[..3]);
    let page = service.get(&format!("{path}?limit=3&before={}", said[2])).await.expect(200);
    assert_eq!(ids(&page), said[3..6]);
    let page = service.get(&format!("{path}?before={}", said[6])).await.expect(200);
    assert_eq!(page, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn search_finds_words_by_their_beginnings() {
    let (cluster, service) = service().await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    let other_room = service.create_room("other").await;
    let deploy = service.say(room, ada, "Deploying foo-bar.com on Friday").await;
    let lunch = service.say(room, ada, "It's friday: who is in for lunch? 100%").await;
    service.say(other_room, ada, "Friday elsewhere").await;
    service.replicated(&cluster).await;

    for (q, found) in [
        ("fri", vec![lunch, deploy]),
        ("FRIDAY%20dep", vec![deploy]),
        ("bar", vec![deploy]),
        ("foo-b", vec![deploy]),
        ("iday", vec![]),
        ("it's", vec![lunch]),
        ("100%25", vec![lunch]),
        // Nothing that the query language or LIKE would take for more than text.
        ("%7C%20%21%20%28%20%26%20%3A%2A%20%27%20%5C", vec![]),
        ("%25", vec![]),
    ] {
        let answer = service.get(&format!("/api/rooms/{room}/search?q={q}")).await.expect(200);
        assert_eq!(ids(&answer), found, "{q}");
    }
    let page =
        service.get(&format!("/api/rooms/{room}/search?q=fri&limit=1&before={lunch}")).await.expect(200);
    assert_eq!(ids(&page), [deploy]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_show_counts_last_message_and_what_is_unread() {
    let (cluster, service) = service().await;
    let (ada, bob) = (service.create_user("Ada").await, service.create_user("Bob").await);
    let quiet = service.create_room("quiet").await;
    let busy = service.create_room("busy").await;
    let first = service.say(busy, ada, "one").await;
    service.say(busy, bob, "two").await;
    let last = service.say(busy, ada, "three").await;
    service.replicated(&cluster).await;

    let room = async |user: Option<i64>, room: i64| {
        let query = user.map(|id| format!("?user_id={id}")).unwrap_or_default();
        let rooms = service.get(&format!("/api/rooms{query}")).await.expect(200);
        let rooms = rooms.as_array().expect("a list");
        rooms.iter().find(|summary| summary["id"] == room).expect("the room").clone()
    };
    let summary = room(None, busy).await;
    assert_eq!(summary["message_count"], 3);
    assert_eq!(summary["unread_count"], Value::Null);
    assert_eq!(summary["last_message"]["id"], last);
    assert_eq!(summary["last_message"]["author"], "Ada");
    let summary = room(Some(ada), quiet).await;
    assert_eq!(summary["message_count"], 0);
    assert_eq!(summary["unread_count"], 0);
    assert_eq!(summary["last_message"], Value::Null);

    // One's own messages are never unread.
    assert_eq!(room(Some(ada), busy).await["unread_count"], 1);
    assert_eq!(room(Some(bob), busy).await["unread_count"], 2);

    let path = format!("/api/rooms/{busy}/read");
    let mark = async |message: i64| {
        let marker = service.put(&path, json!({ "user_id": bob, "message_id": message })).await.expect(200);
        service.replicated(&cluster).await;
        marker["message_id"].as_i64()
    };
    assert_eq!(mark(first).await, Some(first));
    assert_eq!(room(Some(bob), busy).await["unread_count"], 1);
    assert_eq!(mark(last).await, Some(last));
    assert_eq!(room(Some(bob), busy).await["unread_count"], 0);
    assert_eq!(mark(first).await, Some(last), "a marker never moves back");

    let elsewhere = service.say(quiet, ada, "elsewhere").await;
    service.put(&path, json!({ "user_id": bob, "message_id": elsewhere })).await.expect(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_sent_twice_is_posted_once() {
    let (cluster, service) = service().await;
    let (ada, bob) = (service.create_user("Ada").await, service.create_user("Bob").await);
    let room = service.create_room("general").await;
    let path = format!("/api/rooms/{room}/messages");
    let message = |author: i64, body: &str| json!({ "author_id": author, "body": body, "client_key": "k1" });

    let first = service.post(&path, message(ada, "hello")).await.expect(201);
    let again = service.post(&path, message(ada, "hello")).await.expect(200);
    assert_eq!(first, again);
    service.post(&path, message(bob, "hello")).await.expect(201);
    // Without a key the same words may be said again.
    service.say(room, ada, "hello").await;
    service.say(room, ada, "hello").await;
    service.replicated(&cluster).await;
    assert_eq!(ids(&service.get(&path).await.expect(200)).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_json_with_a_fitting_status() {
    let (cluster, service) = service().await;
    let (ada, room) = (service.create_user("Ada").await, service.create_room("general").await);
    service.replicated(&cluster).await;
    let messages = format!("/api/rooms/{room}/messages");
    let nobody_says = json!({ "author_id": ada + 99, "body": "hello" }).to_string();
    let ada_says = |body: &str| json!({ "author_id": ada, "body": body }).to_string();
    let named = |name: &str| json!({ "name": name }).to_string();
    let get = |path: &str| (Method::GET, path.to_owned(), Body::none());
    let post = |path: &str, body: &str| (Method::POST, path.to_owned(), Body::json(body));

    // Whether the database was asked is part of the answer: only then is there an `x-served-by`.
    let asked = [
        (404, get("/api/rooms/999/messages")),
        (404, get("/api/rooms/-1/messages")),
        (404, get("/api/rooms/999/search?q=hello")),
        (404, post("/api/rooms/999/messages", &ada_says("hello"))),
        (409, post("/api/users", &named("Ada"))),
        (409, post("/api/users", &named("aDA "))),
        (409, post("/api/rooms", &named("General"))),
        (422, post(&messages, &nobody_says)),
    ];
    let plain = |kind: Option<&'static str>| Body { kind, bytes: b"{}".to_vec() };
    let refused = [
        (400, get("/api/rooms/abc/messages")),
        (400, get("/api/rooms/99999999999999999999/messages")),
        (400, get(&format!("{messages}?limit=0"))),
        (400, get(&format!("{messages}?limit=101"))),
        (400, get(&format!("{messages}?limit=many"))),
        (400, get(&format!("{messages}?before=yesterday"))),
        (400, get(&format!("/api/rooms/{room}/search"))),
        (400, get(&format!("/api/rooms/{room}/search?q="))),
        (400, get(&format!("/api/rooms/{room}/search?q=%00"))),
        (400, get("/api/rooms?user_id=me")),
        (400, post("/api/users", "{")),
        (404, get("/api/nothing")),
        (404, get("/nothing")),
        (405, (Method::DELETE, "/api/rooms".to_owned(), Body::none())),
        (405, (Method::POST, "/api/status".to_owned(), Body::none())),
        (413, post("/api/rooms", &named(&"long ".repeat(20_000)))),
        (415, (Method::POST, "/api/users".to_owned(), plain(None))),
        (415, (Method::POST, "/api/users".to_owned(), plain(Some("text/plain")))),
        (422, post("/api/users", "{}")),
        (422, post("/api/users", r#"{"name": 7}"#)),
        (422, post("/api/users", &named("   "))),
        (422, post("/api/users", &named(&"x".repeat(81)))),
        (422, post("/api/users", &named("a\0b"))),
        (422, post("/api/rooms", &named("two\nlines"))),
        (422, post(&messages, &ada_says(" \n "))),
        (422, post(&messages, &ada_says("nul \0"))),
        (422, post(&messages, &ada_says(&"x".repeat(4_001)))),
        (422, post(&messages, r#"{"body": "hello"}"#)),
    ];
    let asked = asked.into_iter().map(|case| (true, case));
    let refused = refused.into_iter().map(|case| (false, case));
    for (used_database, (status, (method, path, body))) in asked.chain(refused) {
        let sent = String::from_utf8_lossy(&body.bytes[..body.bytes.len().min(80)]).into_owned();
        let answer = service.send(method.clone(), &path, body).await;
        let case = format!("{method} {path} {sent}: {answer:?}");
        assert_eq!(answer.status, status, "{case}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{case}");
        assert!(answer.json()["error"].as_str().is_some_and(|error| !error.is_empty()), "{case}");
        assert_eq!(answer.header("x-served-by").is_some(), used_database, "{case}");
    }

    // The longest that is allowed is stored, however it is written.
    let longest: String = format!(r#"{{"author_id": {ada}, "body": "{}"}}"#, r"\ud83c\udf89".repeat(4_000));
    service.send(Method::POST, &messages, Body::json(longest)).await.expect(201);
    service.post("/api/users", json!({ "name": "é".repeat(80) })).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_name() {
    let (cluster, service) = service().await;
    let ada = service.create_user("Ada").await;
    service.create_user("bob").await;
    service.replicated(&cluster).await;

    assert_eq!(ids(&service.get("/api/users?name=ADA").await.expect(200)), [ada]);
    assert_eq!(service.get("/api/users?name=nobody").await.expect(200), json!([]));
    let all = service.get("/api/users").await.expect(200);
    let names: Vec<_> = all.as_array().expect("a list").iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["Ada", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_all_it_needs_come_from_here() {
    let (_cluster, service) = service().await;
    let page = service.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'self'"))
    );

    let mut links: Vec<String> =
        page.text.split('"').filter(|text| text.starts_with('/')).map(Into::into).collect();
    assert!(links.len() >= 3, "{links:?}");
    while let Some(link) = links.pop() {
        let file = service.get(&link).await;
        assert_eq!(file.status, 200, "{link}");
        assert!(!file.text.contains("http://") || link.ends_with(".ico"), "{link} names another place");
        assert!(!file.text.contains("innerHTML"), "{link} makes markup of text");
        let imports = file.text.split('"').filter_map(|text| text.strip_prefix("./"));
        links.extend(imports.map(|name| format!("/page/{name}")));
    }
}

//! What operators are told: each change of a node's health once, with its fields.

use crate::support::{self, until, until_health};
use diesel_replicas::{HealthState, Limitation, NodeConfig, Router};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, Once};
use std::thread::{self, ThreadId};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// An event: its fields as text, its level among them.
type Fields = BTreeMap<String, String>;

/// What routers have told of their nodes' health, each on its test's own thread.
static TOLD: Mutex<Vec<(ThreadId, Fields)>> = Mutex::new(Vec::new());

/// Listens for the whole process: with one subscriber for one thread, a test on another thread that comes to an event first
/// would switch it off for both.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Listener)).unwrap();
    });
}

/// The changes of health that this thread's routers have told of one node so far.
fn told_of(node: &str) -> Vec<Fields> {
    told(node, "node health changed")
}

fn told(node: &str, message: &str) -> Vec<Fields> {
    let this = thread::current().id();
    let told = TOLD.lock().unwrap();
    let told = told
        .iter()
        .filter(|(thread, fields)| *thread == this && fields["node"] == node && fields["message"] == message);
    told.map(|(_, fields)| fields.clone()).collect()
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Texts(Fields::from([("level".to_owned(), event.metadata().level().to_string())]));
        event.record(&mut fields);
        if fields.0["level"] != "DEBUG"
            && fields.0.get("message").is_some_and(|message| message.starts_with("node h"))
        {
            TOLD.lock().unwrap().push((thread::current().id(), fields.0));
        }
    }
}

struct Texts(Fields);

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

#[tokio::test]
async fn each_change_of_health_is_one_event_with_fields() {
    listen();
    let cluster = support::cluster(2).await;
    let router = support::router(&cluster).await;
    let killed = cluster.replica(0);
    killed.kill().await.unwrap();
    until_health(&router, killed.name(), HealthState::Unreachable).await;
    killed.start().await.unwrap();
    until_health(&router, killed.name(), HealthState::Healthy).await;
    let probed = support::status(&router, killed.name()).lag;
    until("further probes have gone by", || support::status(&router, killed.name()).lag != probed).await;

    let changes = told_of(killed.name());
    let path: Vec<_> =
        changes.iter().map(|fields| [&*fields["level"], &fields["from"], &fields["to"]]).collect();
    assert_eq!(
        path,
        [
            ["INFO", "unproven", "healthy"],
            ["WARN", "healthy", "unreachable"],
            ["INFO", "unreachable", "healthy"],
        ],
        "{changes:#?}"
    );
    for change in &changes {
        let keys: Vec<_> = change.keys().map(String::as_str).collect();
        assert_eq!(keys, ["from", "level", "message", "node", "reason", "role", "to"]);
        assert_eq!(change["role"], "replica");
    }
    assert!(changes[0]["reason"].starts_with("lag of at most "), "{changes:#?}");
    assert!(!changes[1]["reason"].is_empty(), "{changes:#?}");
    for quiet in [cluster.primary(), cluster.replica(1)] {
        assert_eq!(told_of(quiet.name()).len(), 1, "{:#?}", told_of(quiet.name()));
    }
}

#[tokio::test]
async fn each_limitation_is_one_event_when_it_begins_and_one_when_it_ends() {
    listen();
    let cluster = support::cluster(0).await;
    let primary = cluster.primary();
    primary.sql("CREATE ROLE app LOGIN").await.unwrap();
    let url = format!("{}?sslmode=disable", primary.url().replace("//postgres@", "//app@"));
    let router = support::ready(Router::builder().primary(NodeConfig::new(url).name("limited"))).await;
    let limitations = || support::status(&router, "limited").limitations;
    until("the role is told to have no rights", || limitations() == [Limitation::StatisticsHidden]).await;
    primary.sql("GRANT pg_monitor TO app").await.unwrap();
    until("it has them", || limitations().is_empty()).await;
    primary.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await.unwrap();
    until("a function is withheld", || limitations() == [Limitation::Withheld(vec!["pg_control_system"])])
        .await;

    let began = told("limited", "node has a limitation");
    let began: Vec<_> = began.iter().map(|fields| (&*fields["level"], &*fields["limitation"])).collect();
    let [("INFO", hidden), ("WARN", "the server refuses pg_control_system")] = began[..] else {
        panic!("{began:?}")
    };
    assert!(hidden.contains("pg_read_all_stats"), "{hidden}");
    let ended = told("limited", "node has a limitation no longer");
    assert_eq!(ended.iter().map(|fields| &*fields["limitation"]).collect::<Vec<_>>(), [hidden]);
}

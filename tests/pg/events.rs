//! What operators are told: each change of a node's health once, with its fields.

use crate::support::{self, until, until_health};
use diesel_replicas::{
    Event as Told, EventKind, Events, HealthState, Limitation, NoEvent, NodeConfig, Router, Severity,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, Once};
use std::thread::{self, ThreadId};
use std::time::Duration;
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

/// Events, up to and with the first of this kind; panics when it does not come in time.
async fn up_to(events: &mut Events, what: &str, is_it: impl Fn(&Told) -> bool) -> Vec<Told> {
    let mut heard = vec![];
    loop {
        let next = tokio::time::timeout(support::PATIENCE, events.next()).await;
        let event = next.unwrap_or_else(|_| panic!("{what} was not told: {heard:#?}")).unwrap();
        heard.push(event);
        if heard.last().is_some_and(&is_it) {
            return heard;
        }
    }
}

#[tokio::test]
async fn a_listener_hears_what_goes_wrong_and_that_it_is_over_each_once() {
    let ms = Duration::from_millis;
    let cluster = support::cluster(1).await;
    let [primary, replica] = cluster.nodes() else { panic!("as many as asked for") };
    let builder = support::builder(&cluster)
        .lag_threshold(ms(600))
        .alert_lag_warning(ms(200))
        .alert_lag_critical(ms(400));
    let router = builder.alert_unhealthy_after(ms(300)).build().await.unwrap();
    let mut events = router.events();
    up_to(&mut events, "that it serves", |event| event.kind == EventKind::Replicas(1)).await;
    let writing = support::keep_writing(&router);
    replica.pause_replay().await.unwrap();
    let mut heard = up_to(&mut events, "that it stays unhealthy", |event| {
        matches!(event.kind, EventKind::Unhealthy { .. })
    })
    .await;
    replica.resume_replay().await.unwrap();
    heard.extend(
        up_to(&mut events, "that it serves again", |event| event.kind == EventKind::Replicas(1)).await,
    );
    drop(writing);
    primary.kill().await.unwrap();
    heard.extend(
        up_to(&mut events, "that nobody takes writes", |event| {
            matches!(event.kind, EventKind::NoPrimary { .. })
        })
        .await,
    );
    replica.promote().await.unwrap();
    heard.extend(
        up_to(&mut events, "that somebody does", |event| matches!(event.kind, EventKind::Primary { .. }))
            .await,
    );

    let of = |severity, begins: &str| {
        let said = heard.iter().map(|event| (event.severity, event.kind.to_string()));
        said.filter(|(is, text)| *is == severity && text.starts_with(begins)).count()
    };
    let name = replica.name();
    assert_eq!(of(Severity::Warning, &format!("`{name}` lags by up to")), 1, "{heard:#?}");
    assert_eq!(of(Severity::Critical, &format!("`{name}` lags by up to")), 1, "{heard:#?}");
    assert_eq!(of(Severity::Info, &format!("`{name}` lags by more than 400 ms no longer")), 1, "{heard:#?}");
    assert_eq!(of(Severity::Warning, &format!("replica `{name}` is lagging")), 1, "{heard:#?}");
    assert_eq!(of(Severity::Warning, &format!("`{name}` has not been healthy for")), 1, "{heard:#?}");
    assert_eq!(of(Severity::Info, &format!("`{name}` is unhealthy no longer")), 1, "{heard:#?}");
    assert_eq!(of(Severity::Info, "no replica is left"), 1, "{heard:#?}");
    assert_eq!(of(Severity::Critical, "writes go nowhere"), 1, "{heard:#?}");
    assert_eq!(of(Severity::Warning, &format!("writes go to `{name}`")), 1, "{heard:#?}");

    router.shutdown().await;
    let end = loop {
        match tokio::time::timeout(support::PATIENCE, events.next()).await.expect("it ends") {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(end, NoEvent::ShutDown);
    assert_eq!(router.events().next().await.unwrap_err(), NoEvent::ShutDown);
}

#[tokio::test]
async fn a_slow_listener_is_told_how_many_it_has_missed() {
    let cluster = support::cluster(0).await;
    let router = support::ready(support::builder(&cluster)).await;
    let mut events = router.events();
    let replica = NodeConfig::new(cluster.primary().url()).name("second");
    for _ in 0..100 {
        router.add_replica(replica.clone()).await.unwrap();
        until("it is known to be the same", || {
            support::status(&router, "second").health == HealthState::Refused
        })
        .await;
        router.remove_replica("second").await.unwrap();
    }
    let Err(NoEvent::Missed(missed)) = events.next().await else {
        panic!("more than are kept have happened")
    };
    assert!(missed > 0);
    assert!(events.next().await.is_ok(), "what is kept is there");
}

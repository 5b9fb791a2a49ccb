//! A cluster that is as it should be.

use crate::support::{self, doctor, environment, listing, run, url};
use diesel_replicas::{RouterBuilder, doctor as library};

#[tokio::test]
async fn nothing_is_said_against_it_and_the_status_is_zero() {
    let cluster = support::cluster(2).await;
    let told = doctor(environment(&cluster)).await;
    assert_eq!((told.status, told.bad()), (0, vec![]), "{:#}", told.json);
    // Local servers without TLS.
    assert_eq!(told.json["severity"], "note");
    for (name, listed) in [("primary", "primary"), ("replica1", "replica"), ("replica2", "replica")] {
        let node = told.node(name);
        assert_eq!((&node["listed"], &node["role"]), (&listed.into(), &listed.into()));
        assert_eq!((&node["timeline"], &node["max_connections"]), (&1.into(), &97.into()));
        assert_eq!(node["lag_ms"].is_null(), name == "primary");
        assert_eq!(node["encrypted"], false);
    }
    assert_eq!(
        (&told.node("primary")["user"], &told.node("replica1")["user"]),
        (&"app".into(), &"reader".into())
    );

    let text = run(&["doctor"], environment(&cluster)).await;
    assert_eq!((text.status, &*text.err), (0, ""));
    for finding in told.findings() {
        // Figures differ from one run to the next.
        if ["lag", "connections"].iter().all(|check| finding["check"] != *check) {
            let found = finding["found"].as_str().unwrap();
            let unwrapped = text.out.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(unwrapped.contains(found), "{found}\n{}", text.out);
        }
    }
}

#[tokio::test]
async fn the_library_says_the_same() {
    let cluster = support::cluster(1).await;
    let config = RouterBuilder::from_vars(environment(&cluster)).config().unwrap();
    let report = library::examine(&config).await;
    assert_eq!(report.severity(), library::Severity::Note);
    let told = doctor(environment(&cluster)).await;
    let checks: Vec<_> = report.findings.iter().map(|finding| finding.check.to_string()).collect();
    let others: Vec<_> = told.findings().iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    assert_eq!(checks, others);
}

#[tokio::test]
async fn replicas_that_are_not_enabled_are_examined_all_the_same() {
    let cluster = support::cluster(1).await;
    let mut environment = environment(&cluster);
    environment.retain(|(name, _)| name != "DB_READ_REPLICAS_ENABLED");
    let told = doctor(environment).await;
    assert_eq!((told.status, told.node("replica1")["role"].as_str()), (0, Some("replica")));
    assert_eq!(told.only("configuration")["nodes"][0], "replica1");
}

#[tokio::test]
async fn a_primary_alone_will_do() {
    let cluster = support::cluster(0).await;
    let told = doctor(listing(url(cluster.primary(), "app"), [])).await;
    assert_eq!((told.status, told.bad()), (0, vec![]));
}

#[tokio::test]
async fn nodes_that_are_discovered_are_examined_as_well() {
    let cluster = support::cluster(1).await;
    let mut environment = listing(url(cluster.primary(), "app"), []);
    let template = url(cluster.replica(0), "reader").replace("127.0.0.1", "localhost");
    let template = template.split('?').next().unwrap().to_owned();
    environment.push(("DB_READ_REPLICA_DNS".into(), template));
    let told = doctor(environment.clone()).await;
    let names: Vec<_> = told.json["nodes"].as_array().unwrap().iter().map(|node| &node["role"]).collect();
    assert!(names.contains(&&"replica".into()), "{:#}", told.json);

    environment.pop();
    environment.push((
        "DB_READ_REPLICA_DNS".into(),
        format!("postgres://reader:{}@nowhere.invalid/x", support::SECRET),
    ));
    let told = doctor(environment).await;
    assert_eq!(told.bad(), ["warning discovery -"]);
    assert_eq!(told.status, 1);
}

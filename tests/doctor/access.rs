//! Who connects, through what, and how often.

use crate::pgbouncer::{PgBouncer, is_ci, programs};
use crate::support::{self, SECRET, doctor, environment, listing, says, url};

#[tokio::test]
async fn a_role_without_privileges_is_told_what_goes_without_them() {
    let cluster = support::cluster(1).await;
    let told = doctor(listing(url(cluster.primary(), "app"), [url(cluster.replica(0), "nobody")])).await;
    assert_eq!((told.status, told.bad()), (0, vec![]));
    let finding = told.only("statistics");
    assert_eq!((&finding["severity"], &finding["nodes"][0]), (&"note".into(), &"replica1".into()));
    assert!(says(finding, "action", "GRANT pg_monitor TO nobody"), "{finding}");
    assert!(told.node("replica1")["lag_ms"].is_u64(), "lag is measured all the same");
}

#[tokio::test]
async fn a_superuser_is_a_warning_and_a_role_that_writes_a_note() {
    let cluster = support::cluster(1).await;
    let told = doctor(listing(url(cluster.primary(), "postgres"), [url(cluster.replica(0), "app")])).await;
    assert_eq!((told.status, told.bad()), (1, vec!["warning privileges primary".into()]));
    let told = doctor(listing(url(cluster.primary(), "app"), [url(cluster.replica(0), "app")])).await;
    assert_eq!((told.status, told.bad()), (0, vec![]));
    assert!(says(told.only("privileges"), "action", "GRANT SELECT"));
}

#[tokio::test]
async fn a_function_that_is_withheld_is_told() {
    let cluster = support::cluster(1).await;
    let primary = cluster.primary();
    primary.sql("REVOKE EXECUTE ON FUNCTION pg_last_wal_replay_lsn() FROM public").await.unwrap();
    let written = primary.position().await.unwrap().lsn;
    cluster.wait_replayed(cluster.replica(0), written).await.unwrap();
    let told = doctor(environment(&cluster)).await;
    let nodes: Vec<_> = told.bad();
    assert_eq!(nodes, ["warning functions primary", "warning functions replica1"]);
    assert!(says(&told.findings()[1], "why", "DB_UNVERIFIED_LAG"), "{:#}", told.json);
}

#[tokio::test]
async fn pools_that_are_too_large_for_the_server_are_told() {
    let cluster = support::cluster(1).await;
    for (size, expected) in [
        ("22", vec![]),
        ("46", vec!["warning connections primary", "warning connections replica1"]),
        ("60", vec!["problem connections primary", "warning connections replica1"]),
    ] {
        let mut environment = environment(&cluster);
        environment.push(("DB_POOL_SIZE".into(), size.into()));
        let told = doctor(environment).await;
        assert_eq!(told.bad(), expected, "{size}");
    }
}

#[tokio::test]
async fn a_pooler_that_refuses_read_only_sessions_is_told_with_its_remedy() {
    let cluster = support::cluster(1).await;
    let port =
        |url: String| -> u16 { url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap() };
    for program in programs(is_ci(), |_| true) {
        for settings in ["", "ignore_startup_parameters = options"] {
            let pooler = PgBouncer::start(&program, port(cluster.replica(0).url()), settings).await;
            let pooled = format!(
                "{}?node_name=pooled",
                pooler.url().replace("postgres@", &format!("postgres:{SECRET}@"))
            );
            let told = doctor(listing(url(cluster.primary(), "app"), [pooled])).await;
            assert_eq!(told.status, 2);
            let finding = told.only("pooler");
            assert_eq!((&finding["severity"], &finding["nodes"][0]), (&"problem".into(), &"pooled".into()));
            assert!(says(finding, "action", "track_extra_parameters"), "{finding}");
            assert!(told.node("pooled")["lag_ms"].is_u64(), "all else is told: {:#}", told.json);
        }
    }
}

/// Version 1.21 and later.
#[tokio::test]
async fn a_pooler_that_lets_all_through_is_noticed() {
    const SETTINGS: &str =
        "track_extra_parameters = default_transaction_read_only\nmax_prepared_statements = 100";
    let cluster = support::cluster(1).await;
    let port =
        |url: String| -> u16 { url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap() };
    let named = std::env::var_os("PGBOUNCER").is_some_and(|named| !named.is_empty());
    for program in programs(named, |version| version >= (1, 21)) {
        let pooler = PgBouncer::start(&program, port(cluster.replica(0).url()), SETTINGS).await;
        let told =
            doctor(listing(url(cluster.primary(), "app"), [format!("{}?node_name=pooled", pooler.url())]))
                .await;
        assert_eq!(told.only("pooler")["severity"], "note");
    }
}

#[tokio::test]
async fn a_role_that_is_not_let_in_is_told() {
    let cluster = support::cluster(1).await;
    let told = doctor(listing(url(cluster.primary(), "app"), [url(cluster.replica(0), "stranger")])).await;
    assert_eq!((told.status, told.bad()), (2, vec!["problem reachable replica1".into()]));
    assert!(says(told.only("reachable"), "found", "role \"stranger\" does not exist"));
    assert!(says(told.only("reachable"), "action", "pg_hba.conf"));
}

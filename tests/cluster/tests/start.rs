//! What a cluster is started with, and why it is not.

#![allow(clippy::unwrap_used)]

use pg_cluster::{Backend, Cluster, Error};

#[tokio::test]
async fn settings_reach_every_node_and_win() {
    let builder = Cluster::builder().replicas(1);
    let cluster = builder
        .setting("work_mem", "5MB")
        .setting("fsync", "on")
        .setting("app.it", r"o'ne \ 2")
        .start()
        .await;
    let cluster = cluster.unwrap();
    for node in cluster.nodes() {
        let shown = "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('fsync'), current_setting('app.it'))";
        assert_eq!(node.sql(shown).await.unwrap().as_deref(), Some(r"5MB on o'ne \ 2"), "{}", node.name());
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn the_version_is_the_one_that_was_asked_for() {
    let Ok(wanted) = std::env::var("PG_CLUSTER_VERSION") else {
        // Without it any version will do; which one it is has to be one that is supported.
        let cluster = Cluster::builder().start().await.unwrap();
        let version = cluster.primary().sql("SHOW server_version_num").await.unwrap().unwrap();
        assert!(version.parse::<u32>().unwrap() >= 14_00_00, "{version}");
        return;
    };
    let cluster = Cluster::builder().start().await.unwrap();
    let version = cluster.primary().sql("SHOW server_version_num").await.unwrap().unwrap();
    assert_eq!(version[..2], wanted);
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let error = Cluster::builder().setting("shared_buffers", "a few").start().await.unwrap_err();
    let Error::Start { node, log } = &error else { panic!("{error}") };
    assert_eq!(node, "primary");
    assert!(log.contains(r#"invalid value for parameter "shared_buffers""#), "{log}");
}

#[tokio::test]
async fn a_setting_that_the_cluster_makes_itself_is_refused() {
    let error = Cluster::builder().setting("port", "5432").start().await.unwrap_err();
    assert_eq!(error.to_string(), "setting is `port`: the cluster sets that one itself, leave it out");
}

#[tokio::test]
async fn an_image_that_is_not_to_be_had_is_named() {
    let builder = Cluster::builder().backend(Backend::Containers).image("pg-cluster.invalid/none", "0");
    let error = builder.start().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { backend: "containers", .. }), "{error}");
}

#[tokio::test]
async fn clusters_have_a_system_identifier_of_their_own_on_request() {
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let one = Cluster::builder().replicas(1).own_identity().start().await.unwrap();
    let other = Cluster::builder().own_identity().start().await.unwrap();
    let [primary, replica] = one.nodes() else { panic!("{one:?}") };
    let ours = primary.sql(identifier).await.unwrap();
    assert_eq!(replica.sql(identifier).await.unwrap(), ours);
    assert_ne!(other.primary().sql(identifier).await.unwrap(), ours);
}

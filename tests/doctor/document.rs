//! What `docs/doctor.md` says is what is.

use crate::support::{self, environment, run};
use diesel_replicas::doctor::Check;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/doctor.md");

#[test]
fn every_check_has_a_line_and_every_line_is_one_of_a_check() {
    let table = DOCUMENT.split_once("## What is checked").unwrap().1.split_once("**Lag**").unwrap().0;
    let rows: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let checks: Vec<_> = Check::ALL.iter().map(Check::to_string).collect();
    assert_eq!(rows, checks);
}

/// The outputs in it of this kind, in their order.
fn outputs(kind: &str) -> Vec<&'static str> {
    DOCUMENT.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(kind)).collect()
}

/// Figures and addresses differ from one run to the next, and so does where a line is broken.
fn shape(text: &str) -> String {
    let is_figure = |word: &str| {
        let unit = ["B", "KiB", "MiB"].contains(&word);
        unit || word.contains(|c: char| c.is_ascii_digit()) && !word.contains("replica")
    };
    let words = text.split_whitespace().map(|word| if is_figure(word) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn its_output_of_a_healthy_cluster_is_that_of_the_program() {
    let cluster = support::cluster(2).await;
    let answer = run(&["doctor"], environment(&cluster)).await;
    assert_eq!(shape(&answer.out), shape(outputs("text\n")[0]));
}

#[tokio::test]
async fn its_output_of_a_broken_cluster_is_that_of_the_program() {
    let cluster = support::cluster(2).await;
    cluster.primary().sql("SELECT pg_create_physical_replication_slot('old', true)").await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    cluster.replica(1).kill().await.unwrap();
    let mut environment = environment(&cluster);
    environment.push(("DB_POOL_SIZE".into(), "46".into()));
    let answer = run(&["doctor"], environment).await;
    assert_eq!(shape(&answer.out), shape(outputs("text\n")[1]));
}

#[tokio::test]
async fn its_json_has_the_names_that_the_program_gives() {
    let cluster = support::cluster(1).await;
    let told = support::doctor(environment(&cluster)).await.json;
    let documented: Value = serde_json::from_str(outputs("json\n")[0]).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&documented), names(&told));
    for list in ["nodes", "findings"] {
        assert_eq!(names(&documented[list][0]), names(&told[list][0]));
    }
}

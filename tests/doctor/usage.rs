//! What is said to those who use the program in another way than it is meant.

use crate::support::{self, SECRET, environment, run};

fn vars(vars: &[(&str, &str)]) -> Vec<(String, String)> {
    vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_all_its_faults() {
    let url = format!("postgres://app:{SECRET}@db-1/chat?sslmode=perhaps");
    let wrong =
        vars(&[("DB_POOL_SIZE", "many"), ("DB_CONECT_TIMEOUT", "1s"), ("DB_READ_REPLICA_URLS", &url)]);
    for arguments in [&["doctor"][..], &["doctor", "--json"], &["top"]] {
        let answer = run(arguments, wrong.clone()).await;
        assert_eq!((answer.status, &*answer.out), (64, ""));
        for key in ["DATABASE_URL", "DB_POOL_SIZE", "DB_CONECT_TIMEOUT", "DB_READ_REPLICA_URLS[0]"] {
            assert!(answer.err.contains(key), "{key}: {}", answer.err);
        }
    }
}

#[tokio::test]
async fn variables_may_have_another_prefix() {
    let cluster = support::cluster(1).await;
    let other = |(name, value): (String, String)| match &*name {
        "DATABASE_URL" => ("ORDERS_URL".to_owned(), value),
        _ => (name.replace("DB_", "ORDERS_"), value),
    };
    let environment: Vec<_> = environment(&cluster).into_iter().map(other).collect();
    let answer = run(&["doctor", "--prefix", "ORDERS_"], environment.clone()).await;
    assert_eq!(answer.status, 0, "{}{}", answer.out, answer.err);
    cluster.replica(0).kill().await.unwrap();
    let answer = run(&["doctor", "--prefix", "ORDERS_"], environment).await;
    assert_eq!(answer.status, 2);
    assert!(answer.out.contains("ORDERS_READ_REPLICA_URLS"), "{}", answer.out);
}

#[tokio::test]
async fn wrong_usage_has_a_status_of_its_own_and_help_has_none() {
    for arguments in [&[][..], &["nurse"], &["doctor", "--every", "1"], &["top", "--every", "never"]] {
        let answer = run(arguments, vec![]).await;
        assert_eq!((answer.status, &*answer.out), (64, ""), "{arguments:?}");
        assert!(answer.err.contains("--help"), "{}", answer.err);
    }
    let answer = run(&["--help"], vec![]).await;
    assert_eq!((answer.status, &*answer.err), (0, ""));
    assert!(answer.out.contains("Exit status"), "{}", answer.out);
}

#[tokio::test]
async fn top_wants_a_terminal() {
    let answer = run(&["top"], vars(&[("DATABASE_URL", "postgres://app@127.0.0.1:1/chat")])).await;
    assert_eq!((answer.status, &*answer.out), (64, ""));
    assert!(answer.err.contains("needs a terminal"), "{}", answer.err);
}

//! What a client brings, and what it is told to bring next.

use super::{Answer, TOKEN, ask, keys, patient, service};
use crate::support::{self, until_async};
use axum::http::StatusCode;
use diesel_replicas::tower::CausalLayer;
use diesel_replicas::{CausalToken, TokenKeys};
use std::time::Duration;

/// A token with other digits in one of its parts.
fn changed(token: CausalToken, part: usize, digits: &str) -> CausalToken {
    let text = token.to_string();
    let mut parts: Vec<_> = text.split('-').collect();
    parts[part] = digits;
    parts.join("-").parse().unwrap()
}

#[tokio::test]
async fn who_writes_sees_it_in_the_next_request() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let service = service(&router, CausalLayer::signed(&router, keys()));
    cluster.replica(0).pause_replay().await.unwrap();
    let stale = format!("1 on {}", cluster.replica(0).name());
    for (notes, write) in [(2, "POST /add"), (3, "POST /add-late"), (4, "POST /commit-and-fail")] {
        let written = ask(&service, write, &[]).await;
        assert_eq!(written.status.is_success(), write != "POST /commit-and-fail");
        let token = written.token().expect(write);
        let cookie = written.cookie().expect(write);
        assert_eq!(cookie, format!("causal_token={token}"));
        let seen = keys().verify(token).unwrap();
        if written.status.is_success() {
            assert!(seen >= written.body.parse().unwrap(), "{write}: {token} is not {}", written.body);
        }
        let new = format!("{notes} on {}", cluster.primary().name());
        for carried in [(TOKEN, token), ("cookie", cookie), ("cookie", &format!("a=b; {cookie}; c=\"d\""))] {
            let read = ask(&service, "GET /causal", &[carried]).await;
            assert_eq!(read.body, new, "{write}, {carried:?}");
            assert_eq!((read.token(), read.set_cookie()), (None, None), "the client has it");
        }
        assert_eq!(ask(&service, "GET /causal", &[]).await.body, stale, "who has seen nothing");
    }
}

#[tokio::test]
async fn a_write_whose_answer_follows_a_newer_token_does_not_lose_it() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let service = service(&router, CausalLayer::signed(&router, keys()));
    let [older, newer] = [ask(&service, "POST /add", &[]).await, ask(&service, "POST /add", &[]).await];
    assert!(newer.token() > older.token());
    cluster.replica(0).pause_replay().await.unwrap();
    let last = ask(&service, "POST /add", &[]).await;
    for (by_header, by_cookie) in [(&older, &last), (&last, &older)] {
        let both = [(TOKEN, by_header.token().unwrap()), ("cookie", by_cookie.cookie().unwrap())];
        let read = ask(&service, "GET /causal", &both).await;
        assert_eq!(read.body, format!("4 on {}", cluster.primary().name()));
    }
    let old = [(TOKEN, older.token().unwrap()), ("cookie", newer.cookie().unwrap())];
    cluster.replica(0).resume_replay().await.unwrap();
    until_async("the replica serves", async || {
        ask(&service, "GET /causal", &old).await.body == format!("4 on {}", cluster.replica(0).name())
    })
    .await;
}

#[tokio::test]
async fn text_that_is_no_token_from_here_is_ignored_and_taken_back() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let service = service(&router, CausalLayer::signed(&router, keys()));
    let written = ask(&service, "POST /add", &[]).await;
    let good = written.token().unwrap();
    let token = keys().verify(good).unwrap();
    cluster.wait_replayed(cluster.replica(0), cluster.primary().position().await.unwrap().lsn).await.unwrap();
    let on_replica = format!("2 on {}", cluster.replica(0).name());

    let forged = good.replace("-00000001-", "-00000002-");
    let foreign = changed(token, 1, "0000000000000001");
    for bad in [
        "nonsense",
        "é",
        &forged,
        &token.to_string(),
        &TokenKeys::new([8; 32]).unwrap().sign(&token),
        &keys().sign(&foreign),
    ] {
        let taken_back = |answer: &Answer| {
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &on_replica), "{bad}");
        };
        let by_cookie = ask(&service, "GET /causal", &[("cookie", &format!("causal_token={bad}"))]).await;
        taken_back(&by_cookie);
        by_cookie.removes_cookie();
        assert_eq!(by_cookie.token(), None);

        let by_header = ask(&service, "GET /causal", &[(TOKEN, bad)]).await;
        taken_back(&by_header);
        assert_eq!((by_header.token(), by_header.set_cookie()), (Some(""), None), "{bad}");

        let unused = ask(&service, "GET /eventual", &[("cookie", &format!("causal_token={bad}"))]).await;
        unused.removes_cookie();

        let beside = [("cookie", &*format!("causal_token={bad}")), ("cookie", written.cookie().unwrap())];
        let beside = ask(&service, "GET /causal", &beside).await;
        assert_eq!((beside.token(), beside.set_cookie()), (None, None), "the good one stays");

        let with_write = ask(&service, "POST /add", &[("cookie", &format!("causal_token={bad}"))]).await;
        assert!(with_write.token().unwrap() > good, "a new one is news");
        assert_eq!(with_write.cookie().unwrap(), format!("causal_token={}", with_write.token().unwrap()));
        cluster.primary().sql("DELETE FROM notes WHERE id = (SELECT max(id) FROM notes)").await.unwrap();
        let written = cluster.primary().position().await.unwrap().lsn;
        cluster.wait_replayed(cluster.replica(0), written).await.unwrap();
    }
    let nothing = ask(&service, "GET /causal", &[(TOKEN, ""), ("cookie", "causal_token=")]).await;
    assert_eq!((nothing.token(), nothing.set_cookie()), (None, None), "nothing is not a bad token");
}

#[tokio::test]
async fn a_token_that_turns_out_to_be_invalid_is_forgotten() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let service = service(&router, CausalLayer::signed(&router, keys()).monotonic_reads(true));
    let written = ask(&service, "POST /add", &[]).await;
    let token = keys().verify(written.token().unwrap()).unwrap();
    // Of a log that was lost.
    let ahead = keys().sign(&changed(token, 3, "00ffffffffffffff"));
    let cookie = format!("causal_token={ahead}");
    let read = ask(&service, "GET /causal", &[("cookie", &cookie)]).await;
    assert_eq!(read.status, StatusCode::OK);
    read.removes_cookie();
    let seen = keys().verify(read.token().unwrap()).unwrap();
    assert!(seen < keys().verify(&ahead).unwrap());

    let read = ask(&service, "GET /eventual", &[("cookie", &cookie), (TOKEN, &ahead)]).await;
    assert_eq!((read.token(), read.set_cookie()), (None, None), "nobody has tried it");

    // A write before the read that finds out is not forgotten with it.
    let late = ask(&service, "POST /add-late", &[("cookie", &cookie)]).await;
    assert_eq!(late.status, StatusCode::OK);
    let seen = keys().verify(late.token().unwrap()).unwrap();
    assert!(token < seen && seen < keys().verify(&ahead).unwrap());
    assert_eq!(late.cookie().unwrap(), format!("causal_token={}", late.token().unwrap()));
}

/// To serve it without the commit would be stale; the next try may find the promotion.
#[tokio::test]
async fn a_token_of_a_promotion_that_is_not_known_yet_is_unavailable() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let service = service(&router, CausalLayer::signed(&router, keys()));
    let written = ask(&service, "POST /add", &[]).await;
    let token = keys().verify(written.token().unwrap()).unwrap();
    let newer = keys().sign(&changed(token, 2, "00000002"));
    let read = ask(&service, "GET /causal", &[(TOKEN, &newer)]).await;
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((read.token(), read.set_cookie()), (None, None), "it is not forgotten");
}

#[tokio::test]
async fn keys_are_rotated_under_way() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let (old, new) = ([1; 32], [2; 32]);
    let with = |keys| service(&router, CausalLayer::signed(&router, keys));
    let steps = [
        with(TokenKeys::new(old).unwrap().accept(new).unwrap()),
        with(TokenKeys::new(new).unwrap().accept(old).unwrap()),
        with(TokenKeys::new(new).unwrap()),
    ];
    cluster.replica(0).pause_replay().await.unwrap();
    for (signing, reading, taken) in [(0, 1, true), (1, 0, true), (1, 2, true), (2, 1, true), (0, 2, false)] {
        let written = ask(&steps[signing], "POST /add", &[]).await;
        let read = ask(&steps[reading], "GET /causal", &[("cookie", written.cookie().unwrap())]).await;
        assert_eq!(
            read.body.ends_with(cluster.primary().name()),
            taken,
            "{signing} {reading}: {}",
            read.body
        );
        assert_eq!(read.set_cookie().is_some(), !taken);
    }
}

#[tokio::test]
async fn without_a_position_a_token_is_taken_if_it_is_signed() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let signed = service(&router, CausalLayer::signed(&router, keys()));
    let unsigned = service(&router, CausalLayer::unsigned(&router));
    let written = ask(&unsigned, "POST /add", &[]).await;
    let token: CausalToken = written.token().unwrap().parse().unwrap();
    cluster.wait_replayed(cluster.replica(0), cluster.primary().position().await.unwrap().lsn).await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    ask(&unsigned, "POST /add", &[]).await;
    let stale = format!("2 on {}", cluster.replica(0).name());

    let read = ask(&unsigned, "GET /causal", &[(TOKEN, &token.to_string())]).await;
    assert_eq!((&*read.body, read.token()), (&*stale, None));
    let unknown = changed(token, 3, "ffffffffffffffff");
    assert_eq!(unknown.lsn(), None);
    let read = ask(&unsigned, "GET /causal", &[(TOKEN, &unknown.to_string())]).await;
    assert_eq!((&*read.body, read.token()), (&*stale, Some("")));
    let read = ask(&signed, "GET /causal", &[(TOKEN, &keys().sign(&unknown))]).await;
    assert_eq!(read.body, format!("3 on {}", cluster.primary().name()));

    // A write tells where it lies.
    let written = ask(&signed, "POST /add", &[(TOKEN, &keys().sign(&unknown))]).await;
    let found = keys().verify(written.token().unwrap()).unwrap();
    assert!(found.lsn().is_some() && found > token, "{found}");
}

#[tokio::test]
async fn with_monotonic_reads_the_header_moves_with_what_is_read() {
    let cluster = support::cluster(2).await;
    let router = support::ready(patient(&cluster)).await;
    let plain = service(&router, CausalLayer::signed(&router, keys()));
    let monotonic = service(&router, CausalLayer::signed(&router, keys()).monotonic_reads(true));
    cluster.replica(0).pause_replay().await.unwrap();
    ask(&plain, "POST /add", &[]).await;
    let written = cluster.primary().position().await.unwrap().lsn;
    cluster.wait_replayed(cluster.replica(1), written).await.unwrap();

    let new = format!("2 on {}", cluster.replica(1).name());
    let mut token = String::new();
    until_async("the replica that has the note serves", async || {
        let read = ask(&monotonic, "GET /causal", &[]).await;
        assert_eq!(read.set_cookie(), None, "not with reads");
        read.token().unwrap().clone_into(&mut token);
        read.body == new
    })
    .await;
    for _ in 0..10 {
        let read = ask(&monotonic, "GET /causal", &[(TOKEN, &token)]).await;
        assert_eq!(read.body, new, "it went back");
    }
    assert_eq!(ask(&plain, "GET /causal", &[]).await.token(), None);
    assert_eq!(ask(&monotonic, "GET /eventual", &[]).await.token(), None, "of no session");

    let read = ask(&monotonic, "GET /latest", &[]).await;
    let seen = keys().verify(read.token().unwrap()).unwrap();
    assert!(seen >= keys().verify(&token).unwrap());
}

/// Nothing is asked for requests that did not use the database.
#[tokio::test]
async fn who_has_nothing_to_carry_gets_nothing() {
    let cluster = support::cluster(1).await;
    let router = support::ready(patient(&cluster)).await;
    let layer = CausalLayer::signed(&router, keys()).monotonic_reads(true);
    let service = service(&router, layer);
    cluster.primary().freeze().await.unwrap();
    let started = std::time::Instant::now();
    let answer = ask(&service, "GET /nowhere", &[]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!((answer.token(), answer.set_cookie()), (None, None));
    assert!(started.elapsed() < Duration::from_millis(400));
    cluster.primary().thaw().await.unwrap();
}

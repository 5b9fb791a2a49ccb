//! What the service's clients do while a runbook is carried out.

use crate::http::{self, Body};
use hyper::Method;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const READERS: usize = 3;

/// From one request of a client to its next.
const PAUSE: Duration = Duration::from_millis(15);

/// Clients that read and one that writes, until they are told to stop.
pub struct Traffic {
    clients: JoinSet<()>,
    seen: Arc<Seen>,
}

/// What they were answered so far.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    failed_reads: Mutex<Vec<String>>,
    /// The bodies of messages.
    acknowledged: Mutex<Vec<String>>,
    /// Writes that were told to try again.
    refused: AtomicU64,
    /// Other answers to writes.
    failed_writes: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// What they were answered in all.
pub struct Outcome {
    pub reads: u64,
    pub failed_reads: Vec<String>,
    pub acknowledged: Vec<String>,
    pub refused: u64,
    pub failed_writes: Vec<String>,
}

impl Traffic {
    pub fn start(service: SocketAddr, room: i64, user: i64) -> Self {
        let seen = Arc::new(Seen::default());
        let mut clients = JoinSet::new();
        for _ in 0..READERS {
            clients.spawn(read(service, format!("/api/rooms/{room}/messages?limit=3"), Arc::clone(&seen)));
        }
        clients.spawn(write(service, format!("/api/rooms/{room}/messages"), user, Arc::clone(&seen)));
        Self { clients, seen }
    }

    /// Waits until clients have read and written some more.
    pub async fn goes_on(&self) {
        let count = || {
            let written = self.seen.acknowledged.lock().unwrap().len();
            (self.seen.reads.load(Ordering::Relaxed), written)
        };
        let before = count();
        crate::until("clients read and write", async || {
            let now = count();
            // One of each client's may have been answered before.
            now.0 > before.0 + READERS as u64 && now.1 > before.1 + 1
        })
        .await;
    }

    pub fn refused(&self) -> u64 {
        self.seen.refused.load(Ordering::Relaxed)
    }

    pub async fn stop(self) -> Outcome {
        self.seen.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let Seen { reads, failed_reads, acknowledged, refused, failed_writes, .. } = &*self.seen;
        let take = |texts: &Mutex<Vec<String>>| std::mem::take(&mut *texts.lock().unwrap());
        Outcome {
            reads: reads.load(Ordering::Relaxed),
            failed_reads: take(failed_reads),
            acknowledged: take(acknowledged),
            refused: refused.load(Ordering::Relaxed),
            failed_writes: take(failed_writes),
        }
    }
}

async fn read(service: SocketAddr, path: String, seen: Arc<Seen>) {
    while !seen.is_over.load(Ordering::Relaxed) {
        match http::send(service, Method::GET, &path, &[], Body::none()).await {
            Ok(answer) if answer.status == 200 => drop(seen.reads.fetch_add(1, Ordering::Relaxed)),
            other => seen.failed_reads.lock().unwrap().push(format!("{other:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn write(service: SocketAddr, path: String, user: i64, seen: Arc<Seen>) {
    for number in 0.. {
        if seen.is_over.load(Ordering::Relaxed) {
            return;
        }
        let text = format!("message {number}");
        let message = Body::json(json!({ "author_id": user, "body": text }).to_string());
        match http::send(service, Method::POST, &path, &[], message).await {
            Ok(answer) if answer.status == 201 => seen.acknowledged.lock().unwrap().push(text),
            Ok(answer) if answer.status == 503 => drop(seen.refused.fetch_add(1, Ordering::Relaxed)),
            other => seen.failed_writes.lock().unwrap().push(format!("{other:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

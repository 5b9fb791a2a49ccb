//! Calls made in a loop, and how long they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Calls of one kind.
pub(crate) struct Latencies {
    sorted_ms: Vec<f64>,
}

impl Latencies {
    pub(crate) fn of(mut ms: Vec<f64>) -> Self {
        assert!(!ms.is_empty(), "nothing was done");
        ms.sort_by(f64::total_cmp);
        Self { sorted_ms: ms }
    }

    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        self.sorted_ms[self.sorted_ms.len() * percent / 100]
    }
}

/// Tasks that each call one after the other until the time is up: what the calls returned, with the milliseconds that each
/// took, and the calls a second. Each call has a number, from 0 on.
pub(crate) async fn closed<T, F>(
    tasks: usize,
    slice: Duration,
    call: impl Fn(u64) -> F + Clone + Send + 'static,
) -> (Vec<(T, f64)>, f64)
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let (started, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let tasks = (0..tasks).map(|_| {
        let (call, next) = (call.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut done = Vec::new();
            while started.elapsed() < slice {
                let asked = Instant::now();
                let answer = call(next.fetch_add(1, Ordering::Relaxed)).await;
                done.push((answer, asked.elapsed().as_secs_f64() * 1000.0));
            }
            done
        })
    });
    let done = futures_util::future::join_all(tasks.collect::<Vec<_>>()).await;
    let took = started.elapsed();
    let done: Vec<_> = done.into_iter().flat_map(|done| done.expect("no task panics")).collect();
    let per_second = done.len() as f64 / took.as_secs_f64();
    (done, per_second)
}

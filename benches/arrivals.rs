//! Calls that come at a fixed rate, whether or not those before them are done, as those of many users do.

use std::time::{Duration, Instant};

/// What the calls returned, with the milliseconds from when each was due: one that begins late because of others has waited,
/// too.
pub(crate) async fn open<T, F>(
    per_second: f64,
    slice: Duration,
    call: impl Fn(u64) -> F + Send + 'static,
) -> Vec<(T, f64)>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    let calls = (slice.as_secs_f64() * per_second) as u64;
    // A thread sleeps more exactly than the runtime, whose clock counts in milliseconds.
    let arrivals = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let arrive = |number: u64| {
            let due = started + Duration::from_secs_f64(number as f64 / per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = call(number);
            runtime.spawn(async move { (answer.await, due.elapsed().as_secs_f64() * 1000.0) })
        };
        (0..calls).map(arrive).collect::<Vec<_>>()
    });
    let calls = arrivals.await.expect("it does not panic");
    let done = futures_util::future::join_all(calls).await;
    done.into_iter().map(|done| done.expect("no call panics")).collect()
}

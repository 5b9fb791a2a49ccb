//! `GET /metrics`: what the router measures, as Prometheus reads it.

use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// From a point select on the same host to a query that nobody waits for, in seconds.
const BUCKETS: [f64; 16] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often what was recorded is summed up, so that it takes no more room when nobody asks for it.
const UPKEEP: Duration = Duration::from_secs(5);

/// What was measured so far. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Records from now on, for the whole process.
    ///
    /// # Errors
    ///
    /// When the process records already.
    pub fn record() -> Result<Self, BuildError> {
        let builder = PrometheusBuilder::new().with_recommended_naming(true).set_buckets(&BUCKETS)?;
        builder.install_recorder().map(Self)
    }

    /// Sums up what is recorded, for as long as it is polled.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }

    pub fn render(&self) -> Response {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], self.0.render())
            .into_response()
    }
}

//! Asks a node how it is: on a connection kept from probe to probe.

mod session;

use crate::observation::{Observation, ProbeFailure};
use crate::pool::Endpoint;
use session::Session;
use std::time::Duration;
use tokio::time::timeout;

/// The monitor's own way to one node: a session that is opened when it is needed and given up after a failure.
#[derive(Debug)]
pub(super) struct Prober {
    endpoint: Endpoint,
    session: Option<Session>,
}

impl Prober {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, session: None }
    }

    /// Asks the node within the limit, connecting first if need be.
    ///
    /// # Cancel safety
    ///
    /// A dropped call closes its connection; the next one opens another.
    pub(super) async fn probe(&mut self, limit: Duration) -> Result<Observation, ProbeFailure> {
        let (observation, session) = attempt(&self.endpoint, self.session.take(), limit).await?;
        self.session = Some(session);
        Ok(observation)
    }
}

/// Asks once. A session of an earlier probe may have been closed since, by a restart of the server: a new one is opened then,
/// within the same limit.
async fn attempt(
    endpoint: &Endpoint,
    kept: Option<Session>,
    limit: Duration,
) -> Result<(Observation, Session), ProbeFailure> {
    let asking = async {
        if let Some(mut session) = kept
            && let Ok(observation) = session.ask().await
        {
            return Ok((observation, session));
        }
        let mut session = Session::open(endpoint).await?;
        let observation = session.ask().await?;
        Ok((observation, session))
    };
    timeout(limit, asking).await.unwrap_or(Err(ProbeFailure::TimedOut { probes: 1, after: limit }))
}

//! A real measurement of lag: where the primary is, and how long each standby takes to get there.

use super::facts::{Facts, Replay};
use super::questions;
use crate::lsn::Lsn;
use crate::monitor::Session;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long standbys are waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// The pause between two questions to one standby.
const PAUSE: Duration = Duration::from_millis(20);

/// Measures those that tell how far they have come. The bound holds like that of the monitor: what was committed before the sample
/// was asked for lies at or below it.
pub(super) async fn measure(facts: &mut Facts, sessions: &[Option<Session>]) {
    let standbys: Vec<_> = facts.standbys().map(|(node, _)| node.name.clone()).collect();
    let Some(primary) = facts.primary().map(|(node, _)| node.name.clone()) else { return };
    let session_of = |name: &str| {
        let position = facts.nodes.iter().position(|node| node.name == name)?;
        sessions[position].as_ref()
    };
    let Some(source) = session_of(&primary) else { return };
    let started = Instant::now();
    let written = timeout(LIMIT, questions::written(source.client())).await;
    let Some(written) = written.ok().flatten() else { return };
    let measuring = standbys.iter().map(|name| async {
        match session_of(name) {
            Some(session) => replay(session, written.before_page_header(), started).await,
            None => Replay::Untold,
        }
    });
    let measured = join_all(measuring).await;
    for (name, replay) in standbys.iter().zip(measured) {
        let node = facts.nodes.iter_mut().find(|node| node.name == *name);
        if let Some(Ok(server)) = node.map(|node| node.answer.as_mut()) {
            server.replay = Some(replay);
        }
    }
}

async fn replay(session: &Session, written: Lsn, started: Instant) -> Replay {
    let mut last = None;
    let catching_up = async {
        while let Some(replayed) = questions::replayed(session.client()).await {
            if replayed >= written {
                return Replay::Within(started.elapsed());
            }
            last = Some(replayed);
            sleep(PAUSE).await;
        }
        Replay::Untold
    };
    let caught_up = timeout(LIMIT, catching_up).await;
    match (caught_up, last) {
        (Ok(replay), _) => replay,
        (Err(_), Some(replayed)) => Replay::NotWithin(LIMIT, replayed.bytes_behind(written)),
        (Err(_), None) => Replay::Untold,
    }
}

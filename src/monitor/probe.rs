//! What the monitor asks a node. The only file with monitoring SQL.

use crate::error::Chain;
use crate::observation::{Observation, ProbeFailure};
use crate::pool::Endpoint;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The role and the position in one statement, so that a promotion cannot come between them. The branches of `CASE`
/// are evaluated on demand: each function fails, or says nothing, on the other kind of node.
const PROBE: &str = "SELECT in_recovery, \
     CASE WHEN in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     CASE WHEN in_recovery THEN (SELECT greatest(timeline_id, min_recovery_end_timeline, (SELECT received_tli FROM pg_stat_wal_receiver)) FROM pg_control_checkpoint(), pg_control_recovery()) \
       ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END, \
     (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, current_setting('server_version_num') \
     FROM pg_catalog.pg_is_in_recovery() AS in_recovery";

/// The monitor's own connection to one node, opened when it is needed and given up after a failure.
#[derive(Debug)]
pub(super) struct Prober {
    endpoint: Endpoint,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    client: Client,
    /// Drives the connection; dropping the set ends it, however silent the node is.
    _connection: JoinSet<()>,
}

impl Prober {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, session: None }
    }

    /// Asks once, within the limit, connecting first if need be.
    pub(super) async fn probe(&mut self, limit: Duration) -> Result<Observation, ProbeFailure> {
        let answer = timeout(limit, self.ask()).await;
        let answer = answer
            .map_err(|_| ProbeFailure::TimedOut { probes: 1, after: limit })
            .and_then(|answer| answer.map_err(|how| ProbeFailure::Failed(how.into())));
        if answer.is_err() {
            self.session = None;
        }
        answer
    }

    async fn ask(&mut self) -> Result<Observation, String> {
        let session = match &mut self.session {
            Some(session) if !session.client.is_closed() => session,
            session => session.insert(Session::open(&self.endpoint).await?),
        };
        let asked_at = Instant::now();
        let rows = session.client.simple_query(PROBE).await.map_err(|error| Chain(&error).to_string())?;
        let answered_at = Instant::now();
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.ok_or("the probe's query returned no row")?;
        let in_recovery = row.get(0).ok_or("the probe's query returned no role")? == "t";
        let lsn = row
            .get(1)
            .map(str::parse)
            .transpose()
            .map_err(|error: crate::lsn::ParseLsnError| error.to_string())?;
        Ok(Observation {
            in_recovery,
            lsn,
            identity: crate::observation::Identity {
                system: row.get(2).and_then(|text| text.parse().ok()),
                started: row.get(4).and_then(|text| text.parse().ok()).unwrap_or_default(),
            },
            timeline: row.get(3).and_then(|text| text.parse().ok()),
            version: row.get(5).and_then(|text| text.parse().ok()).unwrap_or_default(),
            standby: Default::default(),
            asked_at,
            answered_at,
        })
    }
}

impl Session {
    async fn open(endpoint: &Endpoint) -> Result<Self, String> {
        let connected = endpoint.connect_raw().await;
        let (client, connection) = connected.map_err(|error| Chain(&error).to_string())?;
        let mut driver = JoinSet::new();
        // What goes wrong on the connection shows in the client's answers.
        driver.spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, _connection: driver })
    }
}

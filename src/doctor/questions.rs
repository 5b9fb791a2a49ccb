//! What a server is asked beside the monitor's own question. Every role may ask all of it; what a server does not tell is unknown.
//!
//! Names are qualified, since a `search_path` may lead elsewhere, and the answers are text, since a pooler may not prepare.

use super::facts::{Account, Bound, Limit, Settings, Slot, Usage};
use crate::lsn::{Lsn, WalBytes};
use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;
use tokio::join;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

/// The process that answers, and when its server started.
const WHOM: &str = "SELECT pg_catalog.pg_backend_pid() AS process, \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint AS started";

const SEES_TLS: &str =
    "SELECT ssl::text AS encrypted FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";

const ACCOUNT: &str = "SELECT rolname AS role, rolsuper::text AS superuser, \
     nullif(rolconnlimit, -1) AS role_limit, nullif(datconnlimit, -1) AS database_limit, \
     EXISTS (SELECT FROM pg_catalog.pg_class AS class \
             JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace \
             WHERE class.relkind IN ('r', 'p') AND namespace.nspname <> 'information_schema' \
             AND namespace.nspname NOT LIKE 'pg\\_%' \
             AND pg_catalog.has_table_privilege(class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))::text AS writes \
     FROM pg_catalog.pg_roles, pg_catalog.pg_database \
     WHERE rolname = current_user AND datname = pg_catalog.current_database()";

const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN (\
     'hot_standby_feedback', 'max_connections', 'max_slot_wal_keep_size', 'max_standby_streaming_delay', \
     'recovery_min_apply_delay', 'reserved_connections', 'superuser_reserved_connections', \
     'wal_receiver_status_interval')";

/// Of sessions of other roles one is told little, but that they are there. Those that send log do not count against
/// `max_connections`.
const USAGE: &str = "SELECT count(*) AS clients, \
     count(*) FILTER (WHERE application_name LIKE 'diesel-replicas%') AS routers, \
     count(*) FILTER (WHERE state = 'active') AS active \
     FROM pg_catalog.pg_stat_activity \
     WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend' \
     AND pid <> pg_catalog.pg_backend_pid()";

const TRANSACTIONS: &str =
    "SELECT sum(xact_commit + xact_rollback)::bigint AS transactions FROM pg_catalog.pg_stat_database";

const CONFLICTS: &str =
    "SELECT coalesce(sum(conflicts), 0)::bigint AS conflicts FROM pg_catalog.pg_stat_database";

const SLOTS: &str = "SELECT slot_name AS name, active::text, wal_status, pg_catalog.pg_wal_lsn_diff(\
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
     ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)::bigint AS retained \
     FROM pg_catalog.pg_replication_slots WHERE NOT temporary ORDER BY slot_name";

const WRITTEN: &str = "SELECT pg_catalog.pg_current_wal_lsn() AS lsn";

const REPLAYED: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn() AS lsn";

/// All that one server said.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) whom: Option<Whom>,
    pub(super) sees_tls: Option<bool>,
    pub(super) account: Option<Account>,
    pub(super) settings: Settings,
    pub(super) usage: Option<Usage>,
    pub(super) slots: Option<Vec<Slot>>,
    pub(super) conflicts: Option<u64>,
}

/// A server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whom {
    process: u32,
    pub(super) started: i64,
}

/// How much a server has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) usage: Usage,
    pub(crate) max_connections: Option<u64>,
    /// So far.
    pub(crate) transactions: Option<u64>,
}

/// Asks all of it in one round trip.
pub(super) async fn ask(client: &Client) -> Told {
    let (whom, sees_tls, account, settings, usage, slots, conflicts) = join!(
        whom(client),
        one(client, SEES_TLS),
        one(client, ACCOUNT),
        settings(client),
        one(client, USAGE),
        rows(client, SLOTS),
        one(client, CONFLICTS),
    );
    Told {
        whom,
        sees_tls: sees_tls.and_then(|row| value(&row, "encrypted")),
        account: account.and_then(|row| account_of(&row)),
        settings,
        usage: usage.and_then(|row| usage_of(&row)),
        slots: slots.ok().map(|slots| slots.iter().filter_map(slot_of).collect()),
        conflicts: conflicts.and_then(|row| value(&row, "conflicts")),
    }
}

pub(super) async fn whom(client: &Client) -> Option<Whom> {
    let row = one(client, WHOM).await?;
    Some(Whom { process: value(&row, "process")?, started: value(&row, "started")? })
}

/// Where the primary is.
pub(super) async fn written(client: &Client) -> Option<Lsn> {
    value(&one(client, WRITTEN).await?, "lsn")
}

/// Where a standby is.
pub(super) async fn replayed(client: &Client) -> Option<Lsn> {
    value(&one(client, REPLAYED).await?, "lsn")
}

/// # Errors
///
/// The connection is lost, or the server refuses.
pub(crate) async fn load(client: &Client) -> Result<Load, Error> {
    let asked = join!(rows(client, USAGE), rows(client, TRANSACTIONS), settings(client));
    let (usage, transactions, settings) = asked;
    let transactions = transactions?.first().and_then(|row| value(row, "transactions"));
    let usage = usage?.first().and_then(usage_of).unwrap_or_default();
    Ok(Load { usage, max_connections: settings.usable_connections(), transactions })
}

async fn settings(client: &Client) -> Settings {
    let rows = rows(client, SETTINGS).await.unwrap_or_default();
    let told =
        rows.iter().filter_map(|row| Some((row.try_get("name").ok()??, row.try_get("setting").ok()??)));
    settings_of(&told.collect())
}

/// In the units in which the server keeps them: milliseconds for delays, seconds for the interval, mebibytes for the size.
fn settings_of(told: &HashMap<&str, &str>) -> Settings {
    let number = |name| told.get(name).and_then(|text: &&str| text.parse::<i64>().ok());
    let count = |name| number(name).and_then(|number| u64::try_from(number).ok());
    let delay = |number: i64| match u64::try_from(number) {
        Ok(millis) => Bound::Within(Duration::from_millis(millis)),
        Err(_) => Bound::Unlimited,
    };
    let size = |number: i64| match u64::try_from(number) {
        Ok(mebibytes) => Limit::Bytes(WalBytes::new(mebibytes << 20)),
        Err(_) => Limit::Unlimited,
    };
    Settings {
        max_connections: count("max_connections"),
        superuser_reserved: count("superuser_reserved_connections"),
        reserved: count("reserved_connections"),
        feedback: told.get("hot_standby_feedback").map(|text| *text == "on"),
        streaming_delay: number("max_standby_streaming_delay").map(delay),
        status_interval: count("wal_receiver_status_interval").map(Duration::from_secs),
        apply_delay: count("recovery_min_apply_delay").map(Duration::from_millis),
        slot_limit: number("max_slot_wal_keep_size").map(size),
    }
}

fn account_of(row: &SimpleQueryRow) -> Option<Account> {
    Some(Account {
        role: value(row, "role")?,
        superuser: value(row, "superuser")?,
        writes: value(row, "writes")?,
        role_limit: value(row, "role_limit"),
        database_limit: value(row, "database_limit"),
    })
}

fn usage_of(row: &SimpleQueryRow) -> Option<Usage> {
    Some(Usage {
        clients: value(row, "clients")?,
        routers: value(row, "routers")?,
        active: value(row, "active")?,
    })
}

fn slot_of(row: &SimpleQueryRow) -> Option<Slot> {
    let status: Option<String> = value(row, "wal_status");
    Some(Slot {
        name: value(row, "name")?,
        active: value(row, "active")?,
        lost: status.as_deref() == Some("lost"),
        endangered: status.as_deref() == Some("unreserved"),
        // A slot that is ahead of what a standby has replayed holds nothing back.
        retained: value(row, "retained").map(|bytes: i64| WalBytes::new(u64::try_from(bytes).unwrap_or(0))),
    })
}

/// The first row, if there is one.
async fn one(client: &Client, question: &str) -> Option<SimpleQueryRow> {
    rows(client, question).await.ok()?.into_iter().next()
}

async fn rows(client: &Client, question: &str) -> Result<Vec<SimpleQueryRow>, Error> {
    let messages = client.simple_query(question).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// That of a column; NULL and what cannot be read are the same.
fn value<T: FromStr>(row: &SimpleQueryRow, column: &str) -> Option<T> {
    row.try_get(column).ok()??.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pg_cluster::Cluster;
    use tokio_postgres::NoTls;

    #[test]
    fn settings_are_read_in_their_units() {
        let told = [
            ("max_connections", "100"),
            ("superuser_reserved_connections", "3"),
            ("hot_standby_feedback", "off"),
            ("max_standby_streaming_delay", "30000"),
            ("wal_receiver_status_interval", "10"),
            ("max_slot_wal_keep_size", "2"),
        ];
        let settings = settings_of(&told.into());
        assert_eq!(settings.usable_connections(), Some(97));
        assert_eq!(settings.feedback, Some(false));
        assert_eq!(settings.streaming_delay, Some(Bound::Within(Duration::from_secs(30))));
        assert_eq!(settings.status_interval, Some(Duration::from_secs(10)));
        assert_eq!(settings.slot_limit, Some(Limit::Bytes(WalBytes::new(2 << 20))));
        assert_eq!(settings.apply_delay, None);
        let told = [("max_standby_streaming_delay", "-1"), ("max_slot_wal_keep_size", "-1")];
        let settings = settings_of(&told.into());
        assert_eq!(settings.streaming_delay, Some(Bound::Unlimited));
        assert_eq!(settings.slot_limit, Some(Limit::Unlimited));
        assert_eq!(settings.usable_connections(), None);
    }

    /// A question that no server understands would leave a check out without a word.
    #[tokio::test]
    async fn every_question_is_understood_on_a_primary_and_on_a_standby_by_any_role() {
        let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
        let primary = cluster.primary();
        let sql = "CREATE ROLE nobody LOGIN; SELECT pg_create_physical_replication_slot('kept', true)";
        primary.sql(sql).await.expect("it runs");
        let written_lsn = primary.position().await.expect("it answers").lsn;
        cluster.wait_replayed(cluster.replica(0), written_lsn).await.expect("it follows");
        for node in cluster.nodes() {
            let url = node.url().replace("postgres@", "nobody@");
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("it connects");
            tokio::spawn(connection);
            for question in [WHOM, SEES_TLS, ACCOUNT, SETTINGS, USAGE, TRANSACTIONS, CONFLICTS] {
                let answer = rows(&client, question).await;
                assert!(answer.as_ref().is_ok_and(|rows| !rows.is_empty()), "{question}: {answer:?}");
            }
            let told = ask(&client).await;
            assert_eq!(told.whom, whom(&client).await);
            assert_eq!(told.sees_tls, Some(false));
            let account = told.account.expect("it tells");
            assert_eq!((account.role.as_str(), account.superuser, account.writes), ("nobody", false, false));
            assert_eq!(told.settings.usable_connections(), Some(97));
            assert!(told.usage.is_some() && told.conflicts == Some(0));
            let on_primary = node.name() == primary.name();
            let slots = told.slots.expect("it tells");
            assert_eq!(slots.len(), usize::from(on_primary), "{slots:?}");
            assert_eq!(written(&client).await.is_some(), on_primary);
            assert_eq!(replayed(&client).await.is_some(), !on_primary);
            assert!(load(&client).await.expect("it answers").transactions.is_some());
        }
        let role = "ALTER ROLE nobody CONNECTION LIMIT 7; CREATE TABLE notes (body text); GRANT DELETE ON notes TO nobody";
        primary.sql(role).await.expect("it runs");
        let (client, connection) =
            tokio_postgres::connect(&primary.url().replace("postgres@", "nobody@"), NoTls)
                .await
                .expect("it connects");
        tokio::spawn(connection);
        let account = ask(&client).await.account.expect("it tells");
        assert_eq!((account.writes, account.role_limit, account.database_limit), (true, Some(7), None));
    }
}

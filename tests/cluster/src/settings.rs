//! What is written into each server's `postgresql.conf`.

use std::fmt::Write;

use crate::Error;

/// Fast to start, durable against nothing but the end of a process, and quick to notice that another node is gone.
///
/// `wal_keep_size` lets a replica that was cut off catch up; no slot needs to be moved on a failover.
/// Dynamic shared memory in files of the data directory goes when the directory goes, even after `kill -9`.
const BASE: [(&str, &str); 21] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "on"),
    ("autovacuum", "off"),
    ("shared_buffers", "16MB"),
    ("dynamic_shared_memory_type", "mmap"),
    ("max_connections", "100"),
    ("wal_level", "replica"),
    ("wal_keep_size", "512MB"),
    ("max_wal_senders", "20"),
    ("hot_standby", "on"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("wal_sender_timeout", "5s"),
    ("wal_receiver_timeout", "5s"),
    ("unix_socket_directories", ""),
    ("lc_messages", "C"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] "),
    ("default_text_search_config", "pg_catalog.english"),
];

/// Settings that make the cluster what it is.
const OWN: [&str; 4] = ["port", "listen_addresses", "primary_conninfo", "cluster_name"];

/// One setting that the user of the cluster asked for.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    name: String,
    value: String,
}

impl Setting {
    pub(crate) fn new(name: String, value: String) -> Self {
        Self { name, value }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refused = |expected: &str| Error::Configuration {
            key: "setting".to_owned(),
            value: self.name.clone(),
            expected: expected.to_owned(),
        };
        if self.name.is_empty()
            || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        {
            return Err(refused("the name of a PostgreSQL setting is wanted"));
        }
        if OWN.contains(&self.name.to_ascii_lowercase().as_str()) {
            return Err(refused("the cluster sets that one itself, leave it out"));
        }
        Ok(())
    }
}

/// The whole `postgresql.conf` of a node; a later line wins over an earlier one.
pub(crate) fn postgresql_conf(node: &str, listen: &str, extra: &[Setting]) -> String {
    let mut conf = String::new();
    let own = [("cluster_name", node), ("listen_addresses", listen)];
    let extra = extra.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
    for (name, value) in BASE.into_iter().chain(own).chain(extra) {
        // Writing to a string does not fail.
        let _ = writeln!(conf, "{name} = {}", quote(value));
    }
    conf
}

/// A value as the configuration file's lexer takes it.
pub(crate) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''").replace('\n', r"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_settings_come_last_and_are_quoted() {
        let extra =
            [Setting::new("fsync".into(), "on".into()), Setting::new("app.name".into(), r"it's \a".into())];
        let conf = postgresql_conf("replica1", "127.0.0.1", &extra);
        assert!(conf.starts_with("fsync = 'off'\n"), "{conf}");
        assert!(conf.ends_with("fsync = 'on'\napp.name = 'it''s \\\\a'\n"), "{conf}");
    }

    #[test]
    fn names_that_are_no_settings_or_the_clusters_own_are_refused() {
        for name in ["", "a b", "x = 1\ny", "port", "Primary_ConnInfo"] {
            assert!(Setting::new(name.to_owned(), String::new()).check().is_err(), "{name}");
        }
        assert!(Setting::new("auto_explain.log_min_duration".into(), "0".into()).check().is_ok());
    }
}

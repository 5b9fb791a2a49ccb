//! What is known of a configuration and of its servers. Nothing here asks or judges.

use crate::endpoint::Mode;
use crate::fleet::Role;
use crate::lsn::WalBytes;
use crate::observation::Observation;
use std::time::Duration;

/// All that is judged.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) service: Service,
    /// In the order of the configuration, then those that were discovered.
    pub(super) nodes: Vec<Node>,
    /// Sources of nodes that have failed, and how.
    pub(super) failed_sources: Vec<(String, String)>,
}

/// What the configuration says of the service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Of the variables' names.
    pub(super) prefix: String,
    pub(super) replicas_enabled: bool,
    /// How many replicas a process reads from, if not from all.
    pub(super) read_subset: Option<usize>,
    pub(super) discovers: bool,
    pub(super) lag_threshold: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) name: String,
    /// What the configuration takes it for.
    pub(super) listed: Role,
    /// As whom the service connects.
    pub(super) user: String,
    pub(super) mode: Mode,
    /// Connections to it stay on this machine.
    pub(super) local: bool,
    /// Connections in each of its pools.
    pub(super) pool_size: u32,
    pub(super) answer: Result<Server, Silent>,
}

/// A node that says nothing.
#[derive(Debug, Clone)]
pub(crate) struct Silent {
    pub(super) cause: Cause,
    /// What the server, the network or the library said.
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody listens there, or there is no way or no name.
    Network,
    /// It was reached, or not refused, and says nothing.
    TimedOut,
    /// The password is wrong, or missing, or the role may not log in from here.
    Login,
    NoDatabase,
    Full,
    /// Starting, or shutting down.
    NotReady,
    /// The text says what to do.
    Told,
    Other,
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    /// What the monitor's probe is told.
    pub(super) seen: Observation,
    /// Why there are no sessions that are read-only, if there are none.
    pub(super) refuses_reads: Option<String>,
    pub(super) link: Link,
    /// Whether the server sees its connection encrypted.
    pub(super) sees_tls: Option<bool>,
    /// Connections share server processes.
    pub(super) pooled: bool,
    /// Another connection led to another server.
    pub(super) several: bool,
    pub(super) account: Option<Account>,
    pub(super) settings: Settings,
    pub(super) usage: Option<Usage>,
    pub(super) slots: Option<Vec<Slot>>,
    /// Queries that were cancelled for the replay's sake, since the statistics were reset.
    pub(super) conflicts: Option<u64>,
    /// Of a standby, where there is a primary that tells its position.
    pub(super) replay: Option<Replay>,
}

/// How the connection is protected, as far as this end knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Socket,
    Plain,
    Encrypted,
}

/// The role that the sessions run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) role: String,
    pub(super) superuser: bool,
    /// It may change the rows of some table.
    pub(super) writes: bool,
    /// The most connections of the role, and to the database, if they are limited.
    pub(super) role_limit: Option<u64>,
    pub(super) database_limit: Option<u64>,
}

/// Settings of the server; `None` where it has no such setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Settings {
    pub(super) max_connections: Option<u64>,
    pub(super) superuser_reserved: Option<u64>,
    pub(super) reserved: Option<u64>,
    pub(super) feedback: Option<bool>,
    pub(super) streaming_delay: Option<Bound>,
    /// Zero is never.
    pub(super) status_interval: Option<Duration>,
    pub(super) apply_delay: Option<Duration>,
    /// In bytes.
    pub(super) slot_limit: Option<Limit>,
}

/// How long the replay waits for queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Unlimited,
    Within(Duration),
}

/// How much log slots may hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Unlimited,
    Bytes(WalBytes),
}

/// The connections of clients at the moment, without those that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) clients: u64,
    /// Those of routers.
    pub(crate) routers: u64,
    /// Those that run something, as far as the role is told.
    pub(crate) active: u64,
}

/// A replication slot that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) active: bool,
    pub(super) lost: bool,
    pub(super) endangered: bool,
    /// The log that it holds back, if any.
    pub(super) retained: Option<WalBytes>,
}

/// How long a standby took to get where the primary was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replay {
    /// At most.
    Within(Duration),
    /// Not within this, and still lacking so much.
    NotWithin(Duration, WalBytes),
    /// It did not say.
    Untold,
}

impl Service {
    /// What a setting is called.
    pub(super) fn variable(&self, setting: &str) -> String {
        format!("{}{setting}", self.prefix)
    }

    /// Where the URLs of nodes with this role stand.
    pub(super) fn urls(&self, listed: Role) -> String {
        match listed {
            Role::Primary if self.prefix == crate::config::PREFIX => crate::config::PRIMARY.to_owned(),
            Role::Primary => self.variable("URL"),
            Role::Replica => self.variable("READ_REPLICA_URLS"),
        }
    }
}

impl Facts {
    /// The nodes that answer.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&Node, &Server)> {
        self.nodes.iter().filter_map(|node| Some((node, node.answer.as_ref().ok()?)))
    }

    /// The cluster that this is: the one of the node that is listed as the primary, or else of the first that tells.
    pub(super) fn system(&self) -> Option<u64> {
        self.servers().find_map(|(_, server)| server.seen.identity.system)
    }

    /// Whether nothing shows that the server is of another cluster.
    pub(super) fn is_ours(&self, server: &Server) -> bool {
        match (server.seen.identity.system, self.system()) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        }
    }

    /// The node that writes go to, for all that can be seen: of several that are writable the one on the highest timeline.
    pub(super) fn primary(&self) -> Option<(&Node, &Server)> {
        let ours = self.servers().filter(|(_, server)| server.is_writable() && self.is_ours(server));
        // Of equals the first.
        ours.reduce(|best, other| if other.1.seen.timeline > best.1.seen.timeline { other } else { best })
    }

    /// The standbys of this cluster.
    pub(super) fn standbys(&self) -> impl Iterator<Item = (&Node, &Server)> {
        self.servers().filter(|(_, server)| !server.is_writable() && self.is_ours(server))
    }
}

impl Server {
    pub(super) fn is_writable(&self) -> bool {
        !self.seen.in_recovery
    }

    pub(super) fn role(&self) -> Role {
        if self.is_writable() { Role::Primary } else { Role::Replica }
    }

    /// What it was asked and did not say.
    pub(super) fn untold(&self) -> Vec<&'static str> {
        let told = [
            ("role", self.account.is_some()),
            ("connections", self.usage.is_some()),
            ("settings", self.settings.max_connections.is_some()),
            ("replication slots", self.slots.is_some()),
        ];
        told.into_iter().filter(|(_, told)| !told).map(|(what, _)| what).collect()
    }
}

impl Settings {
    /// The connections that there can be, for roles without privileges.
    pub(super) fn usable_connections(&self) -> Option<u64> {
        let kept = self.superuser_reserved.unwrap_or(0) + self.reserved.unwrap_or(0);
        self.max_connections.map(|all| all.saturating_sub(kept))
    }
}

impl Replay {
    pub(super) fn time(&self) -> Option<Duration> {
        match self {
            Self::Within(time) => Some(*time),
            Self::NotWithin(..) | Self::Untold => None,
        }
    }
}

/// What stands for a cluster in the tests of those who judge.
#[cfg(test)]
pub(super) mod fixture {
    use super::*;
    use crate::limitation::Limitation;
    use crate::lsn::Lsn;
    use crate::observation::{Identity, Receiver, Standby};
    use tokio::time::Instant;

    /// A primary and two replicas of which nothing bad can be said.
    pub(in crate::doctor) fn healthy() -> Facts {
        let replica = |name, started| node(name, Role::Replica, server(true, started));
        Facts {
            service: Service {
                prefix: "DB_".into(),
                replicas_enabled: true,
                read_subset: None,
                discovers: false,
                lag_threshold: Duration::from_secs(1),
            },
            nodes: vec![node("a", Role::Primary, server(false, 1)), replica("b", 2), replica("c", 3)],
            failed_sources: vec![],
        }
    }

    impl Facts {
        /// The node of this name, which answers.
        pub(in crate::doctor) fn server(&mut self, name: &str) -> &mut Server {
            self.node(name).answer.as_mut().expect("it answers")
        }

        pub(in crate::doctor) fn node(&mut self, name: &str) -> &mut Node {
            self.nodes.iter_mut().find(|node| node.name == name).expect("there is one")
        }

        pub(in crate::doctor) fn limit(&mut self, name: &str, limitation: Limitation) {
            self.server(name).seen.limitations.push(limitation);
        }
    }

    pub(in crate::doctor) fn node(name: &str, listed: Role, server: Server) -> Node {
        Node {
            name: name.into(),
            listed,
            user: "app".into(),
            mode: Mode::VerifyFull,
            local: false,
            pool_size: 10,
            answer: Ok(server),
        }
    }

    pub(in crate::doctor) fn server(in_recovery: bool, started: i64) -> Server {
        let now = Instant::now();
        let standby =
            Standby { replay_paused: Some(false), receiver: Some(Receiver::Streaming), ..Standby::default() };
        Server {
            seen: Observation {
                in_recovery,
                lsn: Some(Lsn::new(100)),
                inserted: (!in_recovery).then_some(Lsn::new(100)),
                identity: Identity { system: Some(7), started },
                timeline: Some(1),
                version: 150_018,
                standby: if in_recovery { standby } else { Standby::default() },
                limitations: vec![],
                asked_at: now,
                answered_at: now,
            },
            refuses_reads: None,
            link: Link::Encrypted,
            sees_tls: Some(true),
            pooled: false,
            several: false,
            account: Some(Account {
                role: "app".into(),
                superuser: false,
                writes: !in_recovery,
                role_limit: None,
                database_limit: None,
            }),
            settings: Settings {
                max_connections: Some(100),
                superuser_reserved: Some(3),
                reserved: None,
                feedback: Some(true),
                streaming_delay: Some(Bound::Within(Duration::from_secs(1))),
                status_interval: Some(Duration::from_secs(10)),
                apply_delay: Some(Duration::ZERO),
                slot_limit: Some(Limit::Unlimited),
            },
            usage: Some(Usage { clients: 5, routers: 5, active: 1 }),
            slots: Some(vec![]),
            conflicts: Some(0),
            replay: in_recovery.then_some(Replay::Within(Duration::from_millis(3))),
        }
    }
}

//! Asks all nodes at the same time, each question within a limit.

use super::facts::{Cause, Facts, Link, Node, Server, Service, Silent};
use super::{lag, questions};
use crate::config::{Config, NodeSpec};
use crate::discovery::Discovery;
use crate::endpoint::Endpoint;
use crate::error::{Chain, Millis};
use crate::fleet::Role;
use crate::monitor::Session;
use crate::observation::ProbeFailure;
use crate::pool::{Access, ConnectError};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take. A server that is merely slow is told from one that is frozen.
const ANSWER: Duration = Duration::from_secs(3);

/// How long a source of nodes may take.
const DISCOVERY: Duration = Duration::from_secs(5);

/// A node, and the connection that it was asked on.
struct Asked {
    node: Node,
    session: Option<Session>,
}

pub(super) async fn facts(config: &Config, prefix: &str) -> Facts {
    let (specs, failed_sources) = specs(config).await;
    let asked = join_all(specs.iter().map(|(listed, spec)| ask(config, *listed, spec))).await;
    let (nodes, sessions): (Vec<_>, Vec<_>) =
        asked.into_iter().map(|Asked { node, session }| (node, session)).unzip();
    let service = Service {
        prefix: prefix.to_owned(),
        replicas_enabled: config.read_replicas_enabled,
        read_subset: config.read_subset,
        discovers: !config.discovery.is_empty(),
        lag_threshold: config.health.lag_threshold,
    };
    let mut facts = Facts { service, nodes, failed_sources };
    lag::measure(&mut facts, &sessions).await;
    facts
}

/// The nodes that are configured, and those that are discovered beside them; and which sources have failed, and how.
async fn specs(config: &Config) -> (Vec<(Role, NodeSpec)>, Vec<(String, String)>) {
    let primary = (Role::Primary, config.primary.clone());
    let replicas = config.replicas.iter().map(|spec| (Role::Replica, spec.clone()));
    let mut specs: Vec<_> = std::iter::once(primary).chain(replicas).collect();
    let mut failed = vec![];
    let answers = join_all(config.discovery.iter().map(|source| discover(&**source))).await;
    for (source, answer) in config.discovery.iter().zip(answers) {
        match answer {
            Ok(found) => {
                for spec in found {
                    if !specs
                        .iter()
                        .any(|(_, known)| known.name == spec.name || known.endpoint == spec.endpoint)
                    {
                        specs.push((Role::Replica, spec));
                    }
                }
            }
            Err(how) => failed.push((format!("{source:?}"), how)),
        }
    }
    (specs, failed)
}

async fn discover(source: &dyn Discovery) -> Result<Vec<NodeSpec>, String> {
    let found = timeout(DISCOVERY, source.discover()).await.map_err(|_| no_answer(DISCOVERY))?;
    let nodes = found.map_err(|error| Chain(&*error).to_string())?;
    nodes.into_iter().map(|node| node.check().map_err(|error| error.to_string())).collect()
}

async fn ask(config: &Config, listed: Role, spec: &NodeSpec) -> Asked {
    let NodeSpec { name, endpoint, weight: _, zone: _, pool_size } = spec;
    let (answer, session) = match server(endpoint, config.connect_timeout).await {
        Ok((server, session)) => (Ok(server), Some(session)),
        Err(silent) => (Err(silent), None),
    };
    let node = Node {
        name: name.to_string(),
        listed,
        user: endpoint.user().to_owned(),
        mode: endpoint.tls_mode(),
        local: endpoint.is_local(),
        pool_size: pool_size.unwrap_or(config.pool_size),
        answer,
    };
    Asked { node, session }
}

async fn server(endpoint: &Endpoint, connect_timeout: Duration) -> Result<(Server, Session), Silent> {
    let Opened { mut session, link, refuses_reads } = open(endpoint, connect_timeout).await?;
    let seen = match timeout(ANSWER, session.ask()).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(failure)) => return Err(Silent::of_probe(failure)),
        Err(_) => return Err(Silent { cause: Cause::TimedOut, text: no_answer(ANSWER) }),
    };
    let told = timeout(ANSWER, questions::ask(session.client())).await.unwrap_or_default();
    let access = session.access();
    let second = async {
        let dialed = endpoint.connect_raw(access).await.ok()?;
        let session = Session::on(dialed, access);
        questions::whom(session.client()).await
    };
    let second = timeout(connect_timeout, second).await.ok().flatten();
    let server = Server {
        refuses_reads,
        link,
        sees_tls: told.sees_tls,
        // The process of a session that goes on serves nobody else.
        pooled: second.zip(told.whom).is_some_and(|(second, first)| second == first),
        several: second.is_some_and(|second| second.started != seen.identity.started),
        seen,
        account: told.account,
        settings: told.settings,
        usage: told.usage,
        slots: told.slots,
        conflicts: told.conflicts,
        replay: None,
    };
    Ok((server, session))
}

/// A connection for questions.
pub(crate) struct Opened {
    pub(crate) session: Session,
    link: Link,
    refuses_reads: Option<String>,
}

/// Opens one as pools for reads do; and otherwise where a pooler does not let that through.
pub(crate) async fn open(endpoint: &Endpoint, limit: Duration) -> Result<Opened, Silent> {
    let dial = async |access| {
        let dialed = timeout(limit, endpoint.connect_raw(access)).await;
        dialed.unwrap_or(Err(ConnectError::TimedOut(limit)))
    };
    let (dialed, access, refuses_reads) = match dial(Access::ReadOnly).await {
        Ok(dialed) => (dialed, Access::ReadOnly, None),
        Err(error @ (ConnectError::OptionsRefused(_) | ConnectError::Writable)) => {
            let dialed = dial(Access::ReadWrite).await.map_err(|error| Silent::of(&error))?;
            (dialed, Access::ReadWrite, Some(Chain(&error).to_string()))
        }
        Err(error) => return Err(Silent::of(&error)),
    };
    let link = match (endpoint.tcp, dialed.is_encrypted()) {
        (false, _) => Link::Socket,
        (true, false) => Link::Plain,
        (true, true) => Link::Encrypted,
    };
    Ok(Opened { session: Session::on(dialed, access), link, refuses_reads })
}

impl Silent {
    fn of(error: &ConnectError) -> Self {
        let text = Chain(error).to_string();
        let cause = match error {
            ConnectError::Server(_) if text.contains("password missing") => Cause::Login,
            ConnectError::Server(error) => match error.code().map(|code| code.code()) {
                None => Cause::Network,
                Some("3D000") => Cause::NoDatabase,
                Some("53300") => Cause::Full,
                Some("57P01" | "57P02" | "57P03") => Cause::NotReady,
                Some(code) if code.starts_with("28") => Cause::Login,
                Some(_) => Cause::Other,
            },
            ConnectError::TimedOut(_) => Cause::TimedOut,
            ConnectError::Setup(_) => Cause::Other,
            ConnectError::Tls(_)
            | ConnectError::Unencrypted(_)
            | ConnectError::ClientCertificate(_)
            | ConnectError::Password(_)
            | ConnectError::OptionsRefused(_)
            | ConnectError::Writable => Cause::Told,
        };
        Self { cause, text }
    }

    fn of_probe(failure: ProbeFailure) -> Self {
        match failure {
            ProbeFailure::Failed(text) => Self { cause: Cause::Other, text: text.to_string() },
            ProbeFailure::Full(text) => Self { cause: Cause::Full, text: text.to_string() },
            ProbeFailure::TimedOut { after, .. } => Self { cause: Cause::TimedOut, text: no_answer(after) },
        }
    }
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {}", Millis(limit))
}

//! A client's session: transactions of its own, all of them savepoints in the one that is rolled back.

use super::backend::{Backend, Failure};
use super::client::{Client, Unit};
use super::frame::{Frame, text};
use super::lag::{self, Bound};
use super::node::{self, Node};
use super::sql::{self, Control};
use super::stage::{Holder, Stage};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// What begins a client's transaction, or a command outside of one.
const BEGIN: &str = "SAVEPOINT diesel_replicas_transaction";
const ROLLBACK: &str = "ROLLBACK TO diesel_replicas_transaction; RELEASE diesel_replicas_transaction";
const RELEASE: &str = "RELEASE diesel_replicas_transaction";
/// What a commit checks, and stays to be checked until then.
const CHECK: &str = "SAVEPOINT diesel_replicas_check; SET CONSTRAINTS ALL IMMEDIATE; \
     ROLLBACK TO diesel_replicas_check; RELEASE diesel_replicas_check";

/// The settings that Diesel makes on a new connection. They are made already, and no connection is to wait for it.
const SETTINGS: [&str; 2] = ["SET TIME ZONE 'UTC'", "SET CLIENT_ENCODING TO 'UTF8'"];

pub(super) struct Session {
    stage: Arc<Stage>,
    node: Node,
    /// Refuses writes from the first command on.
    read_only: bool,
    client: Client,
    /// The text of each prepared statement.
    statements: HashMap<String, String>,
    state: State,
}

/// Of the transaction, as the client is told.
enum State {
    Idle,
    Open(OwnedMutexGuard<Backend>),
    Failed(OwnedMutexGuard<Backend>),
}

impl State {
    fn status(&self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open(_) => b'T',
            Self::Failed(_) => b'E',
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Error,
}

impl Session {
    pub(super) fn new(stage: Arc<Stage>, node: Node, read_only: bool, client: Client) -> Self {
        Self { stage, node, read_only, client, statements: HashMap::new(), state: State::Idle }
    }

    /// Serves the client until it has gone, and rolls back what it has left open.
    pub(super) async fn run(mut self) {
        let ended = self.serve().await;
        if let Err(failure) = ended {
            self.stage.fail(failure.to_string());
            let fault = self.stage.fault().unwrap_or_default();
            self.client.say(Frame::fatal("57P01", &fault));
            if !matches!(self.state, State::Idle) {
                self.stage.held_by(None);
            }
            return self.client.close().await;
        }
        if let State::Open(backend) | State::Failed(backend) = &mut self.state
            && let Err(failure) = backend.batch(ROLLBACK).await
        {
            self.stage.fail(failure.to_string());
        }
        if !matches!(self.state, State::Idle) {
            self.stage.held_by(None);
        }
    }

    async fn serve(&mut self) -> Result<(), Failure> {
        while let Some(unit) = self.client.next().await {
            match unit {
                Unit::Simple(sql) => self.simple(&sql).await?,
                Unit::Extended(frames) => self.extended(frames).await?,
            }
            self.client.say(Frame::ready(self.state.status()));
        }
        Ok(())
    }

    async fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        let commands = sql::commands(sql);
        if commands.is_empty() {
            self.client.say(Frame::new(b'I', []));
        }
        if !commands.iter().any(|command| sql::control(command).is_some()) {
            if !commands.is_empty() {
                self.run_frames(vec![Frame::query(&node::of_commits(sql))], self.may_write(&commands), sql)
                    .await?;
            }
            return Ok(());
        }
        for command in commands {
            let end = match sql::control(command) {
                Some(control) => self.control(command, control).await?,
                None => {
                    let frames = vec![Frame::query(&node::of_commits(command))];
                    self.run_frames(frames, self.may_write(&[command]), command).await?
                }
            };
            if end == End::Error {
                break;
            }
        }
        Ok(())
    }

    async fn extended(&mut self, frames: Vec<Frame>) -> Result<(), Failure> {
        if let Some(answers) = self.answer_alone(&frames) {
            answers.into_iter().for_each(|answer| self.client.say(answer));
            return Ok(());
        }
        let mut sent = Vec::with_capacity(frames.len());
        let mut used = Vec::new();
        for frame in frames {
            let mut reader = frame.reader();
            match frame.kind {
                b'P' => {
                    let (Some(name), Some(sql)) = (reader.text(), reader.text()) else { continue };
                    if sql::control(sql).is_some() {
                        let text = "in a test database transactions are controlled by simple queries only: with \
                                    `transaction` and `batch_execute`, not with a prepared statement";
                        self.client.say(Frame::error("0A000", text));
                        return Ok(());
                    }
                    self.statements.insert(name.to_owned(), sql.to_owned());
                    let body = [text(name), text(&node::of_commits(sql)), reader.rest().to_vec()].concat();
                    sent.push(Frame::new(b'P', body));
                    continue;
                }
                b'B' => {
                    let _portal = reader.text();
                    let sql = reader.text().and_then(|name| self.statements.get(name));
                    used.extend(sql.cloned());
                }
                _ => {}
            }
            sent.push(frame);
        }
        let used: Vec<&str> = used.iter().map(String::as_str).collect();
        let last = used.last().copied().unwrap_or_default();
        self.run_frames(sent, self.may_write(&used), last).await?;
        Ok(())
    }

    /// Runs what ends with one `ReadyForQuery`, as a transaction of its own unless one is open.
    async fn run_frames(&mut self, frames: Vec<Frame>, may_write: bool, last: &str) -> Result<End, Failure> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                let Some(mut backend) = self.take().await else { return Ok(End::Error) };
                let begin = self.begin(self.read_only, false);
                backend.batch(&begin).await?;
                let end = self.forward(&mut backend, frames).await?;
                if end == End::Error {
                    backend.batch(ROLLBACK).await?;
                    return Ok(end);
                }
                self.end(&mut backend, may_write).await
            }
            State::Open(mut backend) | State::Failed(mut backend) => {
                self.hold(last, None);
                let end = self.forward(&mut backend, frames).await?;
                self.hold(last, Some(Instant::now()));
                // What has failed is mended by `ROLLBACK TO`.
                self.state = if end == End::Done { State::Open(backend) } else { State::Failed(backend) };
                Ok(end)
            }
        }
    }

    async fn control(&mut self, command: &str, control: Control) -> Result<End, Failure> {
        let open = !matches!(self.state, State::Idle);
        match control {
            Control::Refused(what) => {
                let text =
                    format!("{what} cannot be had in a test database, whose transaction is rolled back");
                self.client.say(Frame::error("0A000", &text));
                Ok(End::Error)
            }
            Control::Savepoint if !open => {
                let word = sql::first_word(command).to_ascii_uppercase();
                self.client
                    .say(Frame::error("25P01", &format!("{word} can only be used in transaction blocks")));
                Ok(End::Error)
            }
            Control::Savepoint => self.run_frames(vec![Frame::query(command)], false, command).await,
            // The server has its own words for it.
            Control::Begin { .. } if matches!(self.state, State::Failed(_)) => {
                self.run_frames(vec![Frame::query(command)], false, command).await
            }
            Control::Begin { .. } if open => Ok(self.complete("BEGIN")),
            Control::Begin { serializable: true, .. } if self.node != Node::Primary => {
                let text = "cannot use serializable mode in a hot standby";
                self.client.say(Frame::error("0A000", text));
                Ok(End::Error)
            }
            Control::Begin { read_only, .. } => {
                let Some(mut backend) = self.take().await else { return Ok(End::Error) };
                let read_only = self.node != Node::Primary || read_only.unwrap_or(self.read_only);
                backend.batch(&self.begin(read_only, true)).await?;
                self.hold("nothing", Some(Instant::now()));
                self.state = State::Open(backend);
                Ok(self.complete("BEGIN"))
            }
            Control::Commit => match std::mem::replace(&mut self.state, State::Idle) {
                State::Idle => Ok(self.complete("COMMIT")),
                State::Open(mut backend) => {
                    let end = self.end(&mut backend, !self.read_only).await;
                    self.stage.held_by(None);
                    drop(backend);
                    let end = end?;
                    Ok(if end == End::Done { self.complete("COMMIT") } else { end })
                }
                State::Failed(backend) => self.roll_back(backend).await,
            },
            Control::Rollback => match std::mem::replace(&mut self.state, State::Idle) {
                State::Idle => Ok(self.complete("ROLLBACK")),
                State::Open(backend) | State::Failed(backend) => self.roll_back(backend).await,
            },
        }
    }

    fn complete(&self, tag: &str) -> End {
        self.client.say(Frame::complete(tag));
        End::Done
    }

    async fn roll_back(&mut self, mut backend: OwnedMutexGuard<Backend>) -> Result<End, Failure> {
        let rolled_back = backend.batch(ROLLBACK).await;
        self.stage.held_by(None);
        rolled_back?;
        Ok(self.complete("ROLLBACK"))
    }

    /// The session, unless it cannot be had, which the client is told.
    async fn take(&mut self) -> Option<OwnedMutexGuard<Backend>> {
        let stage = Arc::clone(&self.stage);
        let taken = tokio::select! {
            taken = stage.session() => taken,
            () = self.client.interrupted() => {
                Err(Frame::error("57014", "canceling statement due to user request"))
            }
        };
        taken.inspect_err(|refusal| self.client.say(refusal.clone())).ok()
    }

    fn begin(&self, read_only: bool, in_transaction: bool) -> String {
        let read_only = if read_only { "; SET LOCAL transaction_read_only TO on" } else { "" };
        let written = if in_transaction { "yes" } else { "" };
        let answers = self.node.answers(&self.stage);
        format!("{BEGIN}; {answers}; SET diesel_replicas.written TO '{written}'{read_only}")
    }

    /// Commits what stands in the savepoint. Where that fails, the client is told.
    async fn end(&mut self, backend: &mut Backend, may_write: bool) -> Result<End, Failure> {
        if !may_write {
            backend.batch(RELEASE).await?;
            return Ok(End::Done);
        }
        match backend.batch(&format!("{CHECK}; {RELEASE}")).await {
            Ok(_) => {
                self.stage.committed();
                Ok(End::Done)
            }
            Err(Failure::Refused(refusal)) => {
                backend.batch(ROLLBACK).await?;
                self.client.say(refusal);
                Ok(End::Error)
            }
            Err(lost) => Err(lost),
        }
    }

    /// Whether these may change what others see.
    fn may_write(&self, commands: &[&str]) -> bool {
        let is_question = |sql: &&str| node::of_commits(sql) != *sql;
        !self.read_only && !commands.is_empty() && !commands.iter().all(is_question)
    }

    fn hold(&self, last: &str, idle_since: Option<Instant>) {
        let kind = if self.read_only { "read" } else { "write" };
        let who = format!("a {kind} handle of `{}`", self.node.name());
        let last = match last {
            "nothing" => "nothing".to_owned(),
            sql => format!("`{}`", sql::first_word(sql).to_ascii_uppercase()),
        };
        self.stage.held_by(Some(Holder { who, last, idle_since }));
    }

    /// Sends the client's messages, and the client the answers.
    async fn forward(&mut self, backend: &mut Backend, frames: Vec<Frame>) -> Result<End, Failure> {
        let lags = matches!(self.node, Node::Replica(_)) && self.stage.paused().is_some();
        if !lags || !frames.iter().any(|frame| frame.kind == b'B') {
            return self.client.exchange(backend, &self.stage, &frames, Some).await.map(ended);
        }
        // In parts, each of which ends before a `Bind`.
        let mut part = Vec::new();
        let mut fetches = false;
        for frame in frames {
            let bound = (frame.kind == b'B').then(|| Bound::read(&frame)).flatten();
            let query = bound.as_ref().and_then(|bound| self.statements.get(bound.statement));
            let Some((bound, query)) = bound.as_ref().zip(query.filter(|query| lag::reads(query))) else {
                part.push(frame);
                continue;
            };
            if self.part(backend, std::mem::take(&mut part), &mut fetches).await? == End::Error {
                return Ok(End::Error);
            }
            match lag::open(backend, query, bound).await {
                Ok(instead) => part = instead,
                Err(Failure::Refused(refusal)) => {
                    self.client.say(refusal);
                    // The savepoint is rolled back; inside of a transaction, the server has to know that it failed.
                    let _ = backend.batch("DO $$ BEGIN RAISE EXCEPTION 'failed'; END $$").await;
                    return Ok(End::Error);
                }
                Err(lost) => return Err(lost),
            }
            fetches = true;
        }
        self.part(backend, part, &mut fetches).await
    }

    /// Sends a part of what a client has sent at once, with a `Sync` of its own if it has none.
    async fn part(
        &self,
        backend: &mut Backend,
        mut part: Vec<Frame>,
        fetches: &mut bool,
    ) -> Result<End, Failure> {
        if part.is_empty() {
            return Ok(End::Done);
        }
        if part.last().is_none_or(|frame| frame.kind != b'S') {
            part.push(Frame::sync());
        }
        // That of the `FETCH` itself, which the client has not sent.
        let mut own_parse = std::mem::take(fetches);
        let fetched = own_parse;
        let answer = |frame: Frame| match frame.kind {
            b'1' if std::mem::take(&mut own_parse) => None,
            b'C' if fetched => Some(lag::as_query(frame)),
            _ => Some(frame),
        };
        let end = ended(self.client.exchange(backend, &self.stage, &part, answer).await?);
        if end == End::Done && fetched {
            backend.batch(lag::CLOSE).await?;
        }
        Ok(end)
    }

    /// The answers to what needs no server: Diesel's settings, and statements that are closed, which happens at any time.
    fn answer_alone(&mut self, frames: &[Frame]) -> Option<Vec<Frame>> {
        let mut answers = Vec::new();
        for frame in frames {
            let mut reader = frame.reader();
            let is_setting = |name: Option<&str>| {
                name.and_then(|name| self.statements.get(name))
                    .is_some_and(|sql| SETTINGS.contains(&sql.as_str()))
            };
            match frame.kind {
                b'P' => {
                    let (name, sql) = (reader.text()?, reader.text()?);
                    if !SETTINGS.contains(&sql) {
                        return None;
                    }
                    self.statements.insert(name.to_owned(), sql.to_owned());
                    answers.push(Frame::new(b'1', []));
                }
                b'D' => {
                    let statement = reader.byte()? == b'S';
                    if !statement || !is_setting(reader.text()) {
                        return None;
                    }
                    // No parameters, no rows.
                    answers.extend([Frame::new(b't', [0, 0]), Frame::new(b'n', [])]);
                }
                b'B' => {
                    let _portal = reader.text()?;
                    if !is_setting(reader.text()) {
                        return None;
                    }
                    answers.push(Frame::new(b'2', []));
                }
                // Of what was bound right before.
                b'E' if answers.last()?.kind == b'2' => answers.push(Frame::complete("SET")),
                b'C' => answers.push(Frame::new(b'3', [])),
                b'S' => {}
                _ => return None,
            }
        }
        Some(answers)
    }
}

/// By the status of the server's own transaction, which is always open.
fn ended(status: u8) -> End {
    if status == b'T' { End::Done } else { End::Error }
}

//! A client's session: transactions of its own, all of them savepoints in the one that is rolled back.

mod forward;
mod settings;
mod transaction;

use super::backend::{Backend, Failure};
use super::client::{Client, Unit};
use super::frame::{Frame, text};
use super::node::{self, Node};
use super::sql;
use super::stage::Stage;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use transaction::ROLLBACK;

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
        if let Some(answers) = settings::answer(&mut self.statements, &frames) {
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

    /// Whether these may change what others see.
    fn may_write(&self, commands: &[&str]) -> bool {
        let is_question = |sql: &&str| node::of_commits(sql) != *sql;
        !self.read_only && !commands.is_empty() && !commands.iter().all(is_question)
    }
}

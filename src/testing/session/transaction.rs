//! A client's transactions, as savepoints.

use super::{End, Session, State};
use crate::testing::backend::{Backend, Failure};
use crate::testing::frame::Frame;
use crate::testing::node::Node;
use crate::testing::sql::{self, Control};
use crate::testing::stage::Holder;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// What begins a client's transaction, or a command outside of one.
const BEGIN: &str = "SAVEPOINT diesel_replicas_transaction";
pub(super) const ROLLBACK: &str =
    "ROLLBACK TO diesel_replicas_transaction; RELEASE diesel_replicas_transaction";
const RELEASE: &str = "RELEASE diesel_replicas_transaction";
/// What a commit checks, and stays to be checked until then.
const CHECK: &str = "SAVEPOINT diesel_replicas_check; SET CONSTRAINTS ALL IMMEDIATE; \
     ROLLBACK TO diesel_replicas_check; RELEASE diesel_replicas_check";

impl Session {
    pub(super) async fn control(&mut self, command: &str, control: Control) -> Result<End, Failure> {
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
                self.hold("", Some(Instant::now()));
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

    pub(super) fn complete(&self, tag: &str) -> End {
        self.client.say(Frame::complete(tag));
        End::Done
    }

    pub(super) async fn roll_back(&mut self, mut backend: OwnedMutexGuard<Backend>) -> Result<End, Failure> {
        let rolled_back = backend.batch(ROLLBACK).await;
        self.stage.held_by(None);
        rolled_back?;
        Ok(self.complete("ROLLBACK"))
    }

    pub(super) fn begin(&self, read_only: bool, in_transaction: bool) -> String {
        let read_only = if read_only { "; SET LOCAL transaction_read_only TO on" } else { "" };
        let written = if in_transaction { "yes" } else { "" };
        let answers = self.node.answers(&self.stage);
        format!("{BEGIN}; {answers}; SET diesel_replicas.written TO '{written}'{read_only}")
    }

    /// Commits what stands in the savepoint. Where that fails, the client is told.
    pub(super) async fn end(&mut self, backend: &mut Backend, may_write: bool) -> Result<End, Failure> {
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

    pub(super) fn hold(&self, last: &str, idle_since: Option<Instant>) {
        let kind = if self.read_only { "read" } else { "write" };
        let who = format!("a {kind} handle of `{}`", self.node.name());
        let last = match sql::first_word(last) {
            "" => "nothing".to_owned(),
            word => format!("`{}`", word.to_ascii_uppercase()),
        };
        self.stage.held_by(Some(Holder { who, last, idle_since }));
    }
}

//! Passes on what a client sends, and the server's answers; on a replica that lags, to a cursor.

use super::{End, Session};
use crate::testing::backend::{Backend, Failure};
use crate::testing::frame::Frame;
use crate::testing::lag::{self, Bound};
use crate::testing::node::Node;

impl Session {
    /// Sends the client's messages, and the client the answers.
    pub(super) async fn forward(
        &mut self,
        backend: &mut Backend,
        frames: Vec<Frame>,
    ) -> Result<End, Failure> {
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
}

/// By the status of the server's own transaction, which is always open.
fn ended(status: u8) -> End {
    if status == b'T' { End::Done } else { End::Error }
}

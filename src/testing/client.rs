//! A client's side of a session.

use super::backend::{Backend, Failure};
use super::frame::Frame;
use super::stage::Stage;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// Reads ahead, so that its end is noticed, and never waits for it to read.
pub(super) struct Client {
    frames: mpsc::UnboundedReceiver<Frame>,
    answers: mpsc::UnboundedSender<Frame>,
    writing: JoinSet<()>,
    /// By a request to cancel.
    cancelled: Arc<Notify>,
    gone: watch::Receiver<bool>,
    _reading: JoinSet<()>,
}

/// What the server answers with one `ReadyForQuery`.
pub(super) enum Unit {
    Simple(String),
    /// To its `Sync`.
    Extended(Vec<Frame>),
}

impl Client {
    pub(super) fn new(stream: TcpStream, cancelled: Arc<Notify>) -> Self {
        let (reading, writing) = stream.into_split();
        let (told, frames) = mpsc::unbounded_channel();
        let (answers, said) = mpsc::unbounded_channel();
        let (leaves, gone) = watch::channel(false);
        let (mut reads, mut writes) = (JoinSet::new(), JoinSet::new());
        reads.spawn(async move {
            read(reading, told).await;
            leaves.send_replace(true);
        });
        writes.spawn(write(writing, said));
        Self { frames, answers, writing: writes, cancelled, gone, _reading: reads }
    }

    /// Waits until the client has been sent all that was said to it.
    pub(super) async fn close(self) {
        let Self { answers, writing, .. } = self;
        drop(answers);
        writing.join_all().await;
    }

    /// `None` when the client has gone.
    pub(super) async fn next(&mut self) -> Option<Unit> {
        let mut frames = VecDeque::new();
        loop {
            let frame = self.frames.recv().await?;
            match frame.kind {
                b'X' => return None,
                b'Q' => return Some(Unit::Simple(frame.reader().text().unwrap_or_default().to_owned())),
                b'S' => {
                    frames.push_back(frame);
                    return Some(Unit::Extended(frames.into()));
                }
                // Whatever has been sent is run at the `Sync`.
                b'H' => {}
                _ => frames.push_back(frame),
            }
        }
    }

    pub(super) fn say(&self, frame: Frame) {
        // It may have gone.
        let _ = self.answers.send(frame);
    }

    /// Ends when the client cancels what it has asked for, or has gone.
    pub(super) async fn interrupted(&self) {
        let mut gone = self.gone.clone();
        tokio::select! {
            () = self.cancelled.notified() => {}
            _ = gone.wait_for(|gone| *gone) => {}
        }
    }

    /// Sends the messages, passes the answers on as `pass` has them, and gives the status that the server ends with. The server is
    /// interrupted when the client cancels or goes.
    pub(super) async fn exchange(
        &self,
        backend: &mut Backend,
        stage: &Stage,
        frames: &[Frame],
        mut pass: impl FnMut(Frame) -> Option<Frame> + Send,
    ) -> Result<u8, Failure> {
        let (mut status, interrupted) = {
            let mut answering = std::pin::pin!(answers(backend, frames, |frame| {
                pass(frame).into_iter().for_each(|frame| self.say(frame));
            }));
            tokio::select! {
                biased;
                status = &mut answering => (status?, false),
                () = self.interrupted() => {
                    stage.interrupt().await;
                    (answering.await?, true)
                }
            }
        };
        if interrupted && status != b'I' {
            // What was to interrupt the statement and came late is to meet nothing else.
            status = answers(backend, &[Frame::query("SELECT 1")], drop).await?;
        }
        if status == b'I' {
            let ended = "a statement has ended the transaction of the test database: what was written in it may be there for good";
            return Err(Failure::Lost(io::Error::other(ended)));
        }
        Ok(status)
    }
}

/// Sends the messages, gives the answers to `pass`, and returns the status that the server ends with.
async fn answers(backend: &mut Backend, frames: &[Frame], mut pass: impl FnMut(Frame)) -> io::Result<u8> {
    backend.send(frames).await?;
    loop {
        let frame = backend.receive().await?;
        match frame.kind {
            b'Z' => return Ok(frame.body.first().copied().unwrap_or(b'I')),
            b'G' => {
                let mut refuse = vec![Frame::new(b'f', *b"a test database cannot be copied into\0")];
                // The one that was sent is lost in what was to be copied.
                refuse.extend(frames.iter().find(|frame| frame.kind == b'S').cloned());
                backend.send(&refuse).await?;
            }
            _ => pass(frame),
        }
    }
}

async fn read(mut stream: OwnedReadHalf, told: mpsc::UnboundedSender<Frame>) {
    while let Ok(frame) = Frame::read(&mut stream).await {
        if told.send(frame).is_err() {
            return;
        }
    }
}

async fn write(mut stream: OwnedWriteHalf, mut said: mpsc::UnboundedReceiver<Frame>) {
    let mut frames = Vec::new();
    while said.recv_many(&mut frames, 64).await > 0 {
        let mut bytes = Vec::new();
        frames.drain(..).for_each(|frame| frame.append_to(&mut bytes));
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

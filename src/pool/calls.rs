//! Follows Diesel's calls on a connection: a call that has begun and not ended was dropped on the way.

use super::record::Record;
use super::wire::Wire;
use crate::failure::Cause;
use diesel::connection::{Instrumentation, InstrumentationEvent, get_default_instrumentation};
use diesel::result::{DatabaseErrorKind, Error};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Diesel's hook for what happens on a connection. Hands everything on to the hook that the service has set for new
/// connections, if it has.
///
/// To Diesel a call that loads rows ends when the server has begun to answer, and never when its connection is lost at the wrong
/// moment. What comes later, only the tap sees.
pub(super) struct Calls {
    record: Arc<Record>,
    /// Absent where the protocol cannot be watched.
    wire: Option<Arc<Wire>>,
    /// Since when the server has had nothing to do but the call that ends next.
    since: Instant,
    next: Option<Box<dyn Instrumentation>>,
}

impl Calls {
    pub(super) fn new(record: Arc<Record>, wire: Option<Arc<Wire>>) -> Self {
        Self { record, wire, since: Instant::now(), next: get_default_instrumentation() }
    }

    fn began(&mut self, now: Instant) {
        let quiet = self.wire.as_ref().is_some_and(|wire| wire.is_quiet());
        if self.record.call_began(quiet) {
            self.since = now;
        }
    }

    /// How long the server took. It answers the calls on one connection one after the other.
    fn ended(&mut self, now: Instant) -> Duration {
        self.record.call_ended();
        now - std::mem::replace(&mut self.since, now)
    }
}

/// Whether the server sent this error. One that it could not send is no answer, nor is one that kept the call from being sent.
fn is_answer(error: &Error) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(error, Error::DatabaseError(kind, _) if !matches!(kind, ClosedConnection | UnableToSendCommand))
}

impl Instrumentation for Calls {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match &event {
            InstrumentationEvent::StartQuery { .. } => self.began(Instant::now()),
            InstrumentationEvent::FinishQuery { error, .. } => {
                let now = Instant::now();
                let took = self.ended(now);
                if let (None, Some(error)) = (&self.wire, error) {
                    self.record.hear(Cause::of(error), true);
                }
                if error.is_none_or(is_answer) {
                    self.record.answered(took, now);
                }
            }
            _ => {}
        }
        self.next.on_connection_event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Traffic;

    fn calls() -> Calls {
        let record = Record::new(Arc::<Traffic>::default(), false);
        record.lend();
        Calls::new(Arc::new(record), None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_takes_from_its_beginning_or_the_end_of_the_one_before() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut calls = calls();
        calls.began(start);
        assert_eq!(calls.ended(start + ms(3)), ms(3));
        calls.began(start + ms(10));
        calls.began(start + ms(11));
        assert_eq!(calls.ended(start + ms(15)), ms(5));
        calls.began(start + ms(16));
        assert_eq!(calls.ended(start + ms(17)), ms(2), "it was sent along with the first");
        assert_eq!(calls.ended(start + ms(20)), ms(3));
        calls.began(start + ms(30));
        assert_eq!(calls.ended(start + ms(31)), ms(1));
    }

    #[test]
    fn only_what_the_server_sent_is_an_answer() {
        use DatabaseErrorKind::*;
        let database = |kind| Error::DatabaseError(kind, Box::new(String::new()));
        for (error, expected) in [
            (database(UniqueViolation), true),
            (database(Unknown), true),
            (database(SerializationFailure), true),
            (database(UnableToSendCommand), false),
            (database(ClosedConnection), false),
            (Error::QueryBuilderError("no SQL".into()), false),
            (Error::SerializationError("no bind".into()), false),
        ] {
            assert_eq!(is_answer(&error), expected, "{error:?}");
        }
    }
}

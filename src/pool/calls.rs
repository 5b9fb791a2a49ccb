//! Counts Diesel's calls on a connection: a call that has begun and not ended was dropped on the way.

use super::wire::Wire;
use diesel::connection::{Instrumentation, InstrumentationEvent, get_default_instrumentation};
use std::sync::Arc;

/// Diesel's hook for what happens on a connection. Hands everything on to the hook that the service has set for new
/// connections, if it has.
pub(super) struct Calls {
    wire: Arc<Wire>,
    next: Option<Box<dyn Instrumentation>>,
}

impl Calls {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self { wire, next: get_default_instrumentation() }
    }
}

impl Instrumentation for Calls {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.wire.call_began(),
            InstrumentationEvent::FinishQuery { .. } => self.wire.call_ended(),
            _ => {}
        }
        self.next.on_connection_event(event);
    }
}

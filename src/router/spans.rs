//! The `tracing` spans of a request, and of the handle that comes of it.
//!
//! Where nobody listens nothing is allocated for them, and no clock is read.

use crate::conn::Freshness;
use crate::fleet::Role;
use crate::pool::Lease;
use crate::topology::{Node, Topology};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Span, debug_span};

/// What is traced of one request.
pub(super) struct Spans {
    request: Span,
    access: &'static str,
    freshness: &'static str,
    /// Where somebody listens: the caller's span, to which the handle belongs and not to the request, which is over by then; and
    /// when the request began.
    heard: Option<(Span, Instant)>,
}

impl Spans {
    /// A request begins.
    pub(super) fn begin<F: Freshness>(access: &'static str) -> Self {
        let freshness = F::NAME;
        let request = debug_span!("checkout", access, freshness, node = Empty, role = Empty, wait_us = Empty);
        let heard = (!request.is_disabled()).then(|| (Span::current(), Instant::now()));
        Self { request, access, freshness, heard }
    }

    /// For what is done until the request has a connection.
    pub(super) fn request(&self) -> Span {
        self.request.clone()
    }

    /// The request has got this node's connection. The other span lasts until that is given back.
    pub(super) fn end(self, node: &Arc<Node>, topology: &Topology, lease: &mut Lease) {
        let Self { request, access, freshness, heard } = self;
        let Some((caller, began)) = heard else { return };
        let role = match topology.seen(node).map(|seen| seen.view.role) {
            Some(Role::Primary) => "primary",
            Some(Role::Replica) => "replica",
            None => "removed",
        };
        let wait_us = began.elapsed().as_micros() as u64;
        let node = &*node.name;
        request.record("node", node).record("role", role).record("wait_us", wait_us);
        lease.trace(debug_span!(parent: &caller, "handle", access, freshness, node, role, wait_us));
    }
}

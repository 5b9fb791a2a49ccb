//! What the monitor can be told to do.

use crate::config::NodeSpec;
use crate::error::Error;
use crate::topology::Settings;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where the answer goes; whoever asked may have gone.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A change of the nodes or of the settings. The monitor makes it, so that there is one who publishes.
#[derive(Debug)]
pub(crate) enum Command {
    Add(Box<NodeSpec>, Reply<()>),
    /// Answered when the node is gone, with the number of handles that had to be cut.
    Remove(Arc<str>, Reply<usize>),
    SetWeight(Arc<str>, u32, Reply<()>),
    /// The nodes are all that are configured from now on, the primary first.
    Reload {
        nodes: Vec<NodeSpec>,
        settings: Arc<Settings>,
        reply: Reply<()>,
    },
    /// All nodes that a source of discovery knows of.
    Discovered {
        source: usize,
        nodes: Vec<NodeSpec>,
    },
}

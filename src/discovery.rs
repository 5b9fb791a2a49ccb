//! Where nodes come from that nobody has named: asked again and again, never while a request waits.

mod dns;
mod refresh;
mod standby;

pub use dns::DnsDiscovery;
pub(crate) use refresh::watch;
pub use standby::StandbyDiscovery;

use crate::config::NodeConfig;
use std::{error::Error, fmt, pin::Pin};

/// A source of nodes that come and go: a registry, a name in DNS, the primary itself.
///
/// The router asks it when it starts, and then every [`discovery_interval`](crate::RouterBuilder::discovery_interval). What it
/// answers is the whole set: nodes that are new in it are added, nodes that two answers in a row lack are drained and removed. When it
/// fails, the last good answer stays. Its `Debug` is what logs call it: it should show no secret.
///
/// # Example
///
/// ```
/// use diesel_replicas::{Discovering, Discovery, NodeConfig};
///
/// /// A file with one URL a line.
/// #[derive(Debug)]
/// struct Listed(std::path::PathBuf);
///
/// impl Discovery for Listed {
///     fn discover(&self) -> Discovering<'_> {
///         Box::pin(async {
///             let text = tokio::fs::read_to_string(&self.0).await?;
///             Ok(text.lines().map(NodeConfig::from).collect())
///         })
///     }
/// }
/// # let _ = diesel_replicas::Router::builder().discover(Listed("replicas".into()));
/// ```
pub trait Discovery: fmt::Debug + Send + Sync + 'static {
    /// Every node that there is at this moment, in any order. An empty list says that there is none: what could not be found
    /// out is an error.
    ///
    /// # Cancel safety
    ///
    /// An answer that takes longer than the interval, or than 10 s, counts as a failure, and its future is dropped.
    fn discover(&self) -> Discovering<'_>;
}

/// The future of [`Discovery::discover`]: `Box::pin` of an `async` block.
pub type Discovering<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<NodeConfig>, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Always these nodes.
impl Discovery for Vec<NodeConfig> {
    fn discover(&self) -> Discovering<'_> {
        Box::pin(async { Ok(self.clone()) })
    }
}

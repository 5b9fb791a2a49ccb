//! What a node does not do or tell, so that routing has to do without.

use std::fmt;
use std::sync::Arc;

/// Something that a node does not do or tell, so that routing does without. `docs/managed.md` says what follows from each.
///
/// `Display` is one line without a final stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limitation {
    /// Connections are in plain text, though TLS was preferred (`sslmode=prefer` or `allow`); the text says why.
    Unencrypted(Arc<str>),
    /// The server refuses these functions: they were revoked, or a managed service does not have them.
    Withheld(Vec<&'static str>),
    /// The lag is what the server says (Amazon Aurora), not what was measured.
    LagReported,
    /// The role is no member of `pg_read_all_stats`, nor of `pg_monitor`.
    StatisticsHidden,
    /// Connections to its address lead to several servers, or have lately.
    SeveralServers,
}

impl Limitation {
    /// Whether it is to be expected of a role with no more rights than it needs.
    pub(crate) fn is_usual(&self) -> bool {
        matches!(self, Self::StatisticsHidden)
    }
}

impl fmt::Display for Limitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unencrypted(why) => write!(f, "connections are not encrypted: {why}"),
            Self::Withheld(functions) => {
                write!(f, "the server refuses {}", functions.join(", "))
            }
            Self::LagReported => f.write_str("its lag is what Amazon Aurora reports, not measured"),
            Self::StatisticsHidden => f.write_str(
                "the role is no member of pg_read_all_stats: it does not see which timeline a standby receives, nor which transactions commit",
            ),
            Self::SeveralServers => f.write_str(
                "its address leads to several servers: what is measured is of one of them; give each a URL of its own",
            ),
        }
    }
}

//! How new what a read sees has to be, as a value.

mod history;
mod keys;
#[cfg(feature = "serde")]
mod serde;
mod text;
mod token;

pub(crate) use history::{History, Mismatch, Target};
pub use keys::{TokenKeys, WeakKey};
pub use text::ParseTokenError;
pub use token::{CausalToken, DifferentClusters};

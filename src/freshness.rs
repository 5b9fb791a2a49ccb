//! How new what a read sees has to be.

mod keys;
#[cfg(feature = "serde")]
mod serde;
mod text;
mod token;

pub use keys::{TokenKeys, WeakKey};
pub use text::ParseTokenError;
pub use token::{CausalToken, DifferentClusters};

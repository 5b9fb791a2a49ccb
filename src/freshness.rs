//! Tokens: how new data has to be, as a value.

mod history;
mod token;

pub(crate) use history::{History, Mismatch, Target};
pub use token::CausalToken;

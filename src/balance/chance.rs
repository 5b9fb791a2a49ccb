//! Randomness for those that ask for it.

use rand::TryRng;
use std::convert::Infallible;

/// The thread's generator, which is looked up when something is drawn: most picks draw nothing.
#[derive(Debug)]
pub(crate) struct Chance;

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        rand::rng().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rand::rng().try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rand::rng().try_fill_bytes(bytes)
    }
}

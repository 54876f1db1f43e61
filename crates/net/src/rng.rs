//! Randomness from the operating system, as the cryptography crates take it.

use core::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

/// The operating system's entropy as a [`rand_core::CryptoRng`].
///
/// # Panics
///
/// Every use panics if the operating system has no entropy to give: a key made without it would be no key. After the machine
/// has booted that does not happen on the systems that are supported.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl TryRng for OsRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(drawn(getrandom::u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(drawn(getrandom::u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        drawn(getrandom::fill(bytes));
        Ok(())
    }
}

impl TryCryptoRng for OsRng {}

fn drawn<T>(drawn: Result<T, getrandom::Error>) -> T {
    drawn.expect("the operating system gives entropy after boot")
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;

    #[test]
    fn no_two_draws_are_alike() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        OsRng.fill_bytes(&mut a);
        OsRng.fill_bytes(&mut b);
        assert_ne!(a, b);
        assert_ne!(OsRng.next_u64(), OsRng.next_u64());
    }
}

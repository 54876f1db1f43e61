//! Bytes that are wiped when they are dropped and never printed.

use core::fmt;

use noise_protocol::U8Array;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret of `N` bytes.
///
/// It is the type of every key, chaining key, shared secret and hash block of a handshake, so that the Noise engine, which owns
/// its values through [`U8Array`], leaves none of them behind in memory.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// All zeros, to be filled.
    pub(crate) const fn zero() -> Self {
        Self([0; N])
    }

    /// Takes over bytes; the caller's own copy is the caller's to wipe.
    pub(crate) const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be used and not kept.
    pub(crate) const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be filled.
    pub(crate) const fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Clone for Secret<N> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<const N: usize> U8Array for Secret<N> {
    fn new() -> Self {
        Self::zero()
    }

    fn new_with(byte: u8) -> Self {
        Self([byte; N])
    }

    /// The trait demands equal lengths; the Noise engine cuts its slices by [`U8Array::len`].
    fn from_slice(bytes: &[u8]) -> Self {
        let mut secret = Self::zero();
        secret.0.copy_from_slice(bytes);
        secret
    }

    fn len() -> usize {
        N
    }

    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_wiped_when_it_goes() {
        fn is_wiped<T: ZeroizeOnDrop>() {}
        is_wiped::<Secret<32>>();
        let mut secret = Secret::new([0xaa; 32]);
        secret.zeroize();
        assert_eq!(secret.expose(), &[0; 32]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new([0xaa; 4])), "Secret(..)");
    }
}

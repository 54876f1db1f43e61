//! One direction's key and its nonces: a block is sealed or opened where it lies, and no nonce serves twice.

use core::hint::black_box;
use core::ops::RangeFrom;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, Tag, UnboundKey};

use crate::secret::Secret;

/// Bytes that authentication adds to every block (spec 3.1, `MAC`).
pub(crate) const MAC_LEN: usize = MAX_TAG_LEN;

/// Most plaintext bytes of one block: a Noise message of 65535 bytes less its MAC (spec 4.6).
pub(crate) const BLOCK_MAX: usize = 65_535 - MAC_LEN;

/// The length that `plaintext` bytes have once they are cut into blocks and sealed (spec 4.6).
pub(crate) const fn sealed_len(plaintext: usize) -> usize {
    plaintext + plaintext.div_ceil(BLOCK_MAX) * MAC_LEN
}

/// The key of one direction with the number of blocks it has served; deliberately not `Clone`.
///
/// The key is on the heap, so that moving a connection's state about leaves no copies of it behind. As ring wants it, it takes half a
/// kilobyte, which a peer gets with the first block: one that only shakes hands never has one.
pub(crate) struct BlockCipher {
    drawn: Option<Box<Secret<32>>>,
    ready: Option<Box<LessSafeKey>>,
    next_nonce: u64,
}

/// Every nonce has been used; only a new handshake helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// Why a block did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockError {
    Exhausted,
    Tampered,
}

impl BlockCipher {
    /// Noise keeps the last nonce for rekeying, which SV2 does not use.
    const NONCE_END: u64 = u64::MAX;

    pub(crate) fn new(key: &Secret<32>) -> Self {
        let drawn = Some(Box::new(Secret::new(*key.expose())));
        Self { drawn, ready: None, next_nonce: 0 }
    }

    /// The key as ring wants it; the bytes that it was made of are wiped.
    fn ready(&mut self) -> &LessSafeKey {
        let Self { drawn, ready, .. } = self;
        ready.get_or_insert_with(|| {
            let drawn = drawn.take().expect("the bytes are there until this was called once");
            Box::new(ring_key(&drawn))
        })
    }

    /// A cipher that has served `next_nonce` blocks already, to see it come to its end.
    #[cfg(test)]
    pub(crate) fn with_nonce(key: &Secret<32>, next_nonce: u64) -> Self {
        let mut cipher = Self::new(key);
        cipher.next_nonce = next_nonce;
        cipher
    }

    /// How many more blocks the key may serve.
    pub(crate) const fn blocks_left(&self) -> u64 {
        Self::NONCE_END - self.next_nonce
    }

    /// Encrypts a block where it lies; the answer is its MAC.
    pub(crate) fn seal(&mut self, block: &mut [u8]) -> Result<Tag, Exhausted> {
        let nonce = self.nonce().ok_or(Exhausted)?;
        let tag = self.ready().seal_in_place_separate_tag(nonce, Aad::empty(), block);
        self.next_nonce += 1;
        // ring refuses only a block of more than 256 GiB; no nonce could serve that one either.
        tag.map_err(|_| Exhausted)
    }

    /// Decrypts the block and MAC that `sealed` points at, and moves the plaintext to the front of `bytes`.
    pub(crate) fn open(&mut self, bytes: &mut [u8], sealed: RangeFrom<usize>) -> Result<(), BlockError> {
        let nonce = self.nonce().ok_or(BlockError::Exhausted)?;
        let opened = self.ready().open_within(nonce, Aad::empty(), bytes, sealed);
        opened.map_err(|_| BlockError::Tampered)?;
        self.next_nonce += 1;
        Ok(())
    }

    /// The next nonce, unless all have been used.
    fn nonce(&self) -> Option<Nonce> {
        if self.next_nonce == Self::NONCE_END {
            return None;
        }
        Some(noise_nonce(self.next_nonce))
    }
}

/// ring does not wipe its keys, so a key of zeros is written over the one that goes.
impl Drop for BlockCipher {
    fn drop(&mut self) {
        if let Some(key) = &mut self.ready {
            **key = ring_key(&Secret::zero());
            black_box(key);
        }
    }
}

/// A nonce as Noise writes it: four zeros and the counter, little-endian (spec 4.4.1).
pub(crate) fn noise_nonce(counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    let bytes: [u8; NONCE_LEN] = [0, 0, 0, 0, a, b, c, d, e, f, g, h];
    Nonce::assume_unique_for_key(bytes)
}

/// The key as ring wants it.
pub(crate) fn ring_key(key: &Secret<32>) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose());
    LessSafeKey::new(key.expect("a key of ChaCha20-Poly1305 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Secret<32> = Secret::new([7; 32]);

    #[test]
    fn sealed_lengths_follow_the_specification() {
        // The C function of spec 4.6, with its own names and constants.
        let pt_len_to_ct_len = |pt_len: usize| {
            let mut remainder = pt_len % 65_519;
            if remainder > 0 {
                remainder += 16;
            }
            pt_len / 65_519 * 65_535 + remainder
        };
        for len in (0..70).chain(65_500..65_540).chain(131_030..131_080).chain([1_000_000, (1 << 24) - 1]) {
            assert_eq!(sealed_len(len), pt_len_to_ct_len(len), "{len}");
        }
    }

    #[test]
    fn the_last_nonce_is_never_used() {
        let mut sealer = BlockCipher::with_nonce(&KEY, u64::MAX - 1);
        let mut opener = BlockCipher::with_nonce(&KEY, u64::MAX - 1);
        let mut block = *b"the last block..................";
        let (text, mac) = block.split_at_mut(16);
        mac.copy_from_slice(sealer.seal(text).unwrap().as_ref());
        assert_eq!(sealer.blocks_left(), 0);
        assert_eq!(sealer.seal(&mut [0; 1]).err(), Some(Exhausted));
        opener.open(&mut block, 0..).unwrap();
        assert_eq!(&block[..16], b"the last block..");
        assert_eq!(opener.open(&mut block, 0..), Err(BlockError::Exhausted));
    }

    #[test]
    fn equal_blocks_are_sealed_differently() {
        let mut cipher = BlockCipher::new(&KEY);
        let (mut first, mut second) = ([1; 33], [1; 33]);
        let tags = [cipher.seal(&mut first).unwrap(), cipher.seal(&mut second).unwrap()];
        assert_ne!(first, second);
        assert_ne!(tags[0].as_ref(), tags[1].as_ref());
    }

    #[test]
    fn a_range_outside_the_bytes_is_an_error() {
        let mut cipher = BlockCipher::new(&KEY);
        for len in [0, 1, 15, 16, 40] {
            assert_eq!(cipher.open(&mut vec![0; len], 41..), Err(BlockError::Tampered));
        }
    }
}

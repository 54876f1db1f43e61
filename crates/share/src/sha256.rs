//! SHA-256 in the pieces that shares need: midstates, whole blocks, and the hash of a hash.
//!
//! Everything of this crate that hashes on the path of a share goes through [`State::compress`] or, where two shares are hashed at
//! once, [`Pair::compress`], so that a test can count there.

mod pair;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

pub(crate) use self::pair::{Pair, parents};
use sha2::block_api::compress256;

/// Length of what one compression takes in, in bytes.
pub(crate) const BLOCK_LEN: usize = 64;

/// What one compression takes in.
pub(crate) type Block = [u8; BLOCK_LEN];

/// The state between two compressions: a midstate, or at the end the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State([u32; 8]);

impl State {
    /// The state before the first block (FIPS 180-4, 5.3.3).
    pub(crate) const INITIAL: Self = Self([
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ]);

    /// Takes in whole blocks.
    #[inline]
    pub(crate) fn compress(&mut self, blocks: &[Block]) {
        #[cfg(test)]
        count::add(blocks.len());
        compress256(&mut self.0, blocks);
    }

    /// The hash that this state is after the last, padded block.
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (chunks, _) = bytes.as_chunks_mut::<4>();
        for (chunk, word) in chunks.iter_mut().zip(self.0) {
            *chunk = word.to_be_bytes();
        }
        bytes
    }

    /// SHA-256 of the hash that this state is: the second half of Bitcoin's double hash.
    #[inline]
    pub(crate) fn hash_again(self) -> [u8; 32] {
        let mut block = PADDED_HASH;
        let (left, _) = block.split_at_mut(32);
        left.copy_from_slice(&self.to_bytes());
        let mut state = Self::INITIAL;
        state.compress(&[block]);
        state.to_bytes()
    }
}

/// A block for a message of 32 bytes: room for it, then its padding.
const PADDED_HASH: Block = {
    let mut block = [0; BLOCK_LEN];
    let [.., high, low] = &mut block;
    (*high, *low) = (1, 0); // 256 bits
    let (_, padding) = block.split_at_mut(32);
    if let Some(mark) = padding.first_mut() {
        *mark = 0x80;
    }
    block
};

/// The block that ends a message of 64 bytes: nothing but padding.
pub(crate) const PADDING_AFTER_ONE_BLOCK: Block = {
    let mut block = [0; BLOCK_LEN];
    let [mark, .., high, low] = &mut block;
    (*mark, *high, *low) = (0x80, 2, 0); // 512 bits
    block
};

/// Appends the padding of a message of `message_len` bytes of which `tail` holds the end, from a block border on.
pub(crate) fn pad(tail: &mut Vec<u8>, message_len: usize) {
    tail.push(0x80);
    let filled = tail.len() % BLOCK_LEN;
    let zeros = (2 * BLOCK_LEN - 8 - filled) % BLOCK_LEN;
    tail.resize(tail.len() + zeros, 0);
    tail.extend_from_slice(&(message_len as u64 * 8).to_be_bytes());
}

#[cfg(test)]
pub(crate) mod count {
    //! How many compressions this thread has made, for tests that must know when hashing starts.
    use std::cell::Cell;

    thread_local! {
        static COMPRESSIONS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn add(blocks: usize) {
        COMPRESSIONS.set(COMPRESSIONS.get() + blocks);
    }

    /// The number of compressions made by `work`.
    pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = COMPRESSIONS.get();
        let result = work();
        (COMPRESSIONS.get() - before, result)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash as _, sha256, sha256d};
    use proptest::prelude::*;

    use super::*;

    /// The whole of the machinery at once, as a job and a share use it: whole blocks first, then a padded tail.
    fn state_of(message: &[u8]) -> State {
        let (whole, rest) = message.as_chunks::<BLOCK_LEN>();
        let mut state = State::INITIAL;
        state.compress(whole);
        let mut tail = rest.to_vec();
        pad(&mut tail, message.len());
        let (blocks, rest) = tail.as_chunks::<BLOCK_LEN>();
        assert!(rest.is_empty());
        state.compress(blocks);
        state
    }

    #[test]
    fn every_length_of_padding_agrees_with_bitcoin_hashes() {
        let message: Vec<u8> = (0..=255).collect();
        for len in 0..=message.len() {
            let state = state_of(&message[..len]);
            assert_eq!(state.to_bytes(), sha256::Hash::hash(&message[..len]).to_byte_array(), "length {len}");
            assert_eq!(
                state.hash_again(),
                sha256d::Hash::hash(&message[..len]).to_byte_array(),
                "length {len}"
            );
        }
    }

    #[test]
    fn the_counter_counts_blocks() {
        let (count, _) = count::during(|| state_of(&[7; 200]).hash_again());
        assert_eq!(count, 3 + 1 + 1);
    }

    proptest! {
        #[test]
        fn any_message_agrees_with_bitcoin_hashes(message: Vec<u8>) {
            prop_assert_eq!(state_of(&message).hash_again(), sha256d::Hash::hash(&message).to_byte_array());
        }
    }
}

//! Hashing headers that differ in their nonce.

use core::ops::RangeInclusive;

use adit_units::Target;
use sha2::block_api::compress256;

/// The state that SHA-256 starts from (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A header whose first 64 bytes have been hashed already.
///
/// A nonce then costs two compressions instead of three: one for the rest of the header, one for the hash of the hash.
#[derive(Clone)]
pub struct HeaderHasher {
    /// The state after the first block, which version, previous hash and most of the merkle root fill.
    midstate: [u32; 8],
    /// The second block: the end of the merkle root, time, bits, nonce, padding.
    rest: [u8; 64],
    /// The block of the outer hash: a digest, padding.
    outer: [u8; 64],
}

impl HeaderHasher {
    /// Takes in all of a header but its nonce.
    #[must_use]
    pub fn new(header: &[u8; 80]) -> Self {
        let mut first = [0; 64];
        first.copy_from_slice(&header[..64]);
        let mut midstate = INITIAL;
        compress256(&mut midstate, core::slice::from_ref(&first));
        Self { midstate, rest: padded(&header[64..], 80), outer: padded(&[0; 32], 32) }
    }

    /// The hash of the header with this nonce, in raw byte order.
    #[must_use]
    pub fn hash(&mut self, nonce: u32) -> [u8; 32] {
        bytes(self.compress(nonce))
    }

    /// The first of the nonces whose hash meets the target, and that hash.
    #[must_use]
    pub fn find(&mut self, nonces: RangeInclusive<u32>, target: &Target) -> Option<(u32, [u8; 32])> {
        let [.., t28, t29, t30, t31] = target.to_le_bytes();
        let top = u32::from_le_bytes([t28, t29, t30, t31]);
        for nonce in nonces {
            let state = self.compress(nonce);
            let [.., last] = state;
            // Nearly every hash fails by its most significant bytes, the last ones.
            if last.swap_bytes() <= top {
                let hash = bytes(state);
                if target.is_met_by(&hash) {
                    return Some((nonce, hash));
                }
            }
        }
        None
    }

    fn compress(&mut self, nonce: u32) -> [u32; 8] {
        // The nonce stands in bytes 76 to 79 of the header.
        self.rest[76 - 64..80 - 64].copy_from_slice(&nonce.to_le_bytes());
        let mut inner = self.midstate;
        compress256(&mut inner, core::slice::from_ref(&self.rest));
        self.outer[..32].copy_from_slice(&bytes(inner));
        let mut outer = INITIAL;
        compress256(&mut outer, core::slice::from_ref(&self.outer));
        outer
    }
}

/// The last block of a message of `length` bytes that ends with `end` (FIPS 180-4, 5.1.1).
fn padded(end: &[u8], length: u64) -> [u8; 64] {
    let mut block = [0; 64];
    block.iter_mut().zip(end.iter().chain(&[0x80])).for_each(|(byte, part)| *byte = *part);
    let bits = (length * 8).to_be_bytes();
    block.iter_mut().rev().zip(bits.iter().rev()).for_each(|(byte, part)| *byte = *part);
    block
}

/// The digest that a state stands for.
fn bytes(state: [u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let (words, _) = bytes.as_chunks_mut();
    for (bytes, word) in words.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bitcoin::block::Header;
    use bitcoin::consensus::deserialize;
    use bitcoin::hashes::Hash as _;
    use proptest::prelude::*;

    use super::*;

    /// The naive twin: rust-bitcoin reads the header and hashes it.
    fn naive(header: &[u8; 80], nonce: u32) -> [u8; 32] {
        let mut header: Header = deserialize(header).unwrap();
        header.nonce = nonce;
        header.block_hash().to_byte_array()
    }

    #[test]
    fn the_first_block_of_all_is_found() {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).header;
        let header = bitcoin::consensus::serialize(&Header { nonce: 0, ..genesis });
        let mut hasher = HeaderHasher::new(&header.try_into().unwrap());
        let target = Target::from_compact(genesis.bits);
        let around = genesis.nonce - 10_000..=genesis.nonce + 10_000;
        let hash = genesis.block_hash().to_byte_array();
        assert_eq!(hasher.find(around, &target), Some((genesis.nonce, hash)));
        assert_eq!(hasher.find(genesis.nonce + 1..=genesis.nonce + 1000, &target), None);
    }

    #[test]
    fn the_last_nonce_is_tried_too() {
        let mut hasher = HeaderHasher::new(&[7; 80]);
        let hash = hasher.hash(u32::MAX);
        assert_eq!(hasher.find(u32::MAX..=u32::MAX, &Target::from_le_bytes(hash)), Some((u32::MAX, hash)));
        assert_eq!(hasher.find(u32::MAX..=u32::MAX, &Target::ZERO), None);
    }

    proptest! {
        #[test]
        fn hashes_are_those_of_the_naive_twin(header: [u8; 40], half: [u8; 40], nonces: [u32; 3]) {
            let header: [u8; 80] = [header, half].concat().try_into().unwrap();
            let mut hasher = HeaderHasher::new(&header);
            for nonce in nonces {
                prop_assert_eq!(hasher.hash(nonce), naive(&header, nonce));
            }
        }

        #[test]
        fn the_first_that_meets_the_target_is_found(seed: [u8; 32], start in 0..u32::MAX - 600, zeros in 0_u32..12) {
            let header: [u8; 80] = [&seed[..], &seed[..], &[0; 16]].concat().try_into().unwrap();
            let target = Target::from_le_bytes({
                let mut bytes = [0xff; 32];
                bytes[28..].copy_from_slice(&(u32::MAX >> zeros).to_le_bytes());
                bytes
            });
            let nonces = start..=start + 500;
            let first = nonces.clone().find(|nonce| target.is_met_by(&naive(&header, *nonce)));
            let found = HeaderHasher::new(&header).find(nonces, &target);
            prop_assert_eq!(found.map(|(nonce, _)| nonce), first);
        }
    }
}

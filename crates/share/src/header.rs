//! The header of a block, laid out for hashing: two SHA-256 blocks that a job prepares and a share completes.

use core::hint::black_box;

use bitcoin::hashes::Hash as _;

use crate::sha256::{BLOCK_LEN, Block, Pair, State};
use crate::{HEADER_LEN, Submission, Tip};

/// A header and its padding.
///
/// Aligned, so that no load crosses the border of a cache line: how long a share takes must not depend on where things happen to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Header([Block; 2]);

/// All ones where the version goes among the first four words.
const VERSION_LANE: [u32; 4] = [u32::MAX, 0, 0, 0];

impl Header {
    /// What all shares on `tip` have in common; the rest is zero.
    pub(crate) fn on(tip: &Tip) -> Self {
        let mut header = Self([[0; BLOCK_LEN]; 2]);
        header.put::<4, 32>(tip.prev_hash.to_byte_array());
        header.put::<72, 4>(tip.nbits.to_consensus().to_le_bytes());
        header.put::<80, 1>([0x80]);
        header.put::<120, 8>((HEADER_LEN as u64 * 8).to_be_bytes());
        header
    }

    /// Puts in the merkle root.
    #[inline]
    pub(crate) fn set_root(&mut self, merkle_root: &[u8; 32]) {
        self.put::<36, 32>(*merkle_root);
    }

    /// Puts in what a share says.
    #[inline]
    pub(crate) fn set_share(&mut self, submission: &Submission<'_>) {
        // Hashing starts by reading these four words at once. Had one of them been written alone just before, the processor would
        // have to wait for that write (17 ns, a seventh of a standard share). So all four are written at once too, which the
        // compiler does as long as it cannot see that three of them stay as they are.
        let (words, _) = self.0.as_flattened_mut().as_chunks_mut::<4>();
        for (word, lane) in words.iter_mut().zip(black_box(VERSION_LANE)) {
            *word = (u32::from_le_bytes(*word) | submission.version & lane).to_le_bytes();
        }
        self.put::<68, 4>(submission.ntime.to_le_bytes());
        self.put::<76, 4>(submission.nonce.to_le_bytes());
    }

    /// The merkle root.
    pub(crate) fn merkle_root(&self) -> Option<&[u8; 32]> {
        self.0.as_flattened().get(36..)?.first_chunk()
    }

    /// The header's hash, in raw byte order.
    #[inline]
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut state = State::INITIAL;
        state.compress(&self.0);
        state.hash_again()
    }

    /// The hashes of two headers at once, in raw byte order.
    #[inline]
    pub(crate) fn hash_two([first, second]: [&Self; 2]) -> [[u8; 32]; 2] {
        Pair::INITIAL.hash_twice([&first.0, &second.0])
    }

    /// The header without its padding.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        self.0.as_flattened().first_chunk().copied().unwrap_or([0; HEADER_LEN])
    }

    /// Writes a field of `N` bytes at offset `AT`.
    #[inline]
    fn put<const AT: usize, const N: usize>(&mut self, field: [u8; N]) {
        if let Some(place) = self.0.as_flattened_mut().get_mut(AT..).and_then(|bytes| bytes.first_chunk_mut())
        {
            *place = field;
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_units::{ChannelId, Height, JobId, SequenceNumber};
    use bitcoin::block::{Header as Naive, Version};
    use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_rust_bitcoin(
            prev_hash: [u8; 32],
            root: [u8; 32],
            [version, ntime, nbits, nonce]: [u32; 4],
        ) {
            let nbits = CompactTarget::from_consensus(nbits);
            let tip = Tip::new(BlockHash::from_byte_array(prev_hash), Height(1), nbits, 0);
            let submission = Submission {
                channel_id: ChannelId(1),
                sequence_number: SequenceNumber(2),
                job_id: JobId(3),
                nonce,
                ntime,
                version,
                extranonce: None,
                rest: &[],
            };
            let mut header = Header::on(&tip);
            header.set_root(&root);
            header.set_share(&submission);
            let naive = Naive {
                version: Version::from_consensus(version.cast_signed()),
                prev_blockhash: tip.prev_hash,
                merkle_root: TxMerkleNode::from_byte_array(root),
                time: ntime,
                bits: nbits,
                nonce,
            };
            prop_assert_eq!(&header.to_bytes()[..], &bitcoin::consensus::serialize(&naive)[..]);
            prop_assert_eq!(header.merkle_root(), Some(&root));
            prop_assert_eq!(header.hash(), naive.block_hash().to_byte_array());
        }
    }
}

//! What there is to hash: a header with parts left open, and how its search space is divided.

use core::fmt;
use core::ops::RangeInclusive;
use std::sync::Arc;

use adit_units::{JobId, Monotonic, Target};
use bitcoin::CompactTarget;
use sha2::{Digest as _, Sha256};

/// The tip that a block would build on; one for each `SetNewPrevHash`.
#[derive(Debug, PartialEq, Eq)]
pub struct Tip {
    /// The hash of the block below, in the byte order of a header.
    pub prev_hash: [u8; 32],
    /// The network's target as a header carries it.
    pub nbits: u32,
    /// The network's target: a share that meets it is a block.
    pub target: Target,
}

impl Tip {
    pub(crate) fn new(prev_hash: [u8; 32], nbits: u32) -> Self {
        Self { prev_hash, nbits, target: Target::from_compact(CompactTarget::from_consensus(nbits)) }
    }
}

/// Where the merkle root of a header comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MerkleRoot {
    /// The server has made it.
    Fixed([u8; 32]),
    /// It follows from a coinbase with an extranonce that the miner chooses.
    Rolled {
        /// The coinbase up to that extranonce, the server's extranonce prefix included.
        prefix: Vec<u8>,
        /// The length of the miner's extranonce, at most 32.
        extranonce_len: u8,
        /// The coinbase behind the extranonce.
        suffix: Vec<u8>,
        /// The hashes to fold the coinbase's with, deepest first.
        path: Vec<[u8; 32]>,
    },
}

impl MerkleRoot {
    /// The root with this extranonce (spec 5.3.16).
    #[must_use]
    pub fn with(&self, extranonce: &Extranonce) -> [u8; 32] {
        match self {
            Self::Fixed(root) => *root,
            Self::Rolled { prefix, suffix, path, .. } => {
                let coinbase = sha256d(&[prefix, extranonce.as_bytes(), suffix]);
                path.iter().fold(coinbase, |hash, other| sha256d(&[&hash, other]))
            }
        }
    }
}

/// The miner's part of the extranonce; empty where the server fixes the merkle root.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Extranonce {
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl Extranonce {
    /// The most bytes that a submission can carry.
    pub const MAX_LEN: usize = 32;

    /// The number as an extranonce of that length, little-endian; what does not fit is cut.
    fn new(number: u64, len: u8) -> Self {
        let mut bytes = [0; Self::MAX_LEN];
        bytes
            .iter_mut()
            .zip(number.to_le_bytes())
            .take(usize::from(len))
            .for_each(|(byte, part)| *byte = part);
        Self { bytes, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl fmt::Debug for Extranonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A job that may be hashed now.
#[derive(Debug)]
pub struct Work {
    /// What it builds on.
    pub tip: Arc<Tip>,
    /// The server's number for the job.
    pub job_id: JobId,
    /// The version to start from.
    pub version: u32,
    /// Whether the bits of [`Self::VERSION_MASK`] may be varied.
    pub version_rolling: bool,
    /// The smallest time a header may carry, in seconds since 1970.
    pub min_ntime: u32,
    /// When [`Self::min_ntime`] held; a header's time may be ahead of it by as much as has passed since (spec 5.3.11).
    pub since: Monotonic,
    /// What a hash must meet to be a share.
    pub target: Target,
    /// The merkle root, or how to make one.
    pub merkle_root: MerkleRoot,
}

/// A part of a [`Work`]'s search space, small enough to be searched in a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The miner's part of the extranonce.
    pub extranonce: Extranonce,
    /// The header's version.
    pub version: u32,
    /// How many seconds the header's time lies ahead of [`Work::min_ntime`].
    pub ntime_offset: u32,
    /// The nonces to try.
    pub nonces: RangeInclusive<u32>,
}

/// A share.
#[derive(Clone, Debug)]
pub struct Solution {
    /// What was hashed.
    pub work: Arc<Work>,
    /// The header's nonce.
    pub nonce: u32,
    /// The header's time.
    pub ntime: u32,
    /// The header's version.
    pub version: u32,
    /// The miner's part of the extranonce.
    pub extranonce: Extranonce,
    /// The header's hash, in raw byte order.
    pub hash: [u8; 32],
}

impl Solution {
    /// Whether the share is a block.
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.work.tip.target.is_met_by(&self.hash)
    }
}

impl Work {
    /// The bits of a version that miners may use as they like (BIP323).
    pub const VERSION_MASK: u32 = 0x1fff_ffe0;
    /// Nonces in a slice, as a power of two.
    const SLICE_BITS: u32 = 20;
    const SLICES_PER_VERSION: u64 = 1 << (u32::BITS - Self::SLICE_BITS);
    const VERSIONS: u64 = 1 << Self::VERSION_MASK.count_ones();
    /// More extranonces than a processor will get to see; a bound so that the number of a slice fits.
    const EXTRANONCES_MAX: u64 = 1 << 24;

    /// The slice of that number. Different numbers have no header in common.
    ///
    /// What changes first costs least: nonces, then the version if that is allowed, then the extranonce if there is one, and the time
    /// at last. `None` behind the end, which lies beyond what a header's time can express.
    #[must_use]
    pub fn slice(&self, number: u64) -> Option<Slice> {
        let (number, nonces) = (number / Self::SLICES_PER_VERSION, number % Self::SLICES_PER_VERSION);
        let versions = if self.version_rolling { Self::VERSIONS } else { 1 };
        let (number, version) = (number / versions, number % versions);
        let (extranonces, extranonce_len) = self.extranonces();
        let (number, extranonce) = (number / extranonces, number % extranonces);

        let first = u32::try_from(nonces << Self::SLICE_BITS).ok()?;
        let rolled = u32::try_from(version << Self::VERSION_MASK.trailing_zeros()).ok()?;
        let ntime_offset = u32::try_from(number).ok()?;
        self.min_ntime.checked_add(ntime_offset)?;
        Some(Slice {
            extranonce: Extranonce::new(extranonce, extranonce_len),
            version: self.version ^ rolled,
            ntime_offset,
            nonces: first..=first | ((1 << Self::SLICE_BITS) - 1),
        })
    }

    /// How many extranonces there are, and how long one is.
    fn extranonces(&self) -> (u64, u8) {
        match self.merkle_root {
            MerkleRoot::Fixed(_) => (1, 0),
            MerkleRoot::Rolled { extranonce_len, .. } => {
                let bits = u32::from(extranonce_len) * 8;
                (
                    1_u64
                        .checked_shl(bits)
                        .map_or(Self::EXTRANONCES_MAX, |all| all.min(Self::EXTRANONCES_MAX)),
                    extranonce_len,
                )
            }
        }
    }

    /// The header of a slice, its nonce left zero.
    #[must_use]
    pub fn header(&self, slice: &Slice) -> [u8; 80] {
        let mut header = [0; 80];
        let parts: [&[u8]; 5] = [
            &slice.version.to_le_bytes(),
            &self.tip.prev_hash,
            &self.merkle_root.with(&slice.extranonce),
            &self.ntime(slice).to_le_bytes(),
            &self.tip.nbits.to_le_bytes(),
        ];
        header.iter_mut().zip(parts.into_iter().flatten()).for_each(|(byte, part)| *byte = *part);
        header
    }

    /// The time that a slice's header carries.
    #[must_use]
    pub fn ntime(&self, slice: &Slice) -> u32 {
        self.min_ntime.saturating_add(slice.ntime_offset)
    }
}

/// SHA-256 twice over the parts, one behind the other.
fn sha256d(parts: &[&[u8]]) -> [u8; 32] {
    let once = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    Sha256::digest(once).into()
}

#[cfg(test)]
mod tests;

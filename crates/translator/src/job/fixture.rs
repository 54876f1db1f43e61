//! The work that tests make jobs of; tests outside of the crate include this file, so it names the crate as they do.

use std::sync::Arc;

use adit_share::{Extranonce, Job, JobParts, Tip, VERSION_ROLLING_MASK};
use adit_translator::upstream::{ChannelWork, Source};
use adit_units::{Height, JobId, Target};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget};

/// When jobs are made, in seconds.
pub(crate) const TIME: u32 = 1_780_000_000;

/// A network target that no share of a test meets.
pub(crate) const HARD: u32 = 0x0300_0001;

/// What an upstream gives, with something for all that a test does not care for.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The job's number at the upstream.
    pub(crate) number: u32,
    /// What tells the tip from others.
    pub(crate) tip: u8,
    /// The network's target.
    pub(crate) nbits: u32,
    pub(crate) version: u32,
    /// The version bits that may be rolled.
    pub(crate) version_mask: u32,
    /// Bytes of the coinbase before the extranonce and behind it.
    pub(crate) coinbase: [usize; 2],
    pub(crate) merkle_path: Vec<[u8; 32]>,
    /// The upstream's part of the extranonce, and the bytes that it leaves.
    pub(crate) prefix: Vec<u8>,
    pub(crate) extranonce_size: u16,
    /// What shares must meet for the upstream.
    pub(crate) target: Target,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            number: 1,
            tip: 1,
            nbits: HARD,
            version: 0x2000_0000,
            version_mask: VERSION_ROLLING_MASK,
            coinbase: [50, 60],
            merkle_path: Vec::new(),
            prefix: vec![9; 6],
            extranonce_size: 14,
            target: Target::DIFFICULTY_1,
        }
    }
}

impl Given {
    /// The work of the only channel.
    pub(crate) fn work(self) -> ChannelWork {
        let nbits = CompactTarget::from_consensus(self.nbits);
        let [before, behind] = self.coinbase;
        let parts = JobParts {
            id: JobId(self.number),
            tip: Tip::new(BlockHash::from_byte_array([self.tip; 32]), Height(101), nbits, TIME),
            min_ntime: TIME,
            version: self.version,
            version_rolling_allowed: self.version_mask != 0,
            coinbase_prefix: &vec![1; before],
            coinbase_suffix: &vec![2; behind],
            extranonce_len: self.prefix.len() + usize::from(self.extranonce_size),
            merkle_path: self.merkle_path,
        };
        ChannelWork {
            key: 9,
            job: Arc::new(Job::from_parts(parts).unwrap()),
            source: Source { channel: 4, job: self.number, generation: self.tip.into() },
            prefix: Extranonce::join(&self.prefix, &[]),
            extranonce_size: self.extranonce_size,
            target: self.target,
            version_mask: self.version_mask,
            is_new_tip: true,
        }
    }
}

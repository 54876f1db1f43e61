//! A job of an SV1 pool: what machines are to mine, and what the pool calls it.

use std::sync::Arc;

use adit_share::{Extranonce, Job, JobParts};
use adit_units::{JobId, Target};

use super::LegacyError;
use super::message::Notify;
use crate::upstream::{ChannelWork, Source};

/// What the pool keeps of the extranonce, and what it leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) prefix: Extranonce,
    pub(super) size: u16,
}

/// A job that the pool has sent, with what was so when it did.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) job: Arc<Job>,
    pub(super) source: Source,
    pub(super) space: Space,
    target: Target,
    /// The bits of the version that shares tell; none where the pool does not want to hear of them.
    pub(super) version_mask: u32,
    /// What the pool calls it.
    pub(super) id: Box<str>,
}

impl Issue {
    pub(super) fn new(
        notify: Notify,
        space: Space,
        ((number, generation), version_mask): ((u32, u64), u32),
        target: Target,
    ) -> Result<Self, LegacyError> {
        let job = Job::from_parts(JobParts {
            id: JobId(number),
            tip: notify.tip(),
            min_ntime: notify.ntime,
            version: notify.version,
            version_rolling_allowed: version_mask != 0,
            coinbase_prefix: &notify.coinbase_prefix,
            coinbase_suffix: &notify.coinbase_suffix,
            extranonce_len: space.prefix.as_bytes().len() + usize::from(space.size),
            merkle_path: notify.merkle_path,
        })?;
        let source = Source { channel: 0, job: number, generation };
        Ok(Self { job: Arc::new(job), source, space, target, version_mask, id: notify.id.into() })
    }

    /// As the channel's owner is told of it.
    pub(super) fn work(&self, key: u64, is_new_tip: bool) -> ChannelWork {
        ChannelWork {
            key,
            job: Arc::clone(&self.job),
            source: self.source,
            prefix: self.space.prefix,
            extranonce_size: self.space.size,
            target: self.target,
            is_new_tip,
        }
    }
}

/// The height that a coinbase begins its input script with (BIP 34), if the script can be found.
pub(super) fn height(coinbase: &[u8]) -> Option<u32> {
    /// Version, the number of inputs, and the outpoint that is none.
    const BEFORE_SCRIPT: usize = 4 + 1 + 36;
    /// The opcode for a height of 1; it goes on to 16.
    const OP_1: u8 = 0x51;
    let [_, push, script @ ..] = coinbase.get(BEFORE_SCRIPT..)? else { return None };
    match *push {
        small @ OP_1..=0x60 => Some(u32::from(small - OP_1) + 1),
        len @ 1..=4 => {
            let digits = script.get(..usize::from(len))?;
            Some(digits.iter().rev().fold(0, |height, &digit| (height << 8) | u32::from(digit)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_height_is_found_where_there_is_one() {
        let coinbase = |script: &[u8]| [&[0; 41], script].concat();
        for (script, expected) in [
            (&[5, 0x51][..], Some(1)),
            (&[5, 0x60], Some(16)),
            (&[5, 1, 17], Some(17)),
            (&[5, 2, 0x10, 0x27], Some(10_000)),
            (&[5, 3, 0xa0, 0xbb, 0x0d], Some(900_000)),
            (&[5, 3, 0xa0, 0xbb], None),
            (&[5, 0], None),
            (&[5, 0x61], None),
            (&[5], None),
            (&[], None),
        ] {
            assert_eq!(height(&coinbase(script)), expected, "{script:?}");
        }
        assert_eq!(height(&[]), None);
    }
}

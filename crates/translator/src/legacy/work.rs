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
            id: JobId(0),
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
            version_mask: self.version_mask,
            is_new_tip,
        }
    }
}

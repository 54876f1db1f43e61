//! One channel: its jobs, its target, its part of the extranonce, and the shares that wait for an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::mining;
use adit_share::{Extranonce, MAX_EXTRANONCE_LEN, VERSION_ROLLING_MASK};
use adit_units::{Hashrate, Monotonic, Target};

use super::jobs::{ChainEnd, JobBody, Made};
use super::{ChannelWork, GROWTH_INTERVAL, HASHRATE_INTERVAL, Source, UpstreamError};

/// Most jobs kept for tips to come; the oldest make room.
pub(super) const FUTURE_JOBS_MAX: usize = 16;

/// The most shares of a channel that may wait for the pool's answer; a pool that does not answer more than that is not waited for.
pub const PENDING_MAX: usize = 1 << 14;

/// A channel that is open.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) key: u64,
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) user: Box<str>,
    prefix: Extranonce,
    extranonce_size: u16,
    /// What shares of jobs to come must meet.
    target: Target,
    chain: Option<ChainEnd>,
    /// The generation before the present one, of which a block may still be worth sending.
    former: Option<u64>,
    /// Jobs for a tip that is not known yet, oldest first.
    future: VecDeque<Future>,
    /// Since when there is nothing to mine, if there is nothing.
    pub(super) idle_since: Option<Monotonic>,
    pub(super) pending: Pending,
    pub(super) speed: Speed,
}

/// A job for a tip to come, as this channel will work on it.
#[derive(Debug)]
struct Future {
    body: Arc<JobBody>,
    /// The part of the extranonce that was in force when the job came (spec 5.3.10).
    prefix: Extranonce,
}

/// The length that the whole extranonce would have, if that is possible.
pub(super) fn whole_len(prefix: &[u8], extranonce_size: u16) -> Option<usize> {
    let len = prefix.len() + usize::from(extranonce_size);
    (len <= MAX_EXTRANONCE_LEN).then_some(len)
}

impl Channel {
    /// The channel that the pool has opened.
    ///
    /// # Errors
    ///
    /// If its extranonce is not what was asked for.
    pub(super) fn new(
        success: &mining::OpenExtendedMiningChannelSuccess<'_>,
        least: u16,
        key: u64,
        user: Box<str>,
        now: Monotonic,
    ) -> Result<Self, UpstreamError> {
        let (prefix, size) = (success.extranonce_prefix.as_bytes(), success.extranonce_size);
        if size < least || whole_len(prefix, size).is_none() {
            return Err(UpstreamError::Extranonce { prefix: prefix.len(), size, least });
        }
        Ok(Self {
            key,
            id: success.channel_id,
            group: success.group_channel_id,
            user,
            prefix: Extranonce::join(prefix, &[]),
            extranonce_size: size,
            target: Target::from_le_bytes(*success.target.as_array()),
            chain: None,
            former: None,
            future: VecDeque::new(),
            idle_since: Some(now),
            pending: Pending::default(),
            speed: Speed::told(Hashrate::default(), now),
        })
    }

    pub(super) const fn target(&self) -> Target {
        self.target
    }

    pub(super) fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    pub(super) const fn extranonce_size(&self) -> u16 {
        self.extranonce_size
    }

    /// The target is for later jobs and future ones; the present work keeps its own (spec 5.3.21).
    pub(super) const fn set_target(&mut self, target: Target) {
        self.target = target;
    }

    /// The prefix is for jobs that come later (spec 5.3.10).
    ///
    /// # Errors
    ///
    /// If there is no room for it.
    pub(super) fn set_prefix(&mut self, prefix: &[u8]) -> Result<(), UpstreamError> {
        let size = self.extranonce_size;
        if whole_len(prefix, size).is_none() {
            return Err(UpstreamError::Extranonce { prefix: prefix.len(), size, least: size });
        }
        self.prefix = Extranonce::join(prefix, &[]);
        Ok(())
    }

    /// Starts on a job, or keeps it for a tip to come.
    ///
    /// One to start on that comes before there is a tip is kept as well: a pool may mean the tip that it tells of next.
    pub(super) fn take_job(
        &mut self,
        body: &Arc<JobBody>,
        min_ntime: Option<u32>,
        made: &mut Made,
    ) -> Result<Option<ChannelWork>, UpstreamError> {
        let (Some(min_ntime), Some(chain)) = (min_ntime, self.chain) else {
            // The pool may use a number again once the job that had it is no longer valid.
            self.future.retain(|known| known.body.id != body.id);
            if self.future.len() >= FUTURE_JOBS_MAX {
                self.future.pop_front();
            }
            self.future.push_back(Future { body: Arc::clone(body), prefix: self.prefix });
            return Ok(None);
        };
        let is_new_tip = self.idle_since.is_some();
        self.work(&Future { body: Arc::clone(body), prefix: self.prefix }, min_ntime, chain, made).map(
            |work| {
                self.idle_since = None;
                Some(ChannelWork { is_new_tip, ..work })
            },
        )
    }

    /// Moves to another tip; only the job that is named stays valid (spec 5.3.17), and there is none to work on if it never came.
    pub(super) fn take_tip(
        &mut self,
        chain: ChainEnd,
        job: u32,
        made: &mut Made,
        now: Monotonic,
    ) -> Result<Option<ChannelWork>, UpstreamError> {
        self.former = self.chain.map(|former| former.generation);
        self.chain = Some(chain);
        let named = core::mem::take(&mut self.future).into_iter().find(|future| future.body.id == job);
        let Some(future) = named else {
            self.idle_since.get_or_insert(now);
            return Ok(None);
        };
        self.idle_since = None;
        self.work(&future, chain.min_ntime(), chain, made).map(Some)
    }

    fn work(
        &self,
        Future { body, prefix }: &Future,
        min_ntime: u32,
        chain: ChainEnd,
        made: &mut Made,
    ) -> Result<ChannelWork, UpstreamError> {
        let len = prefix.as_bytes().len() + usize::from(self.extranonce_size);
        let job = made.job(body, &chain, min_ntime, len)?;
        // SV2 has no mask of its own: a job allows all bits of BIP 323, or none (spec 5.3.15).
        let version_mask = if job.version_rolling_allowed() { VERSION_ROLLING_MASK } else { 0 };
        Ok(ChannelWork {
            key: self.key,
            job,
            version_mask,
            source: Source { channel: self.id, job: body.id, generation: chain.generation },
            prefix: *prefix,
            extranonce_size: self.extranonce_size,
            // For a future job this is the target at its activation, for others that at their arrival (spec 5.3.21).
            target: self.target,
            is_new_tip: true,
        })
    }

    /// Whether shares of that generation may be worth something: those of the present tip, and of the one before.
    pub(super) fn is_of_late(&self, generation: u64) -> bool {
        self.chain.is_some_and(|chain| chain.generation == generation) || self.former == Some(generation)
    }
}

/// How fast those behind a channel are, and what the pool was told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    pub(super) told: Hashrate,
    pub(super) told_at: Monotonic,
    pub(super) is: Hashrate,
    /// When the pool is to be told.
    pub(super) due: Option<Monotonic>,
}

impl Speed {
    pub(super) const fn told(told: Hashrate, told_at: Monotonic) -> Self {
        Self { told, told_at, is: told, due: None }
    }

    /// It is this now; the pool is to be told if that differs by more than a fifth from what it knows.
    pub(super) fn become_now(&mut self, hashrate: Hashrate) {
        self.is = hashrate;
        let told = self.told.to_hashes_per_second();
        let is = hashrate.to_hashes_per_second();
        let is_news = is.abs_diff(told) > told / 5;
        let interval = if is > told.saturating_mul(2) { GROWTH_INTERVAL } else { HASHRATE_INTERVAL };
        self.due = is_news.then(|| self.told_at + interval);
    }
}

/// Shares that the pool has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Oldest first, each with what its sender calls it.
    sent: VecDeque<(u32, u64)>,
    last: u32,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// The number that the next share has.
    pub(super) const fn next_number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// The number that the last share has.
    #[cfg(test)]
    pub(super) const fn last_number(&self) -> u32 {
        self.last
    }

    #[cfg(test)]
    pub(super) const fn start_at(&mut self, number: u32) {
        self.last = number.wrapping_sub(1);
    }

    pub(super) fn push(&mut self, number: u32, tag: u64) {
        self.sent.push_back((number, tag));
    }

    pub(super) fn pop(&mut self) -> Option<u64> {
        self.sent.pop_front().map(|(_, tag)| tag)
    }

    /// The oldest share, if an answer that says `last` is about it too.
    pub(super) fn pop_up_to(&mut self, last: u32) -> Option<u64> {
        // Numbers wrap, and those that wait span far less than half of them.
        let is_meant = |&(number, _): &(u32, u64)| last.wrapping_sub(number) < u32::MAX / 2;
        if self.sent.front().is_some_and(is_meant) { self.pop() } else { None }
    }

    /// The share with that number.
    pub(super) fn remove(&mut self, number: u32) -> Option<u64> {
        let &(first, _) = self.sent.front()?;
        let distance = |number: u32| number.wrapping_sub(first);
        let place =
            self.sent.binary_search_by_key(&distance(number), |&(number, _)| distance(number)).ok()?;
        self.sent.remove(place).map(|(_, tag)| tag)
    }

    /// All of them, oldest first.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u64> {
        core::mem::take(&mut self.sent).into_iter().map(|(_, tag)| tag)
    }
}

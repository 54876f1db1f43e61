//! Shares on their way up: held until their job is accepted, passed on if they are hard enough, and accounted for.

use std::collections::{BinaryHeap, VecDeque};

use adit_channel::WorkerName;
use adit_units::{JobId, Target};
use bitcoin::BlockHash;

/// The most shares that are held for jobs that no pool has accepted yet; beyond that the easiest are let go.
pub const HELD_MAX: usize = 4_096;

/// The most jobs that are known, of two tips together.
const JOBS_MAX: usize = 64;

/// The most shares that may wait for the pool's answer; a pool that does not answer more than that is not waited for.
const SENT_MAX: usize = 1 << 14;

/// A share that was accepted below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number of its job among those below.
    pub job: JobId,
    /// The version in its header.
    pub version: u32,
    /// The time in its header, in seconds since 1970.
    pub ntime: u32,
    /// The nonce in its header.
    pub nonce: u32,
    /// The whole extranonce.
    pub extranonce: Box<[u8]>,
    /// The header's hash, in the order of the hash function's output.
    pub hash: [u8; 32],
    /// Whether it is a block.
    pub is_block: bool,
    /// The device that found it.
    pub worker: Option<WorkerName>,
}

/// How far a job has come above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody has promised anything for it.
    Proposed,
    /// The declarator server knows its transactions, so it can complete a block.
    Declared,
    /// The pool pays for shares that meet the target.
    Accepted { job: JobId, target: Target, is_declared: bool },
}

/// A job of ours.
#[derive(Debug)]
struct Known {
    number: JobId,
    prev_hash: BlockHash,
    /// What its extranonces begin with: the channel's part when the miners were given it.
    prefix: Box<[u8]>,
    standing: Standing,
}

/// A share that waits for its job, ordered by how easy it was: the easiest is the greatest.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// The hash with its most significant byte first.
    value: [u8; 32],
    share: Share,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A share that the pool has not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    sequence_number: u32,
    pub(super) job: JobId,
    pub(super) hash: [u8; 32],
}

/// What to do with a share, or with those that were held.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// The job's number at the pool.
    pub(super) job: JobId,
    pub(super) share: Share,
}

/// What became of the shares that came from below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Too easy for the pool, which is as it should be: miners below may have easier targets.
    pub(super) too_easy: u64,
    /// Let go because their job was never accepted, or because too many were held.
    pub(super) lost: u64,
}

/// Between the miners below and the channel above.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// Oldest first.
    jobs: VecDeque<Known>,
    held: BinaryHeap<Held>,
    /// Oldest first.
    sent: VecDeque<Sent>,
    tally: Tally,
}

impl Relay {
    /// Shares may come for this job from now on. Those of the tip before the last are forgotten.
    pub(super) fn propose(&mut self, number: JobId, prev_hash: BlockHash, prefix: &[u8]) {
        if self.jobs.iter().any(|known| known.number == number) {
            return;
        }
        let last = self.jobs.back().map(|known| known.prev_hash);
        if last.is_some_and(|last| last != prev_hash) {
            self.forget(|known| Some(known.prev_hash) != last);
        }
        if self.jobs.len() == JOBS_MAX
            && let Some(oldest) = self.jobs.front().map(|known| known.number)
        {
            self.forget(|known| known.number == oldest);
        }
        self.jobs.push_back(Known { number, prev_hash, prefix: prefix.into(), standing: Standing::Proposed });
    }

    /// The declarator server has taken the job; the answer is those blocks that were found on it meanwhile.
    pub(super) fn declare(&mut self, number: JobId) -> Vec<Share> {
        match self.known(number) {
            Some(known) if known.standing == Standing::Proposed => known.standing = Standing::Declared,
            _ => return Vec::new(),
        }
        let blocks = self.held.iter().filter(|held| held.share.is_block && held.share.job == number);
        blocks.map(|held| held.share.clone()).collect()
    }

    /// The pool has accepted the job, with its number there; the answer is what can be passed on now, the hardest first.
    pub(super) fn accept(&mut self, number: JobId, job: JobId, target: Target) -> Vec<Passed> {
        let Some(known) = self.known(number) else { return Vec::new() };
        let is_declared = known.standing != Standing::Proposed;
        known.standing = Standing::Accepted { job, target, is_declared };
        let held = core::mem::take(&mut self.held).into_sorted_vec();
        let mut passed = Vec::new();
        for held in held {
            if held.share.job != number {
                self.held.push(held);
            } else if held.share.is_block || target.is_met_by(&held.share.hash) {
                passed.push(Passed { job, share: held.share });
            } else {
                self.tally.too_easy += 1;
            }
        }
        passed
    }

    /// The job will not be accepted.
    pub(super) fn drop_job(&mut self, number: JobId) {
        self.forget(|known| known.number == number);
    }

    /// Whether the extranonces of that job begin with this.
    pub(super) fn is_made_for(&self, number: JobId, prefix: &[u8]) -> bool {
        self.jobs.iter().any(|known| known.number == number && *known.prefix == *prefix)
    }

    /// A share from below: to be passed on now, or `None` if it is held or not worth it.
    pub(super) fn take(&mut self, share: Share) -> Option<Passed> {
        let known = self.known(share.job).filter(|known| share.extranonce.starts_with(&known.prefix));
        match known.map(|known| known.standing) {
            Some(Standing::Accepted { job, target, .. })
                if share.is_block || target.is_met_by(&share.hash) =>
            {
                return Some(Passed { job, share });
            }
            Some(Standing::Accepted { .. }) => self.tally.too_easy += 1,
            Some(Standing::Proposed | Standing::Declared) => self.hold(share),
            None => self.tally.lost += 1,
        }
        None
    }

    /// Whether the declarator server could complete a block of that job.
    pub(super) fn is_declared(&self, number: JobId) -> bool {
        let known = self.jobs.iter().find(|known| known.number == number);
        matches!(
            known.map(|known| known.standing),
            Some(Standing::Declared | Standing::Accepted { is_declared: true, .. })
        )
    }

    /// A share was sent under that number.
    pub(super) fn note_sent(&mut self, sequence_number: u32, job: JobId, hash: [u8; 32]) {
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { sequence_number, job, hash });
    }

    /// A share could not be sent.
    pub(super) const fn note_lost(&mut self) {
        self.tally.lost += 1;
    }

    /// The pool has accepted shares up to that number.
    pub(super) fn settle(&mut self, last: u32) {
        // Numbers wrap, and those that wait span far less than half of them.
        while self.sent.front().is_some_and(|sent| last.wrapping_sub(sent.sequence_number) < u32::MAX / 2) {
            self.sent.pop_front();
        }
    }

    /// The pool has refused a share.
    pub(super) fn refuse(&mut self, sequence_number: u32) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| sent.sequence_number == sequence_number)?;
        self.sent.remove(place)
    }

    /// The pool judges shares of an accepted job by this target after all.
    pub(super) fn retarget(&mut self, number: JobId, harder: Target) {
        if let Some(Known { standing: Standing::Accepted { target, .. }, .. }) = self.known(number) {
            *target = harder.min(*target);
        }
    }

    /// What became of shares that were not passed on.
    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// How many shares are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn known(&mut self, number: JobId) -> Option<&mut Known> {
        self.jobs.iter_mut().rfind(|known| known.number == number)
    }

    fn hold(&mut self, share: Share) {
        let mut value = share.hash;
        value.reverse();
        self.held.push(Held { value, share });
        if self.held.len() > HELD_MAX {
            self.held.pop();
            self.tally.lost += 1;
        }
    }

    /// Forgets jobs, and the shares that are held for them.
    fn forget(&mut self, is_over: impl Fn(&Known) -> bool) {
        let Self { jobs, held, tally, .. } = self;
        let before = held.len();
        held.retain(|held| !jobs.iter().any(|known| known.number == held.share.job && is_over(known)));
        tally.lost += (before - held.len()) as u64;
        jobs.retain(|known| !is_over(known));
    }
}

#[cfg(test)]
mod tests;

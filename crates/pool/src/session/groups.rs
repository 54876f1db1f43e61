//! Channels whose blocks pay alike, and the jobs that they work on (spec 5.2.3).
//!
//! The group of those that pay the pool is always there, is number one, and works on the jobs of [`Work`] as they are. For any other way
//! to pay there is a group as long as one of its jobs can earn. Its jobs are made here, with the number and the mark of the pool's: what
//! keeps their header space apart is the extranonce, whose prefix no two channels share, and that a channel belongs to one group at
//! a time (`docs/decisions/0016-one-group-for-each-way-to-pay.md`).

use adit_channel::{PAST_JOBS, RewardKind};
use adit_share::Job;
use adit_transport::FrameQueue;
use adit_units::{ChannelId, JobId};

use super::{GROUP_CHANNEL, send};
use crate::work::{Reserve, new_extended_mining_job};
use crate::{Distribution, Work};

/// Most ways to pay that the channels of one connection may have at a time, beside paying the pool.
pub const DISTRIBUTIONS_MAX: usize = 16;

/// Most jobs that a group keeps made: all that can earn, and as many of the tip before, which may still be blocks. When a newer job is made
/// only the one before it is kept; another one is made anew if a late share comes for it, but once and not for each share.
const JOBS_KEPT: usize = 2 * (PAST_JOBS + 1);

/// Whether a job waits for its tip.
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// `SetNewPrevHash` will name it.
    WithTip,
    /// It is active as soon as it is there.
    AtOnce,
}

/// The groups of a connection.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// All but the pool's; none on most connections.
    #[expect(clippy::box_collection, reason = "keeps every connection small that has none")]
    others: Option<Box<Vec<Group>>>,
}

#[derive(Debug)]
struct Group {
    id: ChannelId,
    distribution: Distribution,
    /// By number.
    jobs: Vec<Job>,
}

impl Groups {
    /// The group for a way to pay, if there is one.
    pub(super) fn of(&self, distribution: &Distribution) -> Option<ChannelId> {
        match distribution {
            Distribution::Pooled => Some(GROUP_CHANNEL),
            Distribution::Solo(_) | Distribution::Split { .. } => {
                self.others().iter().find(|group| group.distribution == *distribution).map(|group| group.id)
            }
        }
    }

    /// Whether there may be another group.
    pub(super) fn has_room(&self) -> bool {
        self.others().len() < DISTRIBUTIONS_MAX
    }

    /// A new group, whose number nothing on the connection has had before.
    pub(super) fn open(&mut self, id: ChannelId, distribution: Distribution) {
        self.others.get_or_insert_default().push(Group { id, distribution, jobs: Vec::new() });
    }

    /// Every group's number, the pool's first.
    pub(super) fn ids(&self) -> impl Iterator<Item = ChannelId> {
        core::iter::once(GROUP_CHANNEL).chain(self.others().iter().map(|group| group.id))
    }

    /// Forgets the groups that nobody can earn in.
    pub(super) fn retain(&mut self, can_earn: impl Fn(ChannelId) -> bool) {
        let Some(others) = &mut self.others else { return };
        others.retain(|group| can_earn(group.id));
        if others.is_empty() {
            self.others = None;
        }
    }

    /// Whom the blocks of a group pay.
    pub(super) fn distribution(&self, id: ChannelId) -> Distribution {
        self.find(id).map_or(Distribution::Pooled, |group| group.distribution.clone())
    }

    /// Who owes a reward to the shares of a group; `pooled` where it is the pool's.
    pub(super) fn reward(&self, id: ChannelId, pooled: RewardKind) -> RewardKind {
        match self.find(id).map(|group| &group.distribution) {
            None | Some(Distribution::Pooled) => pooled,
            Some(Distribution::Solo(_)) => RewardKind::Solo,
            Some(Distribution::Split { pool, .. }) => RewardKind::Split(*pool),
        }
    }

    /// The job of `work` as a group has it.
    pub(super) fn job<'a>(&'a mut self, id: ChannelId, work: &'a Work) -> &'a Job {
        match self.find_mut(id) {
            None => work.job(),
            Some(group) => group.job(work),
        }
    }

    /// The same, if it is kept.
    pub(super) fn kept_job<'a>(&'a self, id: ChannelId, work: &'a Work) -> Option<&'a Job> {
        match self.find(id) {
            None => Some(work.job()),
            Some(group) => group.jobs.iter().rfind(|job| job.id() == work.id()),
        }
    }

    /// Queues the job of `work` as group `id` has it, for the extended channel or the group `to`.
    pub(super) fn queue(
        &mut self,
        (id, to): (ChannelId, ChannelId),
        work: &Work,
        start: Start,
        frames: &mut FrameQueue,
    ) {
        let Some(group) = self.find_mut(id) else {
            let ready = match start {
                Start::WithTip => &work.future_job,
                Start::AtOnce => &work.active_job,
            };
            return ready.queue(to, frames);
        };
        let job = group.job(work);
        let min_ntime = match start {
            Start::WithTip => None,
            Start::AtOnce => Some(job.min_ntime()),
        };
        send(frames, new_extended_mining_job(job, to, min_ntime));
    }

    /// Queues the job for the next tip as group `id` has it, for the extended channel or the group `to`.
    pub(super) fn queue_reserve(
        &self,
        (id, to): (ChannelId, ChannelId),
        reserve: &Reserve,
        frames: &mut FrameQueue,
    ) {
        match self.find(id) {
            None => reserve.future_job.queue(to, frames),
            Some(group) => {
                let job = reserve.variant(&group.distribution);
                send(frames, new_extended_mining_job(&job, to, None));
            }
        }
    }

    /// The merkle root of the job for the next tip as group `id` has it, with this extranonce.
    pub(super) fn reserve_root(&self, id: ChannelId, reserve: &Reserve, extranonce: &[u8]) -> [u8; 32] {
        match self.find(id) {
            None => reserve.merkle_root(extranonce),
            Some(group) => reserve.variant_root(&group.distribution, extranonce),
        }
    }

    fn others(&self) -> &[Group] {
        self.others.as_ref().map_or(&[], |others| others)
    }

    fn find(&self, id: ChannelId) -> Option<&Group> {
        self.others().iter().find(|group| group.id == id)
    }

    fn find_mut(&mut self, id: ChannelId) -> Option<&mut Group> {
        self.others.as_mut()?.iter_mut().find(|group| group.id == id)
    }
}

impl Group {
    /// The job of `work` as this group has it, made if it is not kept.
    fn job(&mut self, work: &Work) -> &Job {
        let known = self.jobs.iter().rposition(|job| job.id() == work.id());
        let place = known.unwrap_or_else(|| self.make_room(work.id()));
        if known.is_none() {
            self.jobs.reserve_exact(1);
            self.jobs.insert(place, work.variant(&self.distribution));
        }
        self.jobs.get(place).expect("it was found or made just now")
    }

    /// Where a job with that number is to stand among those that are kept, of which some make room for it.
    fn make_room(&mut self, id: JobId) -> usize {
        if self.jobs.last().is_some_and(|newest| newest.id() < id) {
            let outdated = self.jobs.len() - 1;
            self.jobs.drain(..outdated);
        } else if self.jobs.len() >= JOBS_KEPT {
            self.jobs.remove(0);
        }
        self.jobs.partition_point(|job| job.id() < id)
    }
}

#[cfg(test)]
#[cfg(feature = "server")] // for templates of the devnet
mod tests;

//! One channel: whose it is, what its miner may search, how hard its shares are, and what it has submitted.

use adit_share::{
    Assignment, Checked, Extranonce, HEADER_LEN, Job, Reject, Submission, Unhashed, Verdict, block, check,
    judge, judge_by_hash, judge_hashed,
};
use adit_units::{ChannelId, Hashrate, Monotonic, Now, Target, UnixTime};

use crate::duplicates::Duplicates;
use crate::{Activation, ExtranoncePrefix, History, JobTable, TargetOutOfRange, UserIdentity, Vardiff};

/// Most accepted shares that all channels of one connection together should remember under one tip, for the duplicate check.
///
/// At eight bytes each in tables of which a third to two thirds are empty, this bounds the memory of a peer that floods to 24 MiB,
/// plus half a KiB for each channel with a share. An honest one stays far below: 256 channels with ten shares a minute come to 25,600 in
/// ten minutes.
pub const REMEMBERED_MAX: usize = 1 << 20;

/// What a channel's miner can work on (spec 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Only the header: version, time and nonce.
    Standard,
    /// The rest of the extranonce too.
    Extended,
}

/// What a channel is when it is opened.
#[derive(Debug)]
pub struct ChannelTerms {
    /// Its number within the connection.
    pub id: ChannelId,
    /// What its miner can work on.
    pub kind: ChannelKind,
    /// Who its shares are credited to.
    pub user: UserIdentity,
    /// The part of the extranonce that tells it from all other channels.
    pub extranonce: ExtranoncePrefix,
    /// The group that it is part of, whose jobs it works on.
    pub group: ChannelId,
}

/// What of a channel's terms may change from job to job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    group: ChannelId,
    extranonce: ExtranoncePrefix,
}

/// A share on its way to [`Channel::judge_hashed`].
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// What the miner says.
    pub submission: &'a Submission<'a>,
    /// The hash of its header in raw byte order, if somebody has hashed it already.
    pub hash: Option<[u8; 32]>,
}

/// What a share that cannot earn makes of its job all the same, see [`Channel::late_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateBlock {
    /// The block's header.
    pub header: [u8; HEADER_LEN],
    /// The whole extranonce.
    pub extranonce: Extranonce,
}

/// A standard or extended channel of a server.
///
/// It holds no job: those are its connection's, in a [`JobTable`] that the methods here are given. What it makes of a job (the
/// target that the job was issued with, a standard channel's merkle root) it works out with the first share on that job.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    kind: ChannelKind,
    user: UserIdentity,
    vardiff: Vardiff,
    targets: History<Target>,
    places: History<Place>,
    /// What held when a job for the next tip was given ahead, where that has changed since.
    ahead: Option<Place>,
    /// What held for the jobs of the tip before, whose shares may still be blocks.
    former: Option<History<Place>>,
    /// Jobs that shares have come for, oldest first.
    assignments: Vec<(Activation, Assignment)>,
    duplicates: Duplicates,
}

impl Channel {
    /// A channel whose first job has, or will have, the activation `first`.
    ///
    /// `seen_key` keys the duplicate check: random, and unknown to miners.
    #[must_use]
    pub fn new(terms: ChannelTerms, vardiff: Vardiff, first: Activation, seen_key: [u8; 16]) -> Self {
        let ChannelTerms { id, kind, user, extranonce, group } = terms;
        Self {
            id,
            kind,
            user,
            targets: History::new(first, vardiff.target()),
            places: History::new(first, Place { group, extranonce }),
            ahead: None,
            former: None,
            vardiff,
            assignments: Vec::new(),
            duplicates: Duplicates::new(seen_key),
        }
    }

    /// Its number within the connection.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// What its miner can work on.
    #[must_use]
    pub const fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// Who its shares are credited to.
    #[must_use]
    pub const fn user(&self) -> &UserIdentity {
        &self.user
    }

    /// The part of the extranonce that tells it from all other channels, in the jobs to come.
    #[must_use]
    pub const fn extranonce(&self) -> ExtranoncePrefix {
        self.places.latest().extranonce
    }

    /// The group whose jobs it works on from the next one on.
    #[must_use]
    pub const fn group(&self) -> ChannelId {
        self.places.latest().group
    }

    /// The group that the job with that activation came from, or `None` if the job is older than the channel.
    #[must_use]
    pub fn group_at(&self, activation: Activation) -> Option<ChannelId> {
        self.places.at(activation).map(|place| place.group)
    }

    /// The group that the job with that activation came from, which can no longer earn ([`JobTable::former`]), or `None` if the channel was
    /// not given it.
    #[must_use]
    pub fn former_group_at(&self, activation: Activation) -> Option<ChannelId> {
        self.former_place(activation).map(|place| place.group)
    }

    /// What held for a job that can no longer earn. Those of the present tip came after all of the tip before.
    fn former_place(&self, activation: Activation) -> Option<Place> {
        self.places.at(activation).or_else(|| self.former.as_ref()?.at(activation))
    }

    /// Whether a job of that group can earn on this channel, now or later, or could at the tip before, so that it may still be a block.
    #[must_use]
    pub fn works_for(&self, group: ChannelId) -> bool {
        let former = self.former.iter().flat_map(History::values);
        let places = self.places.values().chain(former).map(|(_, place)| place);
        places.chain(self.ahead).any(|place| place.group == group)
    }

    /// From the next job on it is part of another group (`SetGroupChannel`, spec 5.3.22).
    ///
    /// `is_ahead` says whether it has been given a job for the next tip, which stays what it is.
    pub fn set_group<T>(&mut self, group: ChannelId, jobs: &JobTable<T>, is_ahead: bool) {
        self.set_place(Place { group, ..self.places.latest() }, jobs, is_ahead);
    }

    /// From the next job on it has another part of the extranonce (`SetExtranoncePrefix`, spec 5.3.10), which nobody had before.
    ///
    /// `is_ahead` says whether it has been given a job for the next tip, which stays what it is.
    pub fn set_extranonce<T>(&mut self, extranonce: ExtranoncePrefix, jobs: &JobTable<T>, is_ahead: bool) {
        self.set_place(Place { extranonce, ..self.places.latest() }, jobs, is_ahead);
    }

    /// The job for the next tip that it was given is not going to come, or another one comes instead.
    pub const fn forget_ahead(&mut self) {
        self.ahead = None;
    }

    fn set_place<T>(&mut self, place: Place, jobs: &JobTable<T>, is_ahead: bool) {
        if is_ahead {
            self.ahead = self.ahead.or_else(|| Some(self.places.latest()));
        }
        self.places.set(jobs.next_activation(), place, jobs.oldest_held());
    }

    /// The target of the next job.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.vardiff.target()
    }

    /// What the miner said last about its speed.
    #[must_use]
    pub const fn nominal(&self) -> Hashrate {
        self.vardiff.nominal()
    }

    /// The channel was opened and is about to be given the job that is active already; its target went out with the opening.
    pub fn handle_first_job(&mut self, now: Monotonic) {
        let _announced = self.vardiff.handle_job(now);
    }

    /// The connection is about to issue another job for the present tip; the answer is a target to announce before it.
    ///
    /// `jobs` does not hold the new job yet.
    pub fn handle_job<T>(&mut self, jobs: &JobTable<T>, now: Monotonic) -> Option<Target> {
        let oldest = jobs.oldest_activation();
        self.assignments.retain(|&(activation, _)| activation >= oldest);
        self.duplicates.handle_job(jobs.next_activation(), oldest);
        let target = self.vardiff.handle_job(now)?;
        self.targets.set(jobs.next_activation(), target, oldest);
        Some(target)
    }

    /// The connection is about to issue the first job for a new tip, with which every other one becomes stale; the answer is a
    /// target to announce before it.
    ///
    /// `jobs` still holds the jobs of the old tip; `network` is the target of the new one.
    pub fn handle_new_tip<T>(
        &mut self,
        jobs: &JobTable<T>,
        network: Target,
        now: Monotonic,
    ) -> Option<Target> {
        self.ahead = None;
        self.handle_announced_tip(jobs, network, now)
    }

    /// The same for a tip whose job the channel was given ahead: for that one job holds what held then.
    pub fn handle_announced_tip<T>(
        &mut self,
        jobs: &JobTable<T>,
        network: Target,
        now: Monotonic,
    ) -> Option<Target> {
        let (first, latest) = (jobs.next_activation(), self.places.latest());
        let places = History::new(first, self.ahead.unwrap_or(latest));
        self.former = Some(core::mem::replace(&mut self.places, places));
        if self.ahead.take().is_some() {
            self.places.set(first.next(), latest, first);
        }
        let target = self.vardiff.handle_new_tip(network, now);
        self.targets = History::new(first, self.vardiff.target());
        self.assignments = Vec::new();
        self.duplicates.clear();
        target
    }

    /// The miner says anew how fast it is and what targets it accepts (`UpdateChannel`, spec 5.3.7).
    ///
    /// The answer is a target to announce at once; an easier one comes with the next job.
    ///
    /// # Errors
    ///
    /// The peer is incompatible if it accepts only targets that are harder than the ceiling; everything is then as it was.
    pub fn update<T>(
        &mut self,
        nominal: Hashrate,
        max_target: Target,
        jobs: &JobTable<T>,
    ) -> Result<Option<Target>, TargetOutOfRange> {
        let announced = self.vardiff.update(nominal, max_target)?;
        if let Some(target) = announced {
            self.targets.set(jobs.next_activation(), target, jobs.oldest_activation());
        }
        Ok(announced)
    }

    /// Whether a job that is issued now would have another target than the one before it.
    #[must_use]
    pub fn needs_job(&self, now: Monotonic) -> bool {
        self.vardiff.needs_job(now)
    }

    /// Whether a share has made [`Self::needs_job`] true since the last job; costs nothing to ask.
    #[must_use]
    pub const fn waits_for_job(&self) -> bool {
        self.vardiff.waits_for_job()
    }

    /// When [`Self::needs_job`] becomes true if not one share comes until then ([`Vardiff::silence_tells_at`]).
    #[must_use]
    pub fn silence_tells_at(&self) -> Option<Monotonic> {
        self.vardiff.silence_tells_at()
    }

    /// How many accepted shares the duplicate check remembers.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.duplicates.len()
    }

    /// Whether further shares may be remembered, which a connection allows while all of its channels together remember fewer than
    /// [`REMEMBERED_MAX`]. Where they may not, none but blocks is accepted.
    pub const fn allow_remembering(&mut self, allowed: bool) {
        self.duplicates.allow(allowed);
    }

    /// What the channel works on when it works on `job`, or `None` if the job is older than the channel.
    ///
    /// # Panics
    ///
    /// If the job's extranonce has not the length that the channel's prefix was made for.
    pub fn assignment(&mut self, job: &Job, activation: Activation) -> Option<&Assignment> {
        let place = self.assigned(job, activation)?;
        self.assignments.get(place).map(|(_, assignment)| assignment)
    }

    /// Judges a share on a job that the connection's table says is open; an accepted one moves the difficulty.
    ///
    /// The wall clock of `now` is the network's time. Takes no memory but for the first share on a job, and when the set of seen shares
    /// doubles.
    ///
    /// # Panics
    ///
    /// If the job's extranonce has not the length that the channel's prefix was made for.
    pub fn judge(
        &mut self,
        job: &Job,
        activation: Activation,
        submission: &Submission<'_>,
        now: Now,
    ) -> Verdict {
        self.judge_hashed(job, activation, Arrival { submission, hash: None }, now)
    }

    /// As [`Self::judge`], for a share whose hash may be known already.
    ///
    /// # Panics
    ///
    /// If the job's extranonce has not the length that the channel's prefix was made for.
    pub fn judge_hashed(
        &mut self,
        job: &Job,
        activation: Activation,
        Arrival { submission, hash }: Arrival<'_>,
        now: Now,
    ) -> Verdict {
        let Some(place) = self.assigned(job, activation) else {
            return Verdict::Rejected(Reject::InvalidJobId);
        };
        let Some((_, assignment)) = self.assignments.get(place) else {
            return Verdict::Rejected(Reject::InvalidJobId);
        };
        let share = Unhashed { job, assignment, submission };
        let verdict = match (job.tag(), hash) {
            // Nothing sets such a job apart from others but its hashes.
            (None, hash) => {
                let seen = self.duplicates.hashes_on(job.tip().prev_hash);
                judge_by_hash(share, seen, hash, now.unix)
            }
            (Some(_), Some(hash)) => judge_hashed(share, self.duplicates.set_for(activation), hash, now.unix),
            (Some(_), None) => {
                judge(job, assignment, self.duplicates.set_for(activation), submission, now.unix)
            }
        };
        if let Verdict::Valid { work, .. } | Verdict::Block { work, .. } = verdict {
            self.vardiff.handle_share(work, now.monotonic);
        }
        verdict
    }

    /// The block that a share makes on a job that can no longer earn ([`JobTable::former`]): the chain may well come back to the tip before,
    /// the block may be heavier than its rival, and on the present tip it is as good as any.
    ///
    /// `job` is as the channel's group at that time had it ([`Self::former_group_at`]). `now` is the network's time.
    ///
    /// # Panics
    ///
    /// If the job's extranonce has not the length that the channel's prefix was made for.
    #[must_use]
    pub fn late_block(
        &self,
        job: &Job,
        activation: Activation,
        submission: &Submission<'_>,
        now: UnixTime,
    ) -> Option<LateBlock> {
        let extranonce = self.former_place(activation)?.extranonce;
        let assignment = self.assign(job, job.tip().target, extranonce);
        let header = block(Unhashed { job, assignment: &assignment, submission }, now)?;
        Some(LateBlock { header, extranonce: assignment.extranonce(submission) })
    }

    /// Whether a share on a job that can earn meets the network's target, which is told without judging it. `now` is the network's time.
    ///
    /// # Panics
    ///
    /// If the job's extranonce has not the length that the channel's prefix was made for.
    pub fn is_block(
        &mut self,
        job: &Job,
        activation: Activation,
        submission: &Submission<'_>,
        now: UnixTime,
    ) -> bool {
        let assignment = self.assignment(job, activation);
        assignment.is_some_and(|assignment| block(Unhashed { job, assignment, submission }, now).is_some())
    }

    /// A share that would be hashed if it were judged now, to be hashed together with another; those with equal marks are the same
    /// share.
    ///
    /// `None` also for the first share on a job, whose assignment is not worked out yet, and for a job without a tag, whose shares are told
    /// by their hashes.
    #[must_use]
    pub fn candidate<'a>(
        &'a self,
        job: &'a Job,
        activation: Activation,
        submission: &'a Submission<'a>,
        now: Now,
    ) -> Option<(Checked, Unhashed<'a>)> {
        job.tag()?;
        let (_, assignment) = self.assignments.iter().rfind(|&&(at, _)| at == activation)?;
        let seen = self.duplicates.known_set(activation)?;
        let share = Unhashed { job, assignment, submission };
        Some((check(share, seen, now.unix).ok()?, share))
    }

    /// The place in `assignments` of the job with that activation; worked out if the channel has had no share for it.
    fn assigned(&mut self, job: &Job, activation: Activation) -> Option<usize> {
        let known = self.assignments.iter().rposition(|&(at, _)| at == activation);
        if known.is_some() {
            return known;
        }
        let target = self.targets.at(activation)?;
        let extranonce = self.places.at(activation)?.extranonce;
        let assignment = self.assign(job, target, extranonce);
        let place = self.assignments.partition_point(|&(at, _)| at < activation);
        reserve_first(&mut self.assignments);
        self.assignments.insert(place, (activation, assignment));
        Some(place)
    }

    /// A job as a channel with that target and prefix works on it.
    fn assign(&self, job: &Job, target: Target, extranonce: ExtranoncePrefix) -> Assignment {
        let assignment = match self.kind {
            ChannelKind::Standard => Assignment::standard(job, target, extranonce.to_full().as_bytes()),
            ChannelKind::Extended => Assignment::extended(job, target, extranonce.as_bytes()),
        };
        assignment.expect("the prefix is changed together with the extranonce of the jobs")
    }
}

/// Makes room for exactly one element where there is none yet: for lists that nearly always have one, on millions of channels.
pub(crate) fn reserve_first<T>(list: &mut Vec<T>) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
}

#[cfg(test)]
mod tests;

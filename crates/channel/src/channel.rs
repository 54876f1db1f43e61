//! One channel: whose it is, what its miner may search, how hard its shares are, and what it has submitted.

use adit_share::{Assignment, Job, Reject, Submission, Verdict, judge};
use adit_units::{ChannelId, Hashrate, Monotonic, Now, Target};

use crate::duplicates::Duplicates;
use crate::{Activation, ExtranoncePrefix, JobTable, TargetHistory, TargetOutOfRange, UserIdentity, Vardiff};

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

/// What a channel is from its opening to its end.
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
}

/// A standard or extended channel of a server.
///
/// It holds no job: those are its connection's, in a [`JobTable`] that the methods here are given. What it makes of a job (the
/// target that the job was issued with, a standard channel's merkle root) it works out with the first share on that job.
#[derive(Debug)]
pub struct Channel {
    terms: ChannelTerms,
    vardiff: Vardiff,
    targets: TargetHistory,
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
        let targets = TargetHistory::new(first, vardiff.target());
        Self { terms, vardiff, targets, assignments: Vec::new(), duplicates: Duplicates::new(seen_key) }
    }

    /// Its number within the connection.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.terms.id
    }

    /// What its miner can work on.
    #[must_use]
    pub const fn kind(&self) -> ChannelKind {
        self.terms.kind
    }

    /// Who its shares are credited to.
    #[must_use]
    pub const fn user(&self) -> &UserIdentity {
        &self.terms.user
    }

    /// The part of the extranonce that tells it from all other channels.
    #[must_use]
    pub const fn extranonce(&self) -> ExtranoncePrefix {
        self.terms.extranonce
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
        let target = self.vardiff.handle_new_tip(network, now);
        self.targets = TargetHistory::new(jobs.next_activation(), self.vardiff.target());
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
    /// If the job's extranonce has another length than this crate's prefixes are made for.
    pub fn assignment(&mut self, job: &Job, activation: Activation) -> Option<&Assignment> {
        let place = self.assigned(job, activation)?;
        self.assignments.get(place).map(|(_, assignment)| assignment)
    }

    /// Judges a share on a job that the connection's table says is open; an accepted one moves the difficulty.
    ///
    /// Takes no memory but for the first share on a job, and when the set of seen shares doubles.
    ///
    /// # Panics
    ///
    /// If the job's extranonce has another length than this crate's prefixes are made for.
    pub fn judge(
        &mut self,
        job: &Job,
        activation: Activation,
        submission: &Submission<'_>,
        now: Now,
    ) -> Verdict {
        let place = self.assigned(job, activation);
        let Some((_, assignment)) = place.and_then(|place| self.assignments.get(place)) else {
            return Verdict::Rejected(Reject::InvalidJobId);
        };
        let verdict = judge(job, assignment, self.duplicates.set_for(activation), submission, now.unix);
        if let Verdict::Valid { work, .. } | Verdict::Block { work, .. } = verdict {
            self.vardiff.handle_share(work, now.monotonic);
        }
        verdict
    }

    /// The place in `assignments` of the job with that activation; worked out if the channel has had no share for it.
    fn assigned(&mut self, job: &Job, activation: Activation) -> Option<usize> {
        let known = self.assignments.iter().rposition(|&(at, _)| at == activation);
        if known.is_some() {
            return known;
        }
        let target = self.targets.at(activation)?;
        let extranonce = self.terms.extranonce;
        let assignment = match self.terms.kind {
            ChannelKind::Standard => Assignment::standard(job, target, &extranonce.to_full()),
            ChannelKind::Extended => Assignment::extended(job, target, extranonce.as_bytes()),
        };
        let assignment = assignment.expect("every job of a server has an extranonce of the full length");
        let place = self.assignments.partition_point(|&(at, _)| at < activation);
        reserve_first(&mut self.assignments);
        self.assignments.insert(place, (activation, assignment));
        Some(place)
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

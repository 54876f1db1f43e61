//! What becomes of a submitted share: judged here, and sent up if the upstream pays for it.

use std::sync::Arc;

use adit_share::{Assignment, Reject, Submission, Unhashed, Verdict, judge_by_hash};
use adit_units::{ChannelId, Now, SequenceNumber, Target, Work};

use super::{Disconnect, Issued, Machine, OUTAGE_GRACE, Outage, Remedy, Share, VARDIFF_INTERVAL};
use crate::job::{NUMBER_STEP, Sv1Job};
use crate::sv1::{Extranonce2, Fault, Id, Submit};

/// What a machine is told of a good share that nobody can be given, and, when the upstream has been gone for long, of every share but those that
/// somebody still takes.
const NO_UPSTREAM: Fault = Fault::Other("No upstream");

/// What it is told of a share that there is no more room for to be remembered, so that it could be sent again.
const TOO_MANY: Fault = Fault::Other("Too many shares");

/// A share whose job is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// The job's place among those issued.
    pub(super) place: usize,
    pub(super) extranonce2: Extranonce2,
    pub(super) version: u32,
    pub(super) ntime: u32,
    pub(super) nonce: u32,
}

/// A share that was judged and is good.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) candidate: Candidate,
    pub(super) job: Arc<Sv1Job>,
    /// The user's place.
    pub(super) user: usize,
    /// What it is worth here.
    pub(super) work: Work,
    pub(super) hash: [u8; 32],
    pub(super) is_block: bool,
}

impl Machine {
    /// `mining.submit`: answered at once.
    ///
    /// # Errors
    ///
    /// If nothing but refused shares has come for minutes.
    pub(super) fn handle_submit(
        &mut self,
        id: Option<&Id>,
        submit: &Submit,
        now: Now,
    ) -> Result<(), Disconnect> {
        match self.take(submit, now) {
            Ok(()) => {
                self.reply_true(id);
                self.handle_accepted(now);
                Ok(())
            }
            Err(fault) => {
                self.count(fault);
                self.reply_fault(id, fault);
                // Some firmware sends the same share many times a day; that is no sign of trouble. And where the upstream is what is missing,
                // the machine is not to blame.
                match fault {
                    Fault::Duplicate | NO_UPSTREAM => Ok(()),
                    // It is well and has too easy a time.
                    TOO_MANY => {
                        self.slow_down(now.monotonic);
                        Ok(())
                    }
                    _ => self.weather(now),
                }
            }
        }
    }

    /// All is well with it, and its difficulty is looked at now and then.
    pub(super) fn handle_accepted(&mut self, now: Now) {
        self.storm.calm();
        self.last_share = Some(now.monotonic);
        self.slow_down_in_time(now.monotonic);
        // There is no job that another difficulty could come with.
        if now.monotonic >= self.next_look && self.outage.is_none() {
            self.next_look = now.monotonic + VARDIFF_INTERVAL;
            self.retarget(now.monotonic);
        }
    }

    /// Tries what may help a machine whose shares are all refused.
    fn weather(&mut self, now: Now) -> Result<(), Disconnect> {
        match self.storm.refuse(now.monotonic) {
            None => Ok(()),
            Some(Remedy::Job) => {
                self.reissue(true, now.monotonic);
                Ok(())
            }
            Some(Remedy::Reconnect) => {
                self.handle_drain();
                Ok(())
            }
            Some(Remedy::Disconnect) => Err(Disconnect::Storm),
        }
    }

    fn take(&mut self, submit: &Submit, now: Now) -> Result<(), Fault> {
        if !self.is_subscribed {
            return Err(Fault::NotSubscribed);
        }
        let Some(user) = self.users.iter().position(|user| *user.name == *submit.user) else {
            return Err(Fault::WorkerMismatch);
        };
        let grace = |outage: &Outage| now.monotonic < outage.since + OUTAGE_GRACE;
        let is_judged = self.outage.as_ref().is_none_or(grace);
        match self.candidate(submit) {
            Ok(candidate) if is_judged || self.has_way(candidate) => self.judge(candidate, user, now),
            Err(fault) if is_judged => Err(fault),
            Ok(_) | Err(_) => Err(NO_UPSTREAM),
        }
    }

    /// Whether a share can be sent up.
    fn has_way(&self, candidate: Candidate) -> bool {
        let Some(outage) = &self.outage else { return true };
        let link = self.issued.get(candidate.place).map(|issued| issued.job.route().link);
        link.is_some_and(|link| outage.ways.contains(&link))
    }

    /// Finds the job, and puts the header's fields together.
    fn candidate(&self, submit: &Submit) -> Result<Candidate, Fault> {
        let number = submit.job.ok_or(Fault::JobNotFound)?;
        let found = self.issued.iter().rposition(|issued| issued.number == number);
        let place = found.ok_or(if number < self.stale_below { Fault::Stale } else { Fault::JobNotFound })?;
        let job = &self.issued.get(place).ok_or(Fault::JobNotFound)?.job;
        let bits = submit.version_bits.unwrap_or_default();
        let own = self.version_mask.unwrap_or_default();
        let (mask, version) = (own & job.version_mask(), job.job().version());
        // Bits that it may roll and this job does not allow are either left out, or those of the job.
        let kept = bits & !mask;
        if kept != 0 && kept != version & own & !mask {
            return Err(Fault::InvalidVersionMask);
        }
        let version = submit.version_bits.map_or(version, |bits| (version & !mask) | (bits & mask));
        let extranonce2 = submit.extranonce2.resized(self.config.extranonce2_len);
        Ok(Candidate { place, extranonce2, version, ntime: submit.ntime, nonce: submit.nonce })
    }

    fn judge(&mut self, candidate: Candidate, user: usize, now: Now) -> Result<(), Fault> {
        let network_now = self.network_now(now);
        let Some(Issued { job, target, .. }) = self.issued.get(candidate.place) else {
            return Err(Fault::JobNotFound);
        };
        // Machines apply a new difficulty at once or with the next job, as they like: a job's shares are good by the easier of the two.
        let target = (*target).max(self.announced.unwrap_or(Target::ZERO));
        let job = Arc::clone(job);
        let Some(assignment) = self.assignments.of(&job, self.extranonce1, target) else {
            return Err(Fault::JobNotFound);
        };
        let submission = Submission {
            channel_id: ChannelId(0),
            sequence_number: SequenceNumber(0),
            job_id: job.job().id(),
            nonce: candidate.nonce,
            ntime: candidate.ntime,
            version: candidate.version,
            extranonce: Some(candidate.extranonce2.as_slice()),
            rest: &[],
        };
        let share = Unhashed { job: job.job(), assignment, submission: &submission };
        let seen = self.seen.on(job.job().tip().prev_hash);
        // Where there is no room the judge says so.
        let _full = seen.make_room();
        let (work, hash, is_block) = match judge_by_hash(share, seen, None, network_now) {
            Verdict::Valid { work, hash } => (work, hash, false),
            Verdict::Block { work, hash, .. } => (work, hash, true),
            Verdict::Rejected(reject) => return Err(fault(reject)),
        };
        self.settle(Found { candidate, job, user, work, hash, is_block }, now)
    }

    /// A share is good: it is counted, and sent up if the upstream pays for it.
    pub(super) fn settle(&mut self, found: Found, now: Now) -> Result<(), Fault> {
        let Found { candidate, job, user, work, hash, is_block } = found;
        let goes_up = is_block || job.target().is_met_by(&hash);
        if goes_up && !self.has_way(candidate) {
            return Err(NO_UPSTREAM);
        }
        self.credit(work, &hash, is_block, now);
        if goes_up {
            let Candidate { nonce, ntime, version, extranonce2, .. } = candidate;
            let extranonce = job.rolled(self.extranonce1, extranonce2.as_slice());
            let worker = self.users.get(user).and_then(|user| user.worker);
            let (route, work) = (job.route(), job.work());
            // A machine that mines at its pace never has two of them wait; without this there would be room for four.
            self.shares.reserve_exact(1);
            self.shares.push_back(Share { route, nonce, ntime, version, extranonce, work, is_block, worker });
        }
        Ok(())
    }

    /// A share was good.
    fn credit(&mut self, work: Work, hash: &[u8; 32], is_block: bool, now: Now) {
        self.counts.accepted += 1;
        self.counts.blocks += u64::from(is_block);
        let hash = Target::from_le_bytes(*hash);
        if self.best.is_none_or(|best| hash < best) {
            self.best = Some(hash);
        }
        self.meter.handle_share(work, now.monotonic);
        if let Some(vardiff) = &mut self.vardiff {
            vardiff.handle_share(work, now.monotonic);
        }
    }

    fn count(&mut self, fault: Fault) {
        let counter = match fault {
            Fault::Stale | Fault::JobNotFound => &mut self.counts.stale,
            Fault::Duplicate => &mut self.counts.duplicate,
            Fault::LowDifficulty => &mut self.counts.low_difficulty,
            Fault::Other(_)
            | Fault::Unauthorized
            | Fault::WorkerMismatch
            | Fault::NotSubscribed
            | Fault::NtimeOutOfRange
            | Fault::InvalidVersionMask
            | Fault::Unsupported => &mut self.counts.invalid,
        };
        *counter += 1;
    }
}

/// The job that shares came for last, as the machine works on it: making it takes a long division.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    last: Option<(u64, Target, [u8; 4], Assignment)>,
}

impl Assignments {
    fn of(&mut self, job: &Sv1Job, extranonce1: [u8; 4], target: Target) -> Option<&Assignment> {
        let key = (job.number() / NUMBER_STEP, target, extranonce1);
        let is_same =
            self.last.as_ref().is_some_and(|(number, target, own, _)| (*number, *target, *own) == key);
        if !is_same {
            let assignment = job.assignment(extranonce1, target)?;
            self.last = Some((key.0, key.1, key.2, assignment));
        }
        self.last.as_ref().map(|(.., assignment)| assignment)
    }
}

/// What a machine is told of a refusal.
const fn fault(reject: Reject) -> Fault {
    match reject {
        Reject::StaleShare => Fault::Stale,
        Reject::InvalidJobId => Fault::JobNotFound,
        Reject::DuplicateShare => Fault::Duplicate,
        Reject::DifficultyTooLow => Fault::LowDifficulty,
        Reject::InvalidNtime => Fault::NtimeOutOfRange,
        Reject::InvalidNonRollableVersionBit | Reject::VersionRollingNotAllowed => Fault::InvalidVersionMask,
        Reject::BadExtranonceSize => Fault::Other("Invalid nonce2 length"),
        Reject::TooManyShares => TOO_MANY,
    }
}

//! When a connection wants its next job before the time that all others get theirs.
//!
//! A target comes into force with a job (`docs/decisions/0008-targets-go-out-with-jobs.md`), and where the node has nothing new to say, a job is a minute
//! old before the next one comes. A channel whose miner has become much faster or slower does not wait for that.

use std::sync::Arc;

use adit_channel::Channel;
use adit_units::{Monotonic, Now};

use super::{OpenChannel, Session, State};
use crate::Work;
use crate::work::{JOB_AGE_MAX, WISHED_JOB_AGE};

/// Whether a connection's next job is wanted before its time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    stage: Stage,
    /// When the newest job was given.
    job_given: Monotonic,
    /// Whether a channel was told a target that comes into force with the next job.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    None,
    /// If not one share comes until then, a channel's shares are too hard for it.
    Silence(Monotonic),
    /// It is wanted, and to be asked for then if it still is.
    Due(Monotonic),
    /// It is to be asked for.
    Ready,
    /// It has been asked for.
    Asked,
}

impl Wish {
    /// When there is something to do.
    pub(super) const fn poll_timeout(&self) -> Option<Monotonic> {
        match self.stage {
            Stage::None | Stage::Ready | Stage::Asked => None,
            Stage::Silence(due) | Stage::Due(due) => Some(due),
        }
    }

    /// A share was accepted on that channel.
    pub(super) fn heed(&mut self, channel: &Channel, now: Monotonic) {
        if channel.waits_for_job() {
            self.want(now);
        }
    }

    /// A channel wants the next job.
    fn want(&mut self, now: Monotonic) {
        match self.stage {
            Stage::None | Stage::Silence(_) => {
                // Every miner of the connection begins anew with a new job.
                let due = self.job_given + WISHED_JOB_AGE;
                self.stage = if due <= now { Stage::Ready } else { Stage::Due(due) };
            }
            Stage::Due(_) | Stage::Ready | Stage::Asked => {}
        }
    }

    /// A channel was told a target that is so much harder that it should not have to wait for it.
    pub(super) fn note_told(&mut self, now: Monotonic) {
        self.is_told = true;
        self.want(now);
    }

    /// The first channel is about to be given a job.
    pub(super) fn note_first_job(&mut self, now: Monotonic) {
        *self = Self { job_given: now, ..Self::default() };
    }
}

impl Session {
    /// Whether a channel wants the next job now, because another target comes into force with it; once for each time that it does.
    ///
    /// If [`Self::handle_aside`] does not take what others have asked for, the wish is to be handed to [`crate::JobFactory::handle_wish`].
    pub const fn take_wish(&mut self) -> bool {
        let is_ready = matches!(self.wish.stage, Stage::Ready);
        if is_ready {
            self.wish.stage = Stage::Asked;
        }
        is_ready
    }

    /// Whether a job that was asked for has not come yet.
    #[must_use]
    pub const fn awaits_job(&self) -> bool {
        matches!(self.wish.stage, Stage::Asked)
    }

    /// Takes in work that was made for those who wait for a job, or was newer than what they had; whether that settles the wish.
    ///
    /// It does so, too, where the wish has come to nothing since; no miner begins anew for that. It does not where this session has the job
    /// already, and where it is on another tip: that is for [`Self::handle_work`], in its turn.
    pub fn handle_aside(&mut self, work: &Arc<Work>, now: Now) -> bool {
        // By the job and not by the order: the job that all others have may have been put up again since, with something new beside it.
        let present = self.jobs.active().map(|(_, present)| present);
        let is_newer = present
            .is_some_and(|present| work.id() > present.id() && present.tip().is_same_chain_end(work.tip()));
        if !self.awaits_job() || !is_newer {
            return false;
        }
        if self.wants_job(now.monotonic) {
            self.take_in(Arc::clone(work), now);
        } else {
            self.listen(now.monotonic);
        }
        true
    }

    /// Whether another target would come into force with a job that was given now.
    fn wants_job(&self, now: Monotonic) -> bool {
        self.wish.is_told || self.channels.iter().any(|open| open.channel.needs_job(now))
    }

    /// Looks whether the next job is wanted: a channel may have been silent for so long that its shares are too hard, or has waited long enough.
    pub(super) fn handle_wish_timeout(&mut self, now: Monotonic) {
        if self.wish.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        self.wish.stage = Stage::None;
        if self.wants_job(now) {
            self.wish.want(now);
        } else {
            self.listen(now);
        }
    }

    /// The channels have been given a job, with which their targets came into force.
    pub(super) fn note_job(&mut self, now: Monotonic) {
        (self.wish.job_given, self.wish.is_told) = (now, false);
        self.listen(now);
    }

    /// Works out when a channel's silence would tell that it is too slow, where that is before the next job comes by itself.
    fn listen(&mut self, now: Monotonic) {
        let silent = |open: &OpenChannel| open.channel.silence_tells_at();
        let first = self.channels.iter().filter_map(silent).filter(|&tells| tells > now).min();
        let sooner = first.filter(|&tells| tells < self.wish.job_given + JOB_AGE_MAX);
        self.wish.stage = match (self.state, sooner) {
            // Who makes his own jobs is given none.
            (State::Mining { .. }, Some(tells)) if self.custom.is_none() => Stage::Silence(tells),
            _ => Stage::None,
        };
    }
}

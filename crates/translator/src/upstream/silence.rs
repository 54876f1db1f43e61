//! How long a pool may say nothing while shares wait for its answer.
//!
//! Many pools answer several shares at once, and on a slow channel that takes a while: the reference pool answers ten at a time, however
//! long it takes until there are ten. So it is not the age of a share that tells of a dead pool, but one of two things: a pool that has
//! brought jobs all along says nothing at all any more, or far more shares of one channel wait than it has ever answered at once.

use core::time::Duration;

use adit_units::Monotonic;

use super::QUIET_PATIENCE;

/// How long a pool may say nothing at all while shares wait, if jobs of it were to come in the meantime.
pub const WAITING_PATIENCE: Duration = Duration::from_secs(90);

/// How long shares must have waited before a pool is given up because of them.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// How many shares of a channel may wait without being reason for doubt.
pub const CROWD: usize = 64;

/// The same before the pool has answered any share, because nobody knows then how many it answers at once.
pub const CROWD_AT_FIRST: usize = 1_024;

/// How often it is looked whether shares wait for too long.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How many pauses between jobs tell when the next is to come.
const PAUSES: usize = 4;

/// Jobs that come closer together than this, for one channel after the other or at a new tip, count as one.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What is known of when the pool speaks.
#[derive(Debug)]
pub(super) struct Silence {
    /// When the pool was last heard of.
    heard: Monotonic,
    last_job: Option<Monotonic>,
    /// The last pauses between jobs, in any order, and how many there have been.
    pauses: [Duration; PAUSES],
    pauses_seen: usize,
    /// The most shares that one answer has accepted.
    batch: Option<usize>,
    checked: Option<Monotonic>,
    /// Since when shares are known to wait without any answer.
    waiting_since: Option<Monotonic>,
    /// Since when so many of one channel do that it is odd.
    crowded_since: Option<Monotonic>,
}

impl Silence {
    pub(super) const fn new(now: Monotonic) -> Self {
        Self {
            heard: now,
            last_job: None,
            pauses: [Duration::ZERO; PAUSES],
            pauses_seen: 0,
            batch: None,
            checked: None,
            waiting_since: None,
            crowded_since: None,
        }
    }

    /// The pool has said something.
    pub(super) const fn hear(&mut self, now: Monotonic) {
        self.heard = now;
    }

    /// What it has said was a job; says nothing of a job that comes together with the one before.
    pub(super) fn hear_job(&mut self) {
        let now = self.heard;
        let Some(last) = self.last_job else {
            self.last_job = Some(now);
            return;
        };
        let pause = now.saturating_since(last);
        if pause < PAUSE_MIN {
            return;
        }
        self.last_job = Some(now);
        if let Some(oldest) = self.pauses.get_mut(self.pauses_seen % PAUSES) {
            *oldest = pause;
        }
        self.pauses_seen += 1;
    }

    /// What it has said was an answer to a share, and accepted that many at once.
    pub(super) fn hear_answer(&mut self, accepted: usize) {
        if accepted > 0 {
            self.batch = Some(self.batch.unwrap_or_default().max(accepted));
        }
        self.forget_shares();
    }

    /// No share that was waiting does so any more.
    pub(super) const fn forget_shares(&mut self) {
        self.waiting_since = None;
        self.crowded_since = None;
    }

    /// When the pool has said nothing for too long, whether shares wait or not.
    pub(super) fn deadline(&self) -> Monotonic {
        self.heard + QUIET_PATIENCE
    }

    /// When to look again whether shares wait for too long, given that some wait.
    pub(super) fn next_check(&self) -> Monotonic {
        self.checked.map_or(self.heard, |checked| checked + CHECK_INTERVAL)
    }

    /// More shares of a channel than this are odd to wait.
    pub(super) fn crowd(&self) -> usize {
        self.batch.map_or(CROWD_AT_FIRST, |batch| CROWD.max(2 * batch))
    }

    /// Looks after shares that wait, if it is time to: what the pool owes for too long, if anything.
    pub(super) fn check(&mut self, is_crowded: bool, now: Monotonic) -> Option<&'static str> {
        self.checked = Some(now);
        let waiting_since = *self.waiting_since.get_or_insert(now);
        if now >= waiting_since + ANSWER_PATIENCE && now >= self.heard + self.patience() {
            return Some("anything while shares wait for an answer");
        }
        if !is_crowded {
            self.crowded_since = None;
            return None;
        }
        let crowded_since = *self.crowded_since.get_or_insert(now);
        (now >= crowded_since + ANSWER_PATIENCE).then_some("an answer to any of many shares")
    }

    /// How long the pool may say nothing at all while shares wait: until its next job should have come long ago.
    fn patience(&self) -> Duration {
        let longest = self.pauses.iter().max().copied().unwrap_or_default();
        let is_known = self.pauses_seen >= PAUSES;
        if is_known { (longest * 2).clamp(WAITING_PATIENCE, QUIET_PATIENCE) } else { QUIET_PATIENCE }
    }
}

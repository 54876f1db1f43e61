//! How long a pool may say nothing while shares wait for its answer.
//!
//! Many pools answer several shares at once, and on a slow channel that takes a while: the reference pool answers ten at a time, however
//! long it takes until there are ten. So it is not the age of a share that tells of a dead pool. A pool that says nothing is asked for
//! something that each must answer; and far more shares of one channel that wait than it has ever answered at once are odd.

use core::time::Duration;

use adit_units::Monotonic;

use super::QUIET_PATIENCE;

/// How long a pool says nothing at all while shares wait before it is asked whether it is there.
pub const PROBE_AFTER: Duration = Duration::from_secs(5);

/// How long it then may go on saying nothing.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// How long after it has been asked it is not asked again.
pub const PROBE_PAUSE: Duration = Duration::from_secs(15);

/// How long more shares than is usual must have waited before a pool is given up because of them.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// How many shares of a channel may wait without being reason for doubt.
pub const CROWD: usize = 64;

/// The same before the pool has answered any share, because nobody knows then how many it answers at once.
pub const CROWD_AT_FIRST: usize = 1_024;

/// How often it is looked whether shares wait for too long.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a look at shares that wait comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// There is no reason for doubt, or it is too early for one.
    Fine,
    /// The pool is to be asked whether it is there.
    Ask,
    /// The pool owes this for too long.
    Dead(&'static str),
}

/// What is known of when the pool speaks.
#[derive(Debug)]
pub(super) struct Silence {
    /// When the pool was last heard of.
    heard: Monotonic,
    /// The most shares that one answer has accepted.
    batch: Option<usize>,
    checked: Option<Monotonic>,
    /// Since when shares are known to wait without any answer.
    waiting_since: Option<Monotonic>,
    /// Since when so many of one channel do that it is odd.
    crowded_since: Option<Monotonic>,
    /// When the pool was last asked whether it is there.
    asked: Option<Monotonic>,
}

impl Silence {
    pub(super) const fn new(now: Monotonic) -> Self {
        Self { heard: now, batch: None, checked: None, waiting_since: None, crowded_since: None, asked: None }
    }

    /// The pool has said something.
    pub(super) const fn hear(&mut self, now: Monotonic) {
        self.heard = now;
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

    /// Looks after shares that wait, if it is time to.
    pub(super) fn check(&mut self, is_crowded: bool, now: Monotonic) -> Finding {
        self.checked = Some(now);
        let waiting_since = *self.waiting_since.get_or_insert(now);
        // Whatever it says after it was asked shows that it is there.
        if self.asked.is_some_and(|asked| asked > self.heard && now >= asked + PROBE_PATIENCE) {
            return Finding::Dead("anything while shares wait for an answer");
        }
        if is_crowded {
            let crowded_since = *self.crowded_since.get_or_insert(now);
            if now >= crowded_since + ANSWER_PATIENCE {
                return Finding::Dead("an answer to any of many shares");
            }
        } else {
            self.crowded_since = None;
        }
        let is_silent = now >= waiting_since + PROBE_AFTER && now >= self.heard + PROBE_AFTER;
        if is_silent && self.asked.is_none_or(|asked| now >= asked + PROBE_PAUSE) {
            self.asked = Some(now);
            return Finding::Ask;
        }
        Finding::Fine
    }
}

//! Asking a machine that has said nothing for long whether it is still there.

use core::time::Duration;

use adit_units::Monotonic;

/// How long a machine says nothing before it is asked, and again after that; shares come far more often.
const PAUSE: Duration = Duration::from_secs(60);

/// How often a machine is asked that gives no answer.
const PINGS_MAX: u32 = 3;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is to be asked, under this number.
    Ping(u64),
    /// It has answered before, and does so no more.
    GiveUp,
}

/// When a machine was heard of, and what it was asked since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pings {
    heard: Monotonic,
    /// Those since then.
    unanswered: u32,
    last_id: u64,
    /// Whether it is known to answer. Who never has is not given up for that.
    has_answered: bool,
}

impl Pings {
    pub(super) const fn new(now: Monotonic) -> Self {
        Self { heard: now, unanswered: 0, last_id: 0, has_answered: false }
    }

    /// The machine has said something, which is an answer or not.
    pub(super) const fn hear(&mut self, is_answer: bool, now: Monotonic) {
        self.has_answered |= is_answer && self.unanswered > 0;
        (self.heard, self.unanswered) = (now, 0);
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Monotonic> {
        let is_asked = self.unanswered < PINGS_MAX || self.has_answered;
        is_asked.then(|| self.heard + PAUSE * (self.unanswered + 1))
    }

    /// What is due now.
    pub(super) fn poll(&mut self, now: Monotonic) -> Option<Due> {
        self.due().filter(|&due| due <= now)?;
        if self.unanswered >= PINGS_MAX {
            return Some(Due::GiveUp);
        }
        self.unanswered += 1;
        self.last_id += 1;
        Some(Due::Ping(self.last_id))
    }
}

//! How long a pool may say nothing while shares wait for its answer.
//!
//! Many pools answer several shares at once, and on a slow channel that takes a while: the reference pool answers ten at a time, however
//! long it takes until there are ten. So it is not the age of a share that tells of a dead pool. Three things do:
//!
//! * A pool that says nothing at all is asked for a channel that none can open, which each must answer.
//! * A pool that goes on talking and answers no shares is given one that none can accept, of a job that there is not. Pools hold back that
//!   they accept a share, but not that they refuse one: there is nothing to count together, and the reference pool and ours refuse within
//!   the same call that reads the share. So one lone share that waits with a pool for the nine that are to follow it, and a pool that
//!   judges nothing any more, look alike until then and differ within moments after. This makes the bound a plain time:
//!   [`DOUBT_AFTER`] and [`PROBE_PATIENCE`].
//!
//!   Such a share stands in the pool's books as a refused one, so there are to be few of them. The pool is not asked again before a further
//!   share was sent. Each time that it answers, the time until it is asked doubles, up to [`DOUBT_AFTER_MAX`]; and an acceptance shows how
//!   long its acceptances take: four times that is waited for. A pool that answers ten shares in a minute or two is so asked once or twice
//!   per connection. One that takes longer is trusted for longer, and less is at stake with it: what a slow channel finds in that time.
//!
//!   A pool that passes over shares of unknown jobs, or hangs up on them, and that holds back its acceptances, cannot be told from a dead one
//!   on one connection. So each connection that ends in doubt makes the next one wait for twice as long, up to [`DOUBT_AFTER_NEXT_MAX`]. If
//!   even then not one share is accepted, the pool is dead after all, and the next connection waits no longer than the first.
//! * Far more shares of one channel that wait than it has ever answered at once are odd, and given up on without a question: this bounds
//!   what a pool may keep that refuses shares and never accepts one.

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

/// How long shares may wait, without an answer to any share, before the pool is given one that it must refuse; ten seconds are the most that
/// pools are known to gather answers for, if they do so by time.
pub const DOUBT_AFTER: Duration = Duration::from_secs(30);

/// The same with a pool that has answered such a share, or takes that long to accept shares.
pub const DOUBT_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The same at first on a new connection to a pool that others were given up in doubt of: each time that it judges nothing indeed, this is lost.
pub const DOUBT_AFTER_NEXT_MAX: Duration = Duration::from_secs(300);

/// How many times as long as a pool has taken to accept shares it may take.
const SLACK: u32 = 4;

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
    /// The pool is to be given a share that it must refuse.
    Doubt,
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
    /// Since when shares are known to wait without any being accepted.
    unaccepted_since: Option<Monotonic>,
    /// How long shares may wait before the pool is given one that it must refuse.
    doubt_after: Duration,
    /// The same at first on the next connection, if this one does not end in doubt.
    doubt_after_next: Duration,
    /// When it was, if it has not answered that or any other.
    doubted: Option<Monotonic>,
    /// Whether a share was sent since then.
    has_news: bool,
}

impl Silence {
    pub(super) const fn new(doubt_after: Duration, now: Monotonic) -> Self {
        Self {
            heard: now,
            batch: None,
            checked: None,
            waiting_since: None,
            crowded_since: None,
            asked: None,
            unaccepted_since: None,
            doubt_after,
            doubt_after_next: doubt_after,
            doubted: None,
            has_news: false,
        }
    }

    /// The pool has said something.
    pub(super) const fn hear(&mut self, now: Monotonic) {
        self.heard = now;
    }

    /// What it has said was an answer to a share, and accepted that many at once.
    pub(super) fn hear_answer(&mut self, accepted: usize) {
        if accepted > 0 {
            self.batch = Some(self.batch.unwrap_or_default().max(accepted));
            if let Some(since) = self.unaccepted_since.take() {
                let took = self.heard.saturating_since(since);
                // What earlier connections have shown to be needed holds, however fast a new channel's first easy shares are accepted.
                self.doubt_after = (took * SLACK).max(self.doubt_after_next).min(DOUBT_AFTER_MAX);
                self.doubt_after_next = self.doubt_after.min(DOUBT_AFTER_NEXT_MAX);
            }
        }
        self.forget_wait();
    }

    /// What it has said was that it refuses the share that it had to refuse: it judges shares, so others may wait for longer.
    pub(super) fn hear_refusal_of_doubt(&mut self) {
        self.doubt_after = (self.doubt_after * 2).min(DOUBT_AFTER_MAX);
        self.doubt_after_next = DOUBT_AFTER;
        self.forget_wait();
    }

    /// The channel of the share that it had to refuse is closed, so it need not answer that any more.
    pub(super) const fn forget_doubt(&mut self) {
        self.doubted = None;
    }

    /// How long shares may wait at first on the next connection to this pool, if this one ends now.
    pub(super) fn doubt_after_next(&self) -> Duration {
        let was_patient = self.doubt_after_next >= DOUBT_AFTER_NEXT_MAX;
        match (self.doubted, self.batch) {
            (None, _) => self.doubt_after_next,
            (Some(_), None) if was_patient => DOUBT_AFTER,
            (Some(_), _) => (self.doubt_after_next * 2).min(DOUBT_AFTER_NEXT_MAX),
        }
    }

    /// A share is sent, and others wait or not.
    pub(super) const fn note_share(&mut self, is_alone: bool) {
        self.has_news = true;
        if is_alone {
            self.unaccepted_since = None;
            self.forget_wait();
        }
    }

    /// Whatever was waited for, it counts from now on.
    const fn forget_wait(&mut self) {
        self.waiting_since = None;
        self.crowded_since = None;
        self.doubted = None;
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
        self.unaccepted_since.get_or_insert(now);
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
        self.check_judgement(waiting_since, now)
    }

    /// Looks whether the pool judges shares at all.
    fn check_judgement(&mut self, waiting_since: Monotonic, now: Monotonic) -> Finding {
        match self.doubted {
            Some(doubted) if now >= doubted + PROBE_PATIENCE => Finding::Dead("an answer to any share"),
            None if self.has_news && now >= waiting_since + self.doubt_after => {
                (self.doubted, self.has_news) = (Some(now), false);
                Finding::Doubt
            }
            Some(_) | None => Finding::Fine,
        }
    }
}

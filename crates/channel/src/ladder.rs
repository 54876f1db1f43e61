//! Which of several upstreams to try and which to use: the best that is ready, and a better one as soon as it is.

use core::time::Duration;

use adit_units::Monotonic;

/// How long an upstream that has failed once is left alone; twice as long after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long one is left alone at most, but for a quarter more that chance adds.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The same while another serves, of one that has taken shares and accepted none.
const LONGEST_BAN: Duration = Duration::from_secs(900);

/// How long an upstream must have served before its failures are forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// How long the jobs of an upstream that has failed are mined on while another is set up; then the miners work for themselves.
const STRANDED_PATIENCE: Duration = Duration::from_secs(3);

/// One upstream.
#[derive(Clone, Copy, Debug, Default)]
struct Rung {
    failures: u32,
    /// Not to be tried before.
    not_before: Monotonic,
    /// Not to be tried before while another serves.
    banned_until: Monotonic,
    is_tried: bool,
}

/// What became of the shares that an upstream was sent until it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// It accepted some, or was sent none.
    Given,
    /// It accepted none.
    Withheld,
}

/// Whose work is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody's: what was done last is gone on with until this moment, unless an upstream is ready before.
    Stranded {
        /// When to give up waiting.
        until: Monotonic,
    },
    /// The miners' own, because no upstream is to be had.
    Solo,
    /// An upstream's.
    Using {
        /// Its place in the order of preference, the best being zero.
        upstream: usize,
        /// Since when.
        since: Monotonic,
    },
}

/// The upstreams in order of preference, the best first.
///
/// All that are better than the one in use are set up side by side, each as often as its pauses allow; the first that is ready is used, and
/// given up again for a better one. When the one in use fails, its pause begins and all others are tried.
#[derive(Debug)]
pub struct Ladder {
    rungs: Box<[Rung]>,
    standing: Standing,
}

impl Ladder {
    /// That many upstreams, none of them tried yet.
    #[must_use]
    pub fn new(upstreams: usize, now: Monotonic) -> Self {
        let standing = Standing::Stranded { until: now + STRANDED_PATIENCE };
        Self { rungs: vec![Rung::default(); upstreams].into(), standing }
    }

    /// Whose work is being done.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// An upstream to set up now, and to report on with [`Self::handle_ready`] or [`Self::handle_failed`].
    pub fn poll_attempt(&mut self, now: Monotonic) -> Option<usize> {
        let (wanted, serves) = (self.wanted(), self.serves());
        let (place, rung) = self
            .rungs
            .iter_mut()
            .enumerate()
            .take(wanted)
            .find(|(_, rung)| !rung.is_tried && rung.due(serves) <= now)?;
        rung.is_tried = true;
        Some(place)
    }

    /// How many of the first upstreams are better than what there is.
    fn wanted(&self) -> usize {
        match self.standing {
            Standing::Using { upstream, .. } => upstream,
            Standing::Stranded { .. } | Standing::Solo => self.rungs.len(),
        }
    }

    /// Whether there is an upstream that is used.
    const fn serves(&self) -> bool {
        matches!(self.standing, Standing::Using { .. })
    }

    /// An upstream that was tried is ready; the answer is whether it is used from now on. If not, it is to be let go.
    pub fn handle_ready(&mut self, upstream: usize, now: Monotonic) -> bool {
        let is_better = upstream < self.wanted();
        if let Some(rung) = self.rungs.get_mut(upstream) {
            rung.is_tried = false;
        }
        if is_better {
            self.standing = Standing::Using { upstream, since: now };
        }
        is_better
    }

    /// An upstream that was tried could not be set up, or the one in use has failed. `jitter` is random.
    ///
    /// An upstream that was given up for a better one is not to be reported. One that pays for nothing is not to take the miners from one that
    /// does again and again, however long it holds them.
    pub fn handle_failed(&mut self, upstream: usize, credit: Credit, now: Monotonic, jitter: u8) {
        let served = match self.standing {
            Standing::Using { upstream: used, since } if used == upstream => {
                Some(now.saturating_since(since))
            }
            _ => None,
        };
        if served.is_some() {
            self.standing = Standing::Stranded { until: now + STRANDED_PATIENCE };
        }
        let Some(rung) = self.rungs.get_mut(upstream) else { return };
        rung.is_tried = false;
        if credit == Credit::Given && served.is_some_and(|served| served >= FORGIVEN_AFTER) {
            rung.failures = 0;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << rung.failures.min(16));
        let pause = |longest| {
            let pause = doubled.min(longest);
            now + pause + pause * u32::from(jitter) / 1_024
        };
        rung.failures = rung.failures.saturating_add(1);
        rung.not_before = pause(LONGEST_PAUSE);
        if credit == Credit::Withheld {
            rung.banned_until = pause(LONGEST_BAN);
        }
    }

    /// Gives up waiting where that is due; the answer is whether the miners are to work for themselves from now on.
    ///
    /// Before [`Standing::Stranded`] ends by itself this is so as soon as no upstream is being tried.
    pub fn handle_timeout(&mut self, now: Monotonic) -> bool {
        let Standing::Stranded { until } = self.standing else { return false };
        let is_hopeless = self.rungs.iter().all(|rung| !rung.is_tried && rung.not_before > now);
        let gives_up = now >= until || is_hopeless;
        if gives_up {
            self.standing = Standing::Solo;
        }
        gives_up
    }

    /// When [`Self::poll_attempt`] and [`Self::handle_timeout`] are to be asked again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let rungs = self.rungs.iter().take(self.wanted()).filter(|rung| !rung.is_tried);
        let patience = match self.standing {
            Standing::Stranded { until } => Some(until),
            Standing::Solo | Standing::Using { .. } => None,
        };
        rungs.map(|rung| rung.due(self.serves())).chain(patience).min()
    }
}

impl Rung {
    /// When it may be tried.
    fn due(&self, serves: bool) -> Monotonic {
        if serves { self.not_before.max(self.banned_until) } else { self.not_before }
    }
}

#[cfg(test)]
mod tests;

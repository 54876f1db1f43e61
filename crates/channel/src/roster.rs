//! The attempts at upstreams that there are: the one in use, those on their way, and those that are being let go.

use core::time::Duration;

use adit_units::Monotonic;

use crate::{Credit, Ladder, Standing};

/// How long an upstream that is no longer used may still answer for the shares that it has.
const FAREWELL: Duration = Duration::from_secs(10);

/// How often an upstream may send us on.
const HOPS_MAX: u8 = 3;

/// How long after it has sent us on the upstream in use may do so again.
const REDIRECT_PAUSE: Duration = Duration::from_secs(60);

/// How long the upstream in use may be without a job that was made for it before it is given up: miners that work by other rules earn nothing
/// there.
const JOBLESS_PATIENCE: Duration = Duration::from_secs(10);

/// Which link, of all that this run has had.
pub type LinkId = u64;

/// An attempt, with whatever carries it out.
#[derive(Debug)]
pub struct Attempt<L, T> {
    /// Which it is.
    pub id: LinkId,
    /// The place of its upstream in the order of preference, the best being zero.
    pub upstream: usize,
    /// What carries it out.
    pub link: L,
    /// What work for it must be like, once that is known.
    pub terms: Option<T>,
    /// Until when it is kept, where another one is used.
    until: Option<Monotonic>,
    /// How often the upstream has sent us on.
    hops: u8,
    /// Before this moment it may not send us on again.
    redirect_due: Monotonic,
}

impl<L, T> Attempt<L, T> {
    /// Whether another one is used, and this one is only kept for what it still has to answer.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.until.is_some()
    }
}

/// An attempt that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The place of its upstream in the order of preference.
    pub upstream: usize,
    /// Whether miners worked for it.
    pub was_used: bool,
}

/// All attempts, and the ladder that says which to make and to use.
#[derive(Debug)]
pub struct Roster<L, T> {
    ladder: Ladder,
    attempts: Vec<Attempt<L, T>>,
    /// The one whose terms the miners work by.
    used: Option<LinkId>,
    /// When that one is given up, unless a job is put to it before.
    jobless: Option<Monotonic>,
    last: LinkId,
}

impl<L, T> Roster<L, T> {
    /// No attempt yet at any of that many upstreams.
    #[must_use]
    pub fn new(upstreams: usize, now: Monotonic) -> Self {
        let ladder = Ladder::new(upstreams, now);
        Self { ladder, attempts: Vec::new(), used: None, jobless: None, last: 0 }
    }

    /// An upstream to make an attempt at now.
    pub fn poll_attempt(&mut self, now: Monotonic) -> Option<usize> {
        self.ladder.poll_attempt(now)
    }

    /// Whose work is being done.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.ladder.standing()
    }

    /// An attempt begins, after so many hops.
    pub fn begin(&mut self, (upstream, hops): (usize, u8), link: impl FnOnce(LinkId) -> L) {
        self.last += 1;
        let (id, link) = (self.last, link(self.last));
        let redirect_due = Monotonic::default();
        self.attempts.push(Attempt { id, upstream, link, terms: None, until: None, hops, redirect_due });
    }

    /// That attempt, if it is not over.
    #[must_use]
    pub fn attempt(&self, id: LinkId) -> Option<&Attempt<L, T>> {
        self.attempts.iter().find(|attempt| attempt.id == id)
    }

    /// All of them, in no order that means anything.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt<L, T>> {
        self.attempts.iter()
    }

    /// That attempt, if it is not over.
    pub fn attempt_mut(&mut self, id: LinkId) -> Option<&mut Attempt<L, T>> {
        self.attempts.iter_mut().find(|attempt| attempt.id == id)
    }

    /// The one in use.
    #[must_use]
    pub fn used(&self) -> Option<&Attempt<L, T>> {
        self.used.and_then(|used| self.attempt(used))
    }

    /// Those that carry out what there is.
    pub fn into_links(self) -> impl Iterator<Item = L> {
        self.attempts.into_iter().map(|attempt| attempt.link)
    }

    /// An attempt has come through with terms that jobs can be made by; the answer is whether it is in use from now on. If not, it is let go.
    pub fn handle_ready(&mut self, id: LinkId, terms: T, now: Monotonic) -> bool {
        // One that is on its way out may still have things to say.
        let staying = self.attempt(id).filter(|attempt| !attempt.is_leaving());
        let Some(upstream) = staying.map(|attempt| attempt.upstream) else { return false };
        // Where an upstream has sent us on, the new link takes the old one's place.
        let follows = self.used().is_some_and(|used| used.upstream == upstream);
        if !follows && !self.ladder.handle_ready(upstream, now) {
            self.attempts.retain(|attempt| attempt.id != id);
            return false;
        }
        if let Some(former) = self.used.replace(id)
            && let Some(former) = self.attempt_mut(former)
        {
            former.until = Some(now + FAREWELL);
        }
        self.handle_terms(id, terms, now)
    }

    /// The terms of an upstream are these from now on; the answer is whether it is the one in use.
    pub fn handle_terms(&mut self, id: LinkId, terms: T, now: Monotonic) -> bool {
        if let Some(attempt) = self.attempt_mut(id) {
            attempt.terms = Some(terms);
        }
        let is_used = self.used == Some(id);
        if is_used {
            self.jobless = Some(now + JOBLESS_PATIENCE);
        }
        is_used
    }

    /// A job that was made by the terms of the one in use was put to it.
    pub const fn handle_job(&mut self) {
        self.jobless = None;
    }

    /// One that is being let go is kept for longer, because miners still have no other work than its own.
    pub fn keep(&mut self, id: LinkId, now: Monotonic) {
        if let Some(until) = self.attempt_mut(id).and_then(|attempt| attempt.until.as_mut()) {
            *until = now + FAREWELL;
        }
    }

    /// An attempt has failed; the answer is `None` if nothing depended on it. `jitter` is random.
    pub fn handle_failed(
        &mut self,
        id: LinkId,
        credit: Credit,
        now: Monotonic,
        jitter: u8,
    ) -> Option<Failed> {
        let place = self.attempts.iter().position(|attempt| attempt.id == id)?;
        let attempt = self.attempts.swap_remove(place);
        let upstream = attempt.upstream;
        let was_used = self.used == Some(id);
        let serves_otherwise = self.used().is_some_and(|used| used.upstream == upstream);
        if !was_used && (attempt.until.is_some() || serves_otherwise) {
            return None;
        }
        if was_used {
            (self.used, self.jobless) = (None, None);
        }
        self.ladder.handle_failed(upstream, credit, now, jitter);
        Some(Failed { upstream, was_used })
    }

    /// An upstream sends us on (spec 3.6.5). The answer is where its place is and after how many hops the next attempt begins, or `None` if
    /// it is not to be followed.
    ///
    /// The one in use is used until the next attempt has come through, so nothing but a pause keeps it from sending us on without end, to
    /// wherever it likes.
    pub fn redirect(&mut self, id: LinkId, now: Monotonic) -> Option<(usize, u8)> {
        let place = self.attempts.iter().position(|attempt| attempt.id == id)?;
        let attempt = self.attempts.get(place)?;
        let next = (attempt.upstream, attempt.hops + 1);
        if attempt.until.is_some() || attempt.hops >= HOPS_MAX {
            return None;
        }
        if self.used != Some(id) {
            self.attempts.swap_remove(place);
            return Some(next);
        }
        let follows =
            |other: &Attempt<L, T>| other.id != id && other.upstream == next.0 && other.until.is_none();
        if now < attempt.redirect_due || self.attempts.iter().any(follows) {
            return None;
        }
        self.attempts.get_mut(place)?.redirect_due = now + REDIRECT_PAUSE;
        Some(next)
    }

    /// The attempt in use that is to be given up because no job was made by its terms. While the node makes none at all (`is_supplied` is
    /// false), that is not the upstream's doing.
    pub fn poll_jobless(&mut self, is_supplied: bool, now: Monotonic) -> Option<LinkId> {
        self.jobless.filter(|&jobless| jobless <= now)?;
        if !is_supplied {
            self.jobless = Some(now + JOBLESS_PATIENCE);
            return None;
        }
        self.used
    }

    /// Lets go what is due; the answer is whether miners are to work for themselves from now on.
    pub fn handle_timeout(&mut self, now: Monotonic) -> bool {
        let used = self.used;
        self.attempts
            .retain(|attempt| used == Some(attempt.id) || attempt.until.is_none_or(|until| until > now));
        let gives_up = self.ladder.handle_timeout(now);
        if gives_up {
            (self.used, self.jobless) = (None, None);
        }
        gives_up
    }

    /// When to ask [`Self::poll_attempt`], [`Self::poll_jobless`] and [`Self::handle_timeout`] again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let farewells = self.attempts.iter().filter_map(|attempt| attempt.until);
        self.ladder.poll_timeout().into_iter().chain(farewells).chain(self.jobless).min()
    }
}

#[cfg(test)]
mod tests;

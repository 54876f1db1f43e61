//! How much one client, and all of them together, may ask of the server.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_units::Monotonic;

/// How long a client may take to send `SetupConnection`.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take from there to ask for its first token.
pub const FIRST_TOKEN_TIMEOUT: Duration = Duration::from_secs(600);

/// How long transactions that were asked for may take to come, in full.
pub const MISSING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a declaration for a block that our node has not seen yet waits for it.
pub const TIP_PATIENCE: Duration = Duration::from_secs(5);

/// How long node and queue may take over one declaration before its client is told that it could not be checked.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Tokens that a connection may ask for in a row; one more each [`TOKEN_INTERVAL`].
pub const TOKENS_MAX: u32 = 16;

/// See [`TOKENS_MAX`].
pub const TOKEN_INTERVAL: Duration = Duration::from_secs(1);

/// Tokens of a connection that may be unused; asking for another one makes the oldest void.
pub const TOKENS_KEPT: usize = 32;

/// Requests for tokens that may wait until the connection may have another one.
pub const TOKENS_WAITING: usize = 32;

/// Declarations of a connection that may wait for the one that is under way.
pub const DECLARATIONS_WAITING: usize = 4;

/// Accepted declarations of a connection whose solutions are still taken.
pub const DECLARATIONS_KEPT: usize = 4;

/// Solutions that a connection may push in a row; one more each [`SOLUTION_INTERVAL`]. Those beyond are not looked at.
pub const SOLUTIONS_MAX: u32 = 64;

/// See [`SOLUTIONS_MAX`].
pub const SOLUTION_INTERVAL: Duration = Duration::from_secs(1);

/// Messages that a connection may send in a row; one more each [`REQUEST_INTERVAL`].
pub const REQUESTS_MAX: u32 = 1_024;

/// See [`REQUESTS_MAX`].
pub const REQUEST_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of declarations that all connections together may have the server hold.
pub const BUDGET_BYTES: usize = 256 << 20;

/// So many in a row, and then one in each interval.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    most: u32,
    interval: Duration,
    /// When all that may come in a row may come again.
    full: Monotonic,
}

impl Pace {
    /// A pace that nothing has been taken of.
    #[must_use]
    pub const fn new(most: u32, interval: Duration) -> Self {
        Self { most, interval, full: Monotonic::from_micros(0) }
    }

    /// When one more may be taken: a moment that is not ahead if that is now.
    #[must_use]
    pub fn next(&self) -> Monotonic {
        let burst = self.interval * self.most.saturating_sub(1);
        let micros = u64::try_from(burst.as_micros()).unwrap_or(u64::MAX);
        Monotonic::from_micros(self.full.to_micros().saturating_sub(micros))
    }

    /// Whether all that may come in a row may come now.
    #[must_use]
    pub fn is_rested(&self, now: Monotonic) -> bool {
        self.full <= now
    }

    /// Takes one if one may be taken; whether it was.
    pub fn take(&mut self, now: Monotonic) -> bool {
        let is_due = self.next() <= now;
        if is_due {
            self.full = self.full.max(now) + self.interval;
        }
        is_due
    }
}

/// Bytes that connections hold in all, and how many they may; cloning gives another handle on the same count.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    most: usize,
}

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub struct Hold {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// Nothing held of so many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { held: Arc::new(AtomicUsize::new(0)), most }
    }

    /// Takes so many bytes, if they are there.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Hold> {
        let more = |held: usize| held.checked_add(bytes).filter(|&held| held <= self.most);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Hold { held: Arc::clone(&self.held), bytes })
    }

    /// How many bytes are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Hold {
    /// How many.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Default for Budget {
    /// [`BUDGET_BYTES`].
    fn default() -> Self {
        Self::new(BUDGET_BYTES)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_pace_is_some_at_once_and_then_one_at_a_time() {
        for start in [0_u64, 1_000] {
            let mut pace = Pace::new(3, Duration::from_secs(10));
            let mut taken = |secs: u64| (0..9).filter(|_| pace.take(at(start + secs))).count();
            assert_eq!([taken(0), taken(9), taken(10), taken(25), taken(30)], [3, 0, 1, 1, 1], "{start}");
            assert_eq!(taken(10_000), 3, "and no more than that");
        }
    }

    #[test]
    fn a_pace_says_when_the_next_may_come() {
        let mut pace = Pace::new(2, Duration::from_secs(10));
        assert!(pace.take(at(100)) && pace.take(at(100)));
        assert_eq!(pace.next(), at(110));
        assert!(!pace.take(at(109)) && pace.take(at(110)));
    }

    #[test]
    fn a_budget_is_shared_and_given_back() {
        let budget = Budget::new(100);
        let shared = budget.clone();
        let first = shared.take(60).unwrap();
        assert!(budget.take(41).is_none() && shared.take(usize::MAX).is_none());
        let second = budget.take(40).unwrap();
        drop(first);
        assert_eq!(budget.held(), 40);
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}

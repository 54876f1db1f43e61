//! How much one client, and all of them together, may ask of the server.

mod budget;

use core::time::Duration;

use adit_units::Monotonic;

pub use self::budget::{BUDGET_BYTES, BUDGET_SHARES, Budget, Hold, Shares};

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
}

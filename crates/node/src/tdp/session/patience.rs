//! How much of what is worth nothing a client of the template provider may send, and how much of it stands in the log.

use core::time::Duration;

use adit_units::Monotonic;

/// Solutions that make no block which a client may send in a row.
pub const WORTHLESS_MAX: u64 = 100;

/// Solutions that make no block which are forgiven each second.
pub const WORTHLESS_PER_SECOND: u64 = 1;

/// How long after a line about such solutions the next one is written, with how many there were.
pub const WORTHLESS_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lists of transactions that a client may ask for in a row, each up to a block.
pub const LISTS_MAX: u64 = 64;

/// Lists of transactions that are granted each second on top. Whoever looks at every template asks about once a second.
pub const LISTS_PER_SECOND: u64 = 4;

const MICROS: u64 = 1_000_000;

/// The patience with one client.
#[derive(Debug)]
pub(super) struct Patience {
    worthless: Bucket<WORTHLESS_MAX, WORTHLESS_PER_SECOND>,
    lists: Bucket<LISTS_MAX, LISTS_PER_SECOND>,
    /// When the last line about worthless solutions was written.
    logged: Option<Monotonic>,
    /// How many have come since.
    unlogged: u64,
}

impl Patience {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { worthless: Bucket::new(now), lists: Bucket::new(now), logged: None, unlogged: 0 }
    }

    /// Whether one more solution that makes no block is put up with.
    pub(super) fn forgives_worthless(&mut self, now: Monotonic) -> bool {
        self.worthless.take(now)
    }

    /// Whether the client gets one more list of transactions.
    pub(super) fn grants_list(&mut self, now: Monotonic) -> bool {
        self.lists.take(now)
    }

    /// How many worthless solutions to write a line about now, this one included; `None` where one was written just now.
    pub(super) fn worthless_to_log(&mut self, now: Monotonic) -> Option<u64> {
        self.unlogged += 1;
        if self.logged.is_some_and(|logged| now.saturating_since(logged) < WORTHLESS_LOG_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(core::mem::take(&mut self.unlogged))
    }
}

/// Holds up to `MAX` tokens, and gets `RATE` a second.
#[derive(Debug)]
struct Bucket<const MAX: u64, const RATE: u64> {
    /// When the bucket is full again.
    full_at: Monotonic,
}

impl<const MAX: u64, const RATE: u64> Bucket<MAX, RATE> {
    const fn new(now: Monotonic) -> Self {
        Self { full_at: now }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, now: Monotonic) -> bool {
        let each = Duration::from_micros(MICROS / RATE);
        let full_at = self.full_at.max(now) + each;
        let most = Duration::from_micros(MICROS * MAX / RATE);
        let granted = full_at.saturating_since(now) <= most;
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(0) + Duration::from_secs(secs)
    }

    #[test]
    fn as_many_as_the_limit_at_once_and_then_at_its_rate() {
        let mut patience = Patience::new(at(0));
        assert_eq!((0..1_000).filter(|_| patience.forgives_worthless(at(0))).count() as u64, WORTHLESS_MAX);
        assert_eq!(
            (0..1_000).filter(|_| patience.forgives_worthless(at(10))).count() as u64,
            10 * WORTHLESS_PER_SECOND
        );
        assert_eq!((0..1_000).filter(|_| patience.grants_list(at(5_000))).count() as u64, LISTS_MAX);
        assert_eq!(
            (0..1_000).filter(|_| patience.grants_list(at(5_003))).count() as u64,
            3 * LISTS_PER_SECOND
        );
        // Who asks as often as is granted is never refused.
        assert!((0..10_000).all(|asked| patience.grants_list(at(6_000 + asked / LISTS_PER_SECOND))));
    }

    #[test]
    fn one_line_a_minute_tells_of_all() {
        let mut patience = Patience::new(at(0));
        let told: Vec<_> = (0..600).filter_map(|secs| patience.worthless_to_log(at(secs / 5))).collect();
        assert_eq!(told, [1, 300]);
    }
}

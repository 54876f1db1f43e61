//! How long to wait before connecting again.

use core::time::Duration;

use rand_core::Rng;

/// Waiting times that double up to a bound, each shortened at random so that miners who lost a server together do not all come back
/// together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The longest wait after the first failure.
    pub const FIRST: Duration = Duration::from_millis(500);
    /// The longest wait of all.
    pub const LONGEST: Duration = Duration::from_secs(30);

    /// How long to wait after one more failure: from half of the bound to all of it.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let bound = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = bound / 2;
        // A fraction of 2^32 by which to stretch one half.
        let stretch = u64::from(rng.next_u32()) * u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(stretch >> 32)
    }

    /// Forgets the failures, after a connection that was worth having.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use rand_core::TryRng;

    use super::*;

    /// Gives the same number every time.
    struct Always(u32);

    impl TryRng for Always {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(self.0)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(u64::from(self.0))
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            bytes.fill(0);
            Ok(())
        }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap();
        let lowest: Vec<_> = (0..9).map(|_| millis(backoff.next(&mut Always(0)))).collect();
        assert_eq!(lowest, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        backoff.reset();
        assert_eq!(backoff.next(&mut Always(0)), Backoff::FIRST / 2);
    }

    #[test]
    fn no_wait_is_longer_than_the_bound_however_often_it_fails() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            let wait = backoff.next(&mut Always(u32::MAX));
            assert!((Backoff::FIRST / 2..=Backoff::LONGEST).contains(&wait), "{wait:?}");
        }
        backoff.failures = u32::MAX;
        assert!(backoff.next(&mut Always(u32::MAX)) <= Backoff::LONGEST);
    }
}

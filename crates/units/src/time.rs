//! Time as an argument: what a clock said, never the clock itself.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A moment on a clock that never goes back, in microseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(u64);

impl Monotonic {
    /// That many microseconds after the clock's start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the clock's start.
    #[must_use]
    pub const fn to_micros(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, zero if that lies ahead.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    /// A later moment; stops at the end of the clock.
    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub for Monotonic {
    type Output = Duration;

    /// The time between, zero if `earlier` lies ahead.
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

/// Milliseconds since 1970 by the wall clock, which may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// That many milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// That many seconds since 1970.
    #[must_use]
    pub const fn from_secs(secs: u32) -> Self {
        Self(secs as u64 * 1000)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn to_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970 as block headers and certificates carry them, stopping at the year 2106.
    #[must_use]
    pub fn to_secs(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// What both clocks said at one moment; the argument of everything that depends on time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For intervals and deadlines.
    pub monotonic: Monotonic,
    /// For block headers, certificates and records.
    pub unix: UnixTime,
}

impl Now {
    /// The moment `duration` later, on both clocks; for virtual clocks.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { monotonic: self.monotonic + duration, unix: UnixTime(self.unix.0.saturating_add(millis)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_saturate_instead_of_wrapping() {
        assert_eq!(Monotonic(5) - Monotonic(9), Duration::ZERO);
        assert_eq!((Monotonic(u64::MAX) + Duration::from_secs(1)).to_micros(), u64::MAX);
        assert_eq!(UnixTime::from_millis(u64::MAX).to_secs(), u32::MAX);
    }

    #[test]
    fn a_moment_later_is_later_on_both_clocks() {
        let now =
            Now { monotonic: Monotonic(7), unix: UnixTime::from_secs(3) }.after(Duration::from_millis(1500));
        assert_eq!(now, Now { monotonic: Monotonic(1_500_007), unix: UnixTime(4500) });
    }
}

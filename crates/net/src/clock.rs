//! The one place that reads the clocks; everything else takes time as an argument.

use core::time::Duration;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use adit_units::{Monotonic, Now, UnixTime};

/// Reads the machine's clocks.
///
/// All clocks of a process count [`Monotonic`] from the same start, so moments read in different places compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

/// Where [`Monotonic`] counts from: the first reading.
static START: OnceLock<Instant> = OnceLock::new();

impl Clock {
    /// What both clocks say.
    #[must_use]
    pub fn now(self) -> Now {
        Now { monotonic: self.monotonic(), unix: self.unix() }
    }

    /// What the clock that never goes back says; a paused tokio clock is followed.
    #[must_use]
    pub fn monotonic(self) -> Monotonic {
        #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
        let now = tokio::time::Instant::now().into_std();
        Monotonic::from_micros(micros(now.saturating_duration_since(start())))
    }

    /// What the wall clock says; a clock set before 1970 says 1970.
    #[must_use]
    pub fn unix(self) -> UnixTime {
        #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long the machine has been awake since its start: the clock that other processes read, too (`CLOCK_MONOTONIC`).
    #[must_use]
    pub fn since_boot(self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(now).unwrap_or_default()
    }

    /// The same moment for tokio's timers.
    #[must_use]
    pub fn instant(self, moment: Monotonic) -> tokio::time::Instant {
        let start = start();
        let since = Duration::from_micros(moment.to_micros());
        // A moment beyond what the platform can count is as good as any that this process will not live to see.
        start.checked_add(since).unwrap_or(start + FAR_AHEAD).into()
    }
}

/// Longer than any process runs, and short enough for every platform's clock.
const FAR_AHEAD: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    *START.get_or_init(Instant::now)
}

/// Whole microseconds, stopping at the greatest number.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_agree_and_do_not_go_back() {
        let before = Clock.now().monotonic;
        let after = Clock.monotonic();
        assert!(after >= before);
        assert!(Clock.unix().to_secs() > 1_700_000_000, "the wall clock is not set");
    }

    #[test]
    fn the_machine_was_started_some_time_ago() {
        let before = Clock.since_boot();
        assert!(before > Duration::ZERO && Clock.since_boot() >= before);
    }

    #[tokio::test(start_paused = true)]
    async fn moments_survive_the_way_to_a_timer_and_back() {
        let moment = Clock.monotonic() + Duration::from_secs(9);
        tokio::time::sleep_until(Clock.instant(moment)).await;
        assert!(Clock.monotonic() >= moment);
        assert!(Clock.monotonic() - moment < Duration::from_secs(1));
    }

    #[test]
    fn the_end_of_time_is_a_moment_too() {
        let _ = Clock.instant(Monotonic::from_micros(u64::MAX));
    }
}

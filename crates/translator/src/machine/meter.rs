//! How fast a machine is, by the work of its accepted shares over the last ten minutes.

use core::time::Duration;

use adit_units::{Hashrate, Monotonic, Work};

/// The time that one sum covers.
const SPAN: Duration = Duration::from_secs(60);

/// How many sums there are.
const SPANS: usize = 10;

/// Shares that a measurement needs before it says more than a guess.
const SHARES_ENOUGH: u32 = 12;

/// The time in which a machine that is not measured yet may have done what it has submitted: one that is what it is taken for has done as much
/// after so long.
const PROOF: Duration = Duration::from_secs(10);

/// Work done, a minute in each sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    started: Monotonic,
    /// Which minute since the start the newest sum is of.
    minute: u64,
    sums: [(u128, u32); SPANS],
}

impl Meter {
    pub(super) const fn new(now: Monotonic) -> Self {
        Self { started: now, minute: 0, sums: [(0, 0); SPANS] }
    }

    /// A share was accepted.
    pub(super) fn handle_share(&mut self, work: Work, now: Monotonic) {
        self.advance(now);
        if let Some((sum, shares)) = self.sums.first_mut() {
            *sum = sum.saturating_add(work.to_hashes());
            *shares = shares.saturating_add(1);
        }
    }

    fn minute_at(&self, now: Monotonic) -> u64 {
        now.saturating_since(self.started).as_secs() / SPAN.as_secs()
    }

    fn advance(&mut self, now: Monotonic) {
        let minute = self.minute_at(now);
        let passed = usize::try_from(minute.saturating_sub(self.minute)).unwrap_or(SPANS).min(SPANS);
        self.sums.rotate_right(passed);
        self.sums.iter_mut().take(passed).for_each(|sum| *sum = (0, 0));
        self.minute = minute.max(self.minute);
    }

    /// The sums as of `now`, and the time that they cover.
    fn covered(&self, now: Monotonic) -> (u128, u32, Duration) {
        let mut at = *self;
        at.advance(now);
        let work = at.sums.iter().fold(0_u128, |all, (work, _)| all.saturating_add(*work));
        let shares = at.sums.iter().map(|(_, shares)| shares).sum();
        let age = now.saturating_since(self.started);
        let in_minute = Duration::from_secs(age.as_secs() % SPAN.as_secs());
        let most = SPAN * u32::try_from(SPANS - 1).unwrap_or(u32::MAX) + in_minute;
        (work, shares, age.min(most))
    }

    /// Hashes a second at the most that its work bears out, however few its shares are.
    pub(super) fn proven(&self, now: Monotonic) -> Hashrate {
        let (work, ..) = self.covered(now);
        let rate = work / u128::from(PROOF.as_secs());
        Hashrate::from_hashes_per_second(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Hashes a second over what was seen; zero at first.
    pub(super) fn hashrate(&self, now: Monotonic) -> Hashrate {
        let (work, _, time) = self.covered(now);
        hashrate(work, time)
    }

    /// The same, once there were shares enough, or time enough for there to be some.
    pub(super) fn settled(&self, now: Monotonic) -> Option<Hashrate> {
        let (work, shares, time) = self.covered(now);
        (shares >= SHARES_ENOUGH || time >= 5 * SPAN).then(|| hashrate(work, time))
    }

    /// The same, where it is no burst of shares that tells, such as those of a reconnection.
    pub(super) fn long_settled(&self, now: Monotonic) -> Option<Hashrate> {
        self.settled(now).filter(|_| now.saturating_since(self.started) >= SPAN)
    }
}

/// So many hashes in that time, which counts as a second at least.
fn hashrate(work: u128, time: Duration) -> Hashrate {
    let rate = work.saturating_mul(1_000) / time.as_millis().max(1_000);
    Hashrate::from_hashes_per_second(u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_steady_machine_is_measured_and_one_that_stops_fades() {
        let mut meter = Meter::new(at(100));
        for second in (0..1_200).step_by(6) {
            meter.handle_share(Work::from_hashes(6_000), at(100 + second));
        }
        let rate = meter.hashrate(at(1_299)).to_hashes_per_second();
        assert!((990..=1_010).contains(&rate), "{rate}");
        let later = meter.hashrate(at(1_300 + 300)).to_hashes_per_second();
        assert!((400..=550).contains(&later), "{later}");
        assert_eq!(meter.hashrate(at(1_300 + 660)).to_hashes_per_second(), 0);
    }

    #[test]
    fn a_few_shares_are_no_measurement() {
        let mut meter = Meter::new(at(0));
        meter.handle_share(Work::from_hashes(1_000), at(1));
        assert_eq!(meter.settled(at(2)), None);
        assert_eq!(meter.proven(at(2)).to_hashes_per_second(), 100, "but they say that it is no faster");
        assert!(meter.settled(at(301)).is_some(), "silence is one in the end");
        for _ in 0..12 {
            meter.handle_share(Work::from_hashes(1_000), at(2));
        }
        assert_eq!(meter.settled(at(10)).map(Hashrate::to_hashes_per_second), Some(1_300));
    }
}

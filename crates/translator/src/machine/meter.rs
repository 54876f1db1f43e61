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
    /// Which minute since the start the newest sums are of.
    minute: u64,
    /// All sums together, so that the others are looked at once a minute and not with each job and share.
    total: Sum,
    /// Hashes that shares were worth, the newest minute first.
    hashes: [u128; SPANS],
    /// How many shares these were.
    shares: [u32; SPANS],
}

/// What shares were worth, and how many there were.
#[derive(Clone, Copy, Debug)]
struct Sum {
    hashes: u128,
    shares: u32,
}

impl Meter {
    pub(super) const fn new(now: Monotonic) -> Self {
        let total = Sum { hashes: 0, shares: 0 };
        Self { started: now, minute: 0, total, hashes: [0; SPANS], shares: [0; SPANS] }
    }

    /// A share was accepted.
    pub(super) fn handle_share(&mut self, work: Work, now: Monotonic) {
        self.advance(now);
        let ([hashes, ..], [shares, ..]) = (&mut self.hashes, &mut self.shares);
        for sum in [hashes, &mut self.total.hashes] {
            *sum = sum.saturating_add(work.to_hashes());
        }
        for count in [shares, &mut self.total.shares] {
            *count = count.saturating_add(1);
        }
    }

    fn minute_at(&self, now: Monotonic) -> u64 {
        now.saturating_since(self.started).as_secs() / SPAN.as_secs()
    }

    fn advance(&mut self, now: Monotonic) {
        let minute = self.minute_at(now);
        if minute <= self.minute {
            return;
        }
        let passed = usize::try_from(minute - self.minute).unwrap_or(SPANS).min(SPANS);
        self.hashes.rotate_right(passed);
        self.shares.rotate_right(passed);
        self.hashes.iter_mut().take(passed).for_each(|sum| *sum = 0);
        self.shares.iter_mut().take(passed).for_each(|count| *count = 0);
        self.total = Sum {
            hashes: self.hashes.into_iter().fold(0, u128::saturating_add),
            shares: self.shares.into_iter().fold(0, u32::saturating_add),
        };
        self.minute = minute;
    }

    /// All sums as of `now`, and the time that they cover.
    fn covered(&self, now: Monotonic) -> (Sum, Duration) {
        let total = if self.minute_at(now) <= self.minute { self.total } else { self.later(now).total };
        let age = now.saturating_since(self.started);
        let in_minute = Duration::from_secs(age.as_secs() % SPAN.as_secs());
        let most = SPAN * u32::try_from(SPANS - 1).unwrap_or(u32::MAX) + in_minute;
        (total, age.min(most))
    }

    /// What this becomes until `now` if no share comes.
    fn later(mut self, now: Monotonic) -> Self {
        self.advance(now);
        self
    }

    /// Hashes a second at the most that its work bears out, however few its shares are.
    pub(super) fn proven(&self, now: Monotonic) -> Hashrate {
        let (sum, _) = self.covered(now);
        let rate = sum.hashes / u128::from(PROOF.as_secs());
        Hashrate::from_hashes_per_second(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Hashes a second over what was seen; zero at first.
    pub(super) fn hashrate(&self, now: Monotonic) -> Hashrate {
        let (sum, time) = self.covered(now);
        hashrate(sum.hashes, time)
    }

    /// The same, once there were shares enough, or time enough for there to be some.
    pub(super) fn settled(&self, now: Monotonic) -> Option<Hashrate> {
        let (sum, time) = self.covered(now);
        (sum.shares >= SHARES_ENOUGH || time >= 5 * SPAN).then(|| hashrate(sum.hashes, time))
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
    use proptest::prelude::*;

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

    proptest! {
        /// The naive twin knows each share, and adds up those of the last ten minutes each time.
        #[test]
        fn the_sums_of_a_meter_are_those_of_its_shares(steps in prop::collection::vec((0_u64..200, 0_u128..1_000), 1..60)) {
            let (mut meter, mut shares, mut second) = (Meter::new(at(50)), Vec::new(), 0);
            for (pause, hashes) in steps {
                second += pause;
                let now = at(50 + second);
                // Looked at before and after, because only a share moves the sums on.
                for is_submitted in [false, true] {
                    if is_submitted {
                        meter.handle_share(Work::from_hashes(hashes), now);
                        shares.push((second / 60, hashes));
                    }
                    let recent = shares.iter().filter(|(minute, _)| minute + 10 > second / 60);
                    let (sum, time) = meter.covered(now);
                    prop_assert_eq!(sum.hashes, recent.clone().map(|(_, hashes)| hashes).sum::<u128>());
                    prop_assert_eq!(usize::try_from(sum.shares).unwrap(), recent.count());
                    prop_assert_eq!(time.as_secs(), second.min(540 + second % 60));
                }
            }
        }
    }
}

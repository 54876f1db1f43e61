//! How hard a machine's shares are made: as its speed asks for, and never harder than the upstream wants them.

use std::sync::Arc;

use adit_channel::{TargetSteps, Vardiff, VardiffConfig};
use adit_units::{Difficulty, Hashrate, Monotonic, ShareRate, Target};

use super::{Machine, VARDIFF_INTERVAL};
use crate::job::Sv1Job;

/// How many times as many shares as it is meant to submit a machine may find because an upstream wants them.
const ABUNDANCE: u32 = 60;

impl Machine {
    /// What the job's shares must meet: never more than the upstream asks for, or shares would be lost that it pays for.
    pub(super) fn next_target(&mut self, job: &Sv1Job, now: Monotonic) -> Target {
        let upstream = self.sane(job, now);
        if let Some(fixed) = self.demands.fixed {
            self.vardiff = None;
            let fixed = self.understood(fixed.max(self.least())).to_target();
            return if fixed >= upstream { fixed } else { eased(upstream) };
        }
        let easiest = self.easiest(upstream);
        if self.vardiff.is_none() {
            self.vardiff = self.first_vardiff(easiest, upstream);
        }
        let Some(vardiff) = &mut self.vardiff else { return easiest };
        vardiff.limit(upstream);
        // No target is too hard for it, so there is nothing that it could refuse.
        let _announced = vardiff.update(vardiff.nominal(), easiest);
        vardiff.handle_job(now);
        let target = vardiff.target();
        if !self.config.follows_speed {
            self.vardiff = None;
        }
        target
    }

    /// Another difficulty, and the newest job with it, if there is evidence enough.
    pub(super) fn retarget(&mut self, now: Monotonic) {
        if self.has_abundance(now) {
            return self.reissue(false, now);
        }
        let Some(vardiff) = self.vardiff.as_mut().filter(|vardiff| vardiff.is_off(now)) else { return };
        let before = vardiff.target();
        vardiff.handle_job(now);
        // Where a bound holds it, evidence changes nothing, and the machine is left in peace.
        if vardiff.target() != before {
            self.reissue(false, now);
        }
    }

    /// It has found more shares on one tip than can be remembered. Whatever was asked for with its password, and whether speeds are to be
    /// followed or not, its difficulty is from now on what its speed asks for.
    pub(super) fn slow_down(&mut self, now: Monotonic) {
        if now >= self.next_look {
            self.next_look = now + VARDIFF_INTERVAL;
            self.follow_speed(now);
        }
    }

    /// If the shares of one tip are about to be too many to be remembered, which is looked at every few thousand of them, the same is done
    /// before any has to be refused.
    pub(super) fn slow_down_in_time(&mut self, now: Monotonic) {
        let (found, most) = (self.seen.last_len(), self.seen.limit());
        if found >= most / 2 && found.is_multiple_of((most / 16).max(1)) {
            self.follow_speed(now);
        }
    }

    /// From now on the difficulty is what the measured speed asks for.
    fn follow_speed(&mut self, now: Monotonic) {
        // What is refused is not measured, so a speed that was found later would be too low; then its difficulty is hard enough already.
        let Some(speed) = self.meter.settled(now) else { return };
        let wanted = speed.target_at(self.config.rate);
        let Some(announced) = self.announced.filter(|&announced| announced > wanted) else { return };
        (self.demands.fixed, self.demands.speed, self.vardiff) = (None, Some(speed), None);
        let Some(job) = self.issued.back().map(|issued| Arc::clone(&issued.job)) else { return };
        if self.next_target(&job, now) < announced {
            self.reissue(false, now);
        }
    }

    /// Whether an absurd target of the upstream is what the machine works at, and another would follow if its job came anew.
    fn has_abundance(&mut self, now: Monotonic) -> bool {
        let Some(job) = self.issued.back().map(|issued| Arc::clone(&issued.job)) else { return false };
        let sane = self.sane(&job, now);
        let announced = self.announced.filter(|_| job.target() > sane);
        announced.is_some_and(|announced| announced > eased(sane) && self.next_target(&job, now) < announced)
    }

    /// How fast the machine is, as long as nothing is measured.
    pub(super) fn presumed_speed(&self) -> Hashrate {
        let suggested = self.demands.first.map(|first| speed_at(self.config.rate, first.to_target()));
        self.demands.speed.or(suggested).unwrap_or(self.device.nominal)
    }

    /// What shares meet at the least: what the device can do with, what was asked for, and no more than the upstream's where that is less.
    fn easiest(&mut self, upstream: Target) -> Target {
        let least = self.least();
        match &self.easing {
            Some(known) if (known.upstream, known.least) == (upstream, least) => known.easiest,
            _ => self.easing.insert(Easing::new(upstream, least)).easiest,
        }
    }

    /// The least difficulty from that one on that the device takes as it is written: some break on fractions above one, and some round.
    fn understood(&self, difficulty: Difficulty) -> Difficulty {
        if self.device.quirks.powers_of_two { raised(difficulty) } else { whole(difficulty) }
    }

    /// What no share of the machine is to be easier than, whatever its password says, as long as the upstream asks for as much: what the operator
    /// and the device want, and what was asked for.
    fn least(&self) -> Difficulty {
        let least = self.config.least_difficulty.max(self.device.least_difficulty);
        self.demands.least.map_or(least, |asked| asked.max(least))
    }

    /// The job's target, unless that would have the machine, as fast as it is measured to be, do little but submit: an upstream is not followed so
    /// far. A first guess at the speed says nothing here: it may be far above what a machine on a test network does.
    fn sane(&self, job: &Sv1Job, now: Monotonic) -> Target {
        let Some(speed) = self.meter.long_settled(now) else { return job.target() };
        let most = self.config.rate.to_shares_per_minute().saturating_mul(ABUNDANCE);
        let least = speed.work_at(ShareRate::from_shares_per_minute(most));
        // The division is for the few whom it makes a difference.
        if job.work() >= least { job.target() } else { job.target().min(Target::from_work(least)) }
    }

    fn first_vardiff(&self, easiest: Target, upstream: Target) -> Option<Vardiff> {
        let config = VardiffConfig {
            rate: self.config.rate,
            easiest: Target::MAX,
            hardest: Target::ZERO,
            steps: TargetSteps::PowersOfTwo,
        };
        Vardiff::new(config, self.presumed_speed(), easiest, upstream).ok()
    }
}

/// What [`Machine::easiest`] came to last, and of what: it takes some long divisions, and the same ones with each job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Easing {
    upstream: Target,
    least: Difficulty,
    easiest: Target,
}

impl Easing {
    fn new(upstream: Target, least: Difficulty) -> Self {
        Self { upstream, least, easiest: raised(least).to_target().max(eased(upstream)) }
    }
}

/// How fast a machine is that submits shares of that target at that rate.
fn speed_at(rate: ShareRate, target: Target) -> Hashrate {
    let hashes = target.to_work().to_hashes().saturating_mul(rate.to_shares_per_minute().into()) / 60;
    Hashrate::from_hashes_per_second(u64::try_from(hashes).unwrap_or(u64::MAX))
}

/// The target nearest to one, and not harder, that a machine can be told exactly: that of a power of two, if there is one so easy.
fn eased(target: Target) -> Target {
    let nearest = Difficulty::power_of_two_near(target);
    let candidates = [nearest, nearest.half(), Difficulty::from_target(target)].map(Difficulty::to_target);
    candidates.into_iter().find(|candidate| *candidate >= target).unwrap_or(target)
}

/// The power of two nearest to a difficulty, and not less; those that are too low for any are left as they are.
fn raised(difficulty: Difficulty) -> Difficulty {
    let nearest = Difficulty::power_of_two_near(difficulty.to_target());
    if nearest.half() >= difficulty {
        return difficulty;
    }
    if nearest >= difficulty { nearest } else { Difficulty::from_trillionths(nearest.to_trillionths() * 2) }
}

/// The difficulty itself if it is below one, and otherwise the next whole number.
fn whole(difficulty: Difficulty) -> Difficulty {
    let one = Difficulty::ONE.to_trillionths();
    let trillionths = difficulty.to_trillionths();
    if trillionths < one {
        difficulty
    } else {
        Difficulty::from_trillionths(trillionths.next_multiple_of(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difficulty(text: &str) -> Difficulty {
        text.parse().unwrap()
    }

    #[test]
    fn the_least_is_raised_to_a_power_of_two() {
        for (least, power) in [
            ("1000", "1024"),
            ("1100", "2048"),
            ("1024", "1024"),
            ("0.3", "0.5"),
            ("0.00025", "0.00048828125"),
            ("0.0001", "0.0001"),
            ("0.000000000001", "0.000000000001"),
        ] {
            assert_eq!(raised(difficulty(least)).to_string(), power, "{least}");
        }
    }

    #[test]
    fn an_upstream_that_names_any_target_is_met_with_an_easier_power_of_two() {
        for (upstream, told) in [
            ("1000", "512"),
            ("1024", "1024"),
            ("1.9", "1"),
            ("0.7", "0.5"),
            ("0.0003", "0.000244140625"),
            ("0.00001", "0.00001"),
        ] {
            let target = difficulty(upstream).to_target();
            let easier = eased(target);
            assert!(easier >= target);
            assert_eq!(Difficulty::from_target(easier).to_string(), told, "{upstream}");
        }
        assert!(eased(Target::MAX) == Target::MAX && eased(Target::ZERO) > Target::ZERO);
    }
}

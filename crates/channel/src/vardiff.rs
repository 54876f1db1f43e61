//! How hard a channel's shares are made, so that its miner submits a steady few of them a minute.
//!
//! Two cumulative sums (CUSUM) weigh the shares as they come: one the evidence that the miner is half as fast as its target
//! assumes, one that it is twice as fast. Each is the log-likelihood ratio of the two Poisson rates since the moment that makes
//! it greatest, so a change is noticed from any moment on, without windows or ticks. In numbers, with `mu` for the shares that
//! the assumed rate lets expect: half as fast gains `mu / 2` with time and loses `ln 2` with a share, twice as fast gains
//! `ln 2` with a share and loses `mu` with time. When a sum passes its threshold, the new rate is estimated from the shares
//! since its start. Only additions of whole numbers, so every machine decides alike.
//!
//! A new target is announced together with the next job. The protocol gives `SetTarget` no effect before that (spec 5.3.21), and
//! firmware that applies it at once, against the text, would throw away shares that still count, or submit ones that do not.
//! There is no timer either, but who can make a job sooner is told when one is needed: [`Vardiff::waits_for_job`] after a share,
//! and [`Vardiff::silence_tells_at`] where shares may stay away.

use core::time::Duration;

use adit_units::{Difficulty, Hashrate, Monotonic, ShareRate, Target, Work};

/// The logarithm of two, in millionths.
const LN_2: u64 = 693_147;

/// One share, in millionths: the unit of evidence and of expected shares.
const SHARE: u64 = 1_000_000;

/// Evidence that a miner became slower, in millionths of a nat, that makes its shares easier.
///
/// At ten shares a minute a steady miner passes this or [`FASTER_AT`] in fewer than two hours of a hundred, and a halving is
/// noticed within ten minutes in more than 95 cases of a hundred; the tests measure it.
const SLOWER_AT: u64 = 8_800_000;

/// Evidence that a miner became faster, in millionths of a nat, that makes its shares harder.
///
/// A little more than the other, because it is looked at with every share and not only with every job.
const FASTER_AT: u64 = 10_000_000;

/// Shares at the assumed rate that an estimate is mixed with, in millionths; they keep a few early shares from moving it far.
const PRIOR: u64 = 2 * SHARE;

/// The most that one change makes shares easier.
const EASIER_AT_MOST: u64 = 8;

/// The most that one change makes shares harder; more than easier, because a flood of shares is evidence by its number.
const HARDER_AT_MOST: u64 = 1024;

/// Which targets there are between floor and ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSteps {
    /// All of them.
    #[default]
    Any,
    /// Those of a difficulty that is a power of two: SV1 names difficulties, and software there rounds others as it likes. A bound that
    /// leaves no such difficulty holds all the same.
    PowersOfTwo,
}

/// What holds for all channels of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VardiffConfig {
    /// How many shares a minute a channel is meant to submit; the default is 10.
    pub rate: ShareRate,
    /// The floor: no share is easier than this. The default is worth 2^16 hashes, less than a second of one CPU core.
    pub easiest: Target,
    /// The ceiling: no share is harder than this. The default is worth 2^80 hashes, about a block of the main network.
    pub hardest: Target,
    /// Which targets there are between these; the default is all.
    pub steps: TargetSteps,
}

/// A floor that is harder than the ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the easiest target {easiest} is harder than the hardest target {hardest}: swap the two in the configuration"
)]
pub struct VardiffConfigError {
    /// The floor as configured.
    pub easiest: Target,
    /// The ceiling as configured.
    pub hardest: Target,
}

/// A miner accepts only shares that are harder than the server ever asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "maximum target {max_target} is harder than this server's hardest target {hardest}: ask for an easier one"
)]
pub struct TargetOutOfRange {
    /// What the miner asked for.
    pub max_target: Target,
    /// The server's ceiling.
    pub hardest: Target,
}

impl Default for VardiffConfig {
    fn default() -> Self {
        Self {
            rate: ShareRate::from_shares_per_minute(10),
            easiest: Target::from_work(Work::from_hashes(1 << 16)),
            hardest: Target::from_work(Work::from_hashes(1 << 80)),
            steps: TargetSteps::Any,
        }
    }
}

impl VardiffConfig {
    /// Checks that there is a target between floor and ceiling.
    ///
    /// # Errors
    ///
    /// We are misconfigured if there is none.
    pub fn check(&self) -> Result<(), VardiffConfigError> {
        let Self { easiest, hardest, .. } = *self;
        if easiest < hardest { Err(VardiffConfigError { easiest, hardest }) } else { Ok(()) }
    }

    /// The easiest target for a miner that accepts none above `max_target`.
    fn easiest_within(&self, max_target: Target) -> Result<Target, TargetOutOfRange> {
        if max_target < self.hardest {
            return Err(TargetOutOfRange { max_target, hardest: self.hardest });
        }
        Ok(self.easiest.min(max_target))
    }

    /// Shares to expect of a miner of the assumed speed, in millionths, stopping at a thousand million of them.
    fn expected(&self, time: Duration) -> u64 {
        let share_micros = time.as_micros().saturating_mul(self.rate.to_shares_per_minute().into());
        u64::try_from(share_micros / 60).unwrap_or(u64::MAX).min(1_000_000_000 * SHARE)
    }
}

/// Evidence of one kind of change.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// In millionths of a nat, never negative.
    sum: u64,
    /// The moment of which the sum is greatest, had the change happened then.
    since: Monotonic,
    /// Shares since that moment.
    shares: u64,
}

impl Evidence {
    /// None, as of `now`.
    const fn none(now: Monotonic) -> Self {
        Self { sum: 0, since: now, shares: 0 }
    }

    /// Weighs one share: what speaks for the change and what against it.
    fn weigh(&mut self, gain: u64, loss: u64, now: Monotonic) {
        match self.sum.saturating_add(gain).checked_sub(loss) {
            None | Some(0) => *self = Self::none(now),
            Some(sum) => *self = Self { sum, shares: self.shares.saturating_add(1), ..*self },
        }
    }
}

/// What has been measured since a target came into force.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    slower: Evidence,
    faster: Evidence,
    /// When the evidence was last brought up to date.
    last: Monotonic,
}

/// The difficulty of one channel; see the module's text for the method.
#[derive(Debug)]
pub struct Vardiff {
    config: VardiffConfig,
    /// What the miner said last about its speed.
    nominal: Hashrate,
    /// The floor, or what the miner accepts at most.
    easiest: Target,
    /// The network's target, or zero before there is a tip: a share that is harder would hide blocks.
    network: Target,
    /// The target of the next job.
    target: Target,
    /// What a share at `target` is worth.
    work: Work,
    /// Whether `target` must still be announced.
    unannounced: bool,
    /// Whether the shares since say that the next job is to have another target.
    waits_for_job: bool,
    /// Nothing is measured until a job with `target` is out.
    measurement: Option<Measurement>,
}

impl Vardiff {
    /// The first target of a channel whose miner says that it has the speed `nominal` and accepts no target above `max_target`.
    ///
    /// A nominal speed of zero gives the easiest target (a proxy says so while nobody mines behind it, spec 5.3.2).
    ///
    /// No target is harder than `network`, the tip's, because miners throw away what does not meet theirs; but the floor and the
    /// miner's maximum hold all the same. It is [`Target::ZERO`] where there is no tip yet.
    ///
    /// # Errors
    ///
    /// The peer is incompatible if it accepts only targets that are harder than the ceiling.
    pub fn new(
        config: VardiffConfig,
        nominal: Hashrate,
        max_target: Target,
        network: Target,
    ) -> Result<Self, TargetOutOfRange> {
        let easiest = config.easiest_within(max_target)?;
        let (target, unannounced, measurement) = (easiest, false, None);
        let work = target.to_work();
        let waits_for_job = false;
        let mut new =
            Self { config, nominal, easiest, network, target, work, unannounced, waits_for_job, measurement };
        new.target = new.bounded(nominal.target_at(config.rate));
        new.work = new.target.to_work();
        Ok(new)
    }

    /// The target of the next job.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// What the miner said last about its speed.
    #[must_use]
    pub const fn nominal(&self) -> Hashrate {
        self.nominal
    }

    /// A share was accepted that was worth `work`; one of another target than the present tells nothing and is passed over.
    ///
    /// Rejected shares must not come here: they would make a miner's shares harder that earn it nothing.
    pub fn handle_share(&mut self, work: Work, now: Monotonic) {
        let (config, own) = (self.config, self.work);
        let Some(measured) = self.measurement.as_mut().filter(|_| work == own) else { return };
        let expected = config.expected(now - measured.last);
        measured.last = measured.last.max(now);
        measured.slower.weigh(expected / 2, LN_2, now);
        let before = measured.faster.sum;
        measured.faster.weigh(LN_2, expected, now);
        let evidence = measured.faster;
        if evidence.sum < FASTER_AT {
            self.waits_for_job = false;
        } else if before < FASTER_AT {
            // Where a bound holds the target, evidence changes nothing.
            self.waits_for_job = self.estimate(&evidence, now).is_some_and(|target| target != self.target);
        }
    }

    /// The first job of a new tip is about to be issued to the channel; the answer is a target to announce before it.
    ///
    /// `network` is the tip's target, which shares are at least as easy as.
    pub fn handle_new_tip(&mut self, network: Target, now: Monotonic) -> Option<Target> {
        self.network = network;
        let wanted = self.measured_target(now).unwrap_or(self.target);
        self.retarget(self.bounded(wanted));
        self.handle_job(now)
    }

    /// Another job is about to be issued to the channel; the answer is a target to announce before it.
    pub fn handle_job(&mut self, now: Monotonic) -> Option<Target> {
        if let Some(target) = self.measured_target(now) {
            self.retarget(target);
        }
        self.waits_for_job = false;
        self.measurement.get_or_insert_with(|| {
            let none = Evidence::none(now);
            Measurement { slower: none, faster: none, last: now }
        });
        core::mem::take(&mut self.unannounced).then_some(self.target)
    }

    /// The miner says anew how fast it is and what it accepts (`UpdateChannel`, spec 5.3.7).
    ///
    /// The answer is a target to announce at once, when it is harder than the one before; an easier one comes with the next job.
    ///
    /// # Errors
    ///
    /// The peer is incompatible if it accepts only targets that are harder than the ceiling; everything is then as it was.
    pub fn update(
        &mut self,
        nominal: Hashrate,
        max_target: Target,
    ) -> Result<Option<Target>, TargetOutOfRange> {
        let easiest = self.config.easiest_within(max_target)?;
        if nominal == self.nominal && easiest == self.easiest {
            return Ok(None);
        }
        self.easiest = easiest;
        // A speed that is said again is no news, and what was measured since is better.
        let wanted = if nominal == self.nominal { self.target } else { nominal.target_at(self.config.rate) };
        self.nominal = nominal;
        let before = self.target;
        self.retarget(self.bounded(wanted));
        let at_once = self.target < before;
        self.unannounced &= !at_once;
        Ok(at_once.then_some(self.target))
    }

    /// From the next job on no target is harder than `network`, where the tip stays what it is: who passes shares on to a server of his own
    /// wants none to be lost that the server would take.
    pub fn limit(&mut self, network: Target) {
        if network != self.network {
            self.network = network;
            self.retarget(self.bounded(self.target));
        }
    }

    /// Whether there is evidence enough for another target, so that a job need not wait for its time.
    #[must_use]
    pub fn is_off(&self, now: Monotonic) -> bool {
        self.measurement.is_some_and(|measured| self.change(&measured, now).is_some())
    }

    /// Whether a job that is issued now would have another target than the one before it.
    #[must_use]
    pub fn needs_job(&self, now: Monotonic) -> bool {
        let evidence = self.measurement.and_then(|measured| self.change(&measured, now));
        let measured = evidence.and_then(|evidence| self.estimate(&evidence, now));
        self.unannounced || measured.is_some_and(|target| target != self.target)
    }

    /// Whether a share has made [`Self::needs_job`] true since the last job; costs nothing to ask.
    #[must_use]
    pub const fn waits_for_job(&self) -> bool {
        self.waits_for_job
    }

    /// When [`Self::needs_job`] becomes true if not one share comes until then; a share that comes moves it to later. `None` if it never does,
    /// because shares are as easy as they may be or nothing is measured.
    #[must_use]
    pub fn silence_tells_at(&self) -> Option<Monotonic> {
        let measured = self.measurement.filter(|_| self.bounded(self.easiest) != self.target)?;
        let missing = u128::from(SLOWER_AT.saturating_sub(measured.slower.sum));
        // The inverse of `expected`, of which half is gained.
        let micros = (2 * missing * 60).checked_div(self.config.rate.to_shares_per_minute().into())?;
        let wait = Duration::from_micros(u64::try_from(micros).ok()?.checked_add(2)?);
        Some(measured.last + wait)
    }

    /// What comes nearest to `wanted` between the bounds; where they contradict each other, the floor and the miner's maximum count
    /// before the network's target.
    fn bounded(&self, wanted: Target) -> Target {
        let hardest = self.config.hardest.max(self.network).min(self.easiest);
        let bounded = wanted.clamp(hardest, self.easiest);
        match self.config.steps {
            TargetSteps::Any => bounded,
            TargetSteps::PowersOfTwo => step(bounded, hardest, self.easiest),
        }
    }

    /// Makes `target` that of the next job; what was measured with another one is forgotten.
    fn retarget(&mut self, target: Target) {
        if target != self.target {
            self.target = target;
            self.work = target.to_work();
            self.unannounced = true;
            self.waits_for_job = false;
            self.measurement = None;
        }
    }

    /// The target that the evidence asks for, if there is enough of it.
    fn measured_target(&mut self, now: Monotonic) -> Option<Target> {
        let measured = self.measurement?;
        let evidence = self.change(&measured, now)?;
        self.measurement = None;
        self.estimate(&evidence, now)
    }

    /// The target that suits the speed seen since the evidence began, if it is worth a change.
    fn estimate(&self, evidence: &Evidence, now: Monotonic) -> Option<Target> {
        let seen = evidence.shares.saturating_mul(SHARE).saturating_add(PRIOR);
        let foreseen = self.config.expected(now - evidence.since) + PRIOR;
        // A change of less than a quarter would make a job of work for no better rate.
        let tells = seen / 5 >= foreseen / 4 || seen / 4 <= foreseen / 5;
        tells.then(|| self.bounded(self.scaled(seen, foreseen)))
    }

    /// Whichever of the two kinds of evidence is enough.
    fn change(&self, measured: &Measurement, now: Monotonic) -> Option<Evidence> {
        let expected = self.config.expected(now - measured.last);
        let faster = measured.faster.sum.saturating_sub(expected) >= FASTER_AT;
        let slower = measured.slower.sum.saturating_add(expected / 2) >= SLOWER_AT;
        match (faster, slower) {
            (true, _) => Some(measured.faster),
            (_, true) => Some(measured.slower),
            _ => None,
        }
    }

    /// The present target, made `seen / foreseen` times as hard.
    fn scaled(&self, seen: u64, foreseen: u64) -> Target {
        let seen = seen.clamp(foreseen / EASIER_AT_MOST, foreseen.saturating_mul(HARDER_AT_MOST));
        let (work, seen, foreseen) = (self.work.to_hashes(), u128::from(seen), u128::from(foreseen));
        let hashes = work.checked_mul(seen).map(|product| product / foreseen);
        Target::from_work(Work::from_hashes(hashes.unwrap_or(u128::MAX)))
    }
}

/// The target of a difficulty that is a power of two, nearest to `target` among those between the bounds; if there is none, that of the
/// next difficulty that can be written down.
fn step(target: Target, hardest: Target, easiest: Target) -> Target {
    let nearest = Difficulty::power_of_two_near(target);
    let within = |target: &Target| (hardest..=easiest).contains(target);
    let candidates = [nearest, nearest.half(), Difficulty::from_target(target)].map(Difficulty::to_target);
    candidates.into_iter().find(within).unwrap_or(target)
}

#[cfg(test)]
mod tests;

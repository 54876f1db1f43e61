//! How soon a miner's change of speed shows in its target when jobs come as this pool makes them, on a node that has nothing new to say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../channel/src/vardiff/tests/random.rs"]
mod random;

use core::time::Duration;
use std::sync::Arc;

use adit_channel::{TargetSteps, Vardiff, VardiffConfig};
use adit_pool::{JobFactory, PoolConfig};
use adit_share::{Template, TemplateParts, Tip, witness_commitment};
use adit_units::{Hashrate, Height, Monotonic, Now, Sats, ShareRate, Target, TemplateId, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, TxOut};
use random::Random;

/// One terahash a second.
const TERAHASH: u64 = 1_000_000_000_000;
/// When the wall clock stands at the beginning, in seconds since 1970.
const START: u32 = 1_700_000_000;
/// How long the miner is steady at least, in seconds; up to a minute comes to it, so that its speed changes at any point of a job's life.
const STEADY: f64 = 600.0;

/// The moment so many seconds after the beginning.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a simulation in seconds")]
fn at(seconds: f64) -> Now {
    let time = Duration::from_micros((seconds * 1e6) as u64);
    Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(START) }.after(time)
}

fn template() -> Arc<Template> {
    let tip = Tip::new(
        BlockHash::hash(b"tip"),
        Height(800_000),
        CompactTarget::from_consensus(0x1702_f128),
        START - 600,
    );
    let subsidy = Sats::from_sats(625_000_000);
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&[]) };
    let parts = TemplateParts {
        id: TemplateId(1),
        tip,
        version: 0x2000_0000,
        time: START,
        coinbase_value: subsidy,
        subsidy,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: vec![commitment],
    };
    Arc::new(Template::new(parts).unwrap())
}

/// A pool's jobs and one miner, who is at ten shares a minute.
struct Run {
    random: Random,
    factory: JobFactory,
    vardiff: Vardiff,
    /// The seconds at which the miner's target changed after it became faster or slower.
    changed: Vec<(f64, bool)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let config = PoolConfig::new(7, ScriptBuf::from_bytes(vec![0x51]));
        let mut factory = JobFactory::new(&config, 3).unwrap();
        factory.handle_template(&template(), at(0.0)).unwrap().unwrap();
        let vardiff = VardiffConfig {
            rate: ShareRate::from_shares_per_minute(10),
            easiest: Target::MAX,
            hardest: Target::ZERO,
            steps: TargetSteps::Any,
        };
        let nominal = Hashrate::from_hashes_per_second(TERAHASH);
        let mut vardiff = Vardiff::new(vardiff, nominal, Target::MAX, Target::ZERO).unwrap();
        vardiff.handle_job(at(0.0).monotonic);
        Self { random: Random(seed), factory, vardiff, changed: Vec::new() }
    }

    #[expect(clippy::cast_precision_loss, reason = "a simulation")]
    fn work(&self) -> f64 {
        self.vardiff.target().to_work().to_hashes() as f64
    }

    /// Renews the job if that is due.
    fn renew(&mut self, now: f64) {
        let Some(_job) = self.factory.handle_timeout(at(now)).unwrap() else { return };
        let before = self.work();
        if self.vardiff.handle_job(at(now).monotonic).is_some() && now > STEADY {
            self.changed.push((now, self.work() > before));
        }
    }

    /// The miner is steady for so long and then `factor` times as fast, until `end`.
    #[expect(clippy::cast_precision_loss, reason = "a simulation in seconds")]
    fn mine(&mut self, turn: f64, factor: f64, end: f64) {
        let (mut now, first) = (0.0, self.work());
        while now < end {
            let speed = if now < turn { 10.0 } else { 10.0 * factor };
            let share = now + self.random.wait(speed * first / self.work());
            // The exponential wait has no memory, so it may be drawn anew after every other event.
            let job = self.factory.poll_timeout().unwrap().saturating_since(Monotonic::default());
            let job = (job.as_micros() as f64 / 1e6).max(now + 1e-6);
            let bound = if now < turn { turn } else { end };
            now = share.min(job).min(bound);
            if now == share {
                self.vardiff.handle_share(self.vardiff.target().to_work(), at(now).monotonic);
            }
            self.renew(now);
        }
    }
}

/// In how many runs of a hundred a change of speed shows in the right direction in time.
#[expect(clippy::cast_precision_loss, reason = "a simulation in seconds")]
fn caught(factor: f64, within: f64) -> usize {
    let answered = |seed: &u64| {
        let turn = STEADY + 60.0 * (seed % 100) as f64 / 100.0;
        let mut run = Run::new(*seed);
        run.mine(turn, factor, turn + within);
        run.changed.iter().any(|&(time, harder)| time > turn && harder == (factor > 1.0))
    };
    (0..400).filter(answered).count() / 4
}

/// A target changes with a job, and where the node has nothing new to say, a job is a minute old before the next one comes. A rise just
/// before that has left too little evidence, and shows with the one after.
#[test]
fn a_tenfold_rise_shows_with_the_first_job_after_a_quarter_of_a_minute() {
    let [minute, longest] = [60.0, 75.0].map(|within| caught(10.0, within));
    eprintln!(
        "measured: a tenfold rise shows within a minute in {minute} of 100 runs, within 75 s in {longest}"
    );
    assert!(minute >= 80, "{minute}");
    assert!(longest >= 99, "{longest}");
}

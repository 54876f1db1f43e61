//! A million shares of machines of all sizes, and what is credited for them here and above.
//!
//! Nobody can hash what 400 TH/s find in a day, so hashes are drawn: each share has one that is even over all that meet its machine's
//! target, and goes on from where a judged share does ([`Machine::settle`]). What is left out is to read the line and to hash the header, which
//! the dialogues do with machines that really hash. Difficulties, what goes up and what is counted are the machine's own.

use adit_channel::{TargetSteps, VardiffConfig};
use adit_units::UnixTime;

use super::shares::{Candidate, Found};
use super::*;
use crate::job::fixture::{Given, TIME};
use crate::sv1::Extranonce2;

/// Seconds from one job to the next.
const JOB_SECONDS: u32 = 120;

/// Random numbers that are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Above zero, and at most one.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[expect(clippy::cast_precision_loss, reason = "statistics need no exact numbers")]
fn float(work: Work) -> f64 {
    work.to_hashes() as f64
}

/// A hash that meets `target`, all of those being equally likely.
fn drawn(target: Target, random: &mut Random) -> [u8; 32] {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and whole enough")]
    let work = Work::from_hashes((float(target.to_work()) / random.fraction()) as u128);
    Target::from_work(work).min(target).to_le_bytes()
}

/// The pool's side: one channel for all, whose difficulty follows their speed.
struct Pool {
    vardiff: Vardiff,
    number: u64,
    target: Target,
}

impl Pool {
    fn new(shares_per_minute: u32, nominal: u64) -> Self {
        let config = VardiffConfig {
            rate: ShareRate::from_shares_per_minute(shares_per_minute),
            steps: TargetSteps::Any,
            ..VardiffConfig::default()
        };
        let nominal = Hashrate::from_hashes_per_second(nominal);
        let vardiff = Vardiff::new(config, nominal, Target::MAX, Target::ZERO).unwrap();
        Self { target: vardiff.target(), vardiff, number: 0 }
    }

    fn job(&mut self, now: Monotonic) -> Arc<Sv1Job> {
        self.vardiff.handle_job(now);
        self.target = self.vardiff.target();
        self.number += NUMBER_STEP;
        let work = Given { target: self.target, ..Given::default() }.work();
        Arc::new(Sv1Job::new(&work, 1, (self.number, NUMBER_STEP), 8).unwrap())
    }
}

/// Credit and the spread that chance gives it.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    work: f64,
    variance: f64,
    shares: u64,
}

impl Credit {
    fn add(&mut self, work: Work) {
        self.work += float(work);
        self.shares += 1;
    }

    /// Asserts that it is what was done, but for chance.
    fn assert_is(&self, done: f64, what: &str) {
        let sigma = self.variance.sqrt();
        let off = (self.work - done) / sigma;
        assert!(off.abs() <= 4.0, "{what}: {:e} credited, {done:e} done, {off} sigma", self.work);
    }
}

/// A machine that finds shares by chance.
struct Miner {
    machine: Machine,
    hashes_per_second: f64,
    below: Credit,
    above: Credit,
}

impl Miner {
    fn new((user_agent, hashes_per_second): (&str, f64), number: u32, now: Now) -> Self {
        let terms = MachineTerms { extranonce1: number.to_be_bytes(), seen_key: [1; 16] };
        let mut machine = Machine::new(Arc::new(MachineConfig::default()), terms, now.monotonic);
        for line in [
            format!(r#"{{"id":1,"method":"mining.subscribe","params":["{user_agent}"]}}"#),
            r#"{"id":2,"method":"mining.authorize","params":["a.b","x"]}"#.to_owned(),
        ] {
            machine.handle_line(line.as_bytes(), &mut (), now).unwrap();
        }
        Self { machine, hashes_per_second, below: Credit::default(), above: Credit::default() }
    }

    /// What its shares must meet at this moment.
    fn target(&self) -> Target {
        self.machine.announced.unwrap()
    }

    /// Works until the next job; what the pool pays for comes out with its time.
    fn works(&mut self, from: Now, random: &mut Random) -> Vec<(Monotonic, Work)> {
        let (mut passed, mut found, all) = (0.0, Vec::new(), f64::from(JOB_SECONDS));
        loop {
            let target = self.target();
            let work = target.to_work();
            // Chance has no memory, so the wait for a share may begin anew with each difficulty and each job.
            let wait = -random.fraction().ln() * float(work) / self.hashes_per_second;
            let worked = wait.min(all - passed);
            self.below.variance += float(work) * self.hashes_per_second * worked;
            passed += wait;
            if passed >= all {
                return found;
            }
            let now = from.after(Duration::from_secs_f64(passed));
            self.finds(drawn(target, random), now);
            while let Some(share) = self.machine.poll_share() {
                self.above.add(share.work);
                found.push((now.monotonic, share.work));
            }
        }
    }

    fn finds(&mut self, hash: [u8; 32], now: Now) {
        let job = Arc::clone(&self.machine.issued.back().unwrap().job);
        let work = self.target().to_work();
        let extranonce2 = Extranonce2::from_bytes(&[0; 8]);
        let place = self.machine.issued.len() - 1;
        let candidate = Candidate { place, extranonce2, version: 0, ntime: TIME, nonce: 0 };
        let found = Found { candidate, job, user: 0, work, hash, is_block: false };
        self.machine.settle(found, now).unwrap();
        self.machine.handle_accepted(now);
        self.machine.output.clear();
        self.below.add(work);
    }
}

/// Machines at work for one pool: which, how many of each, how many shares a minute the pool wants, for how many jobs.
fn simulate(kinds: &[(&str, f64)], (each, rate): (u32, u32), jobs: u32) -> u64 {
    let mut random = Random(1);
    let mut now = Now { monotonic: Monotonic::from_micros(1_000_000), unix: UnixTime::from_secs(TIME) };
    let speed: f64 = kinds.iter().map(|(_, speed)| speed).sum::<f64>() * f64::from(each);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and whole")]
    let mut pool = Pool::new(rate, speed as u64);
    let mut miners: Vec<_> =
        (0..each).flat_map(|_| kinds).zip(1..).map(|(&kind, number)| Miner::new(kind, number, now)).collect();
    for _ in 0..jobs {
        let job = pool.job(now.monotonic);
        let mut found = Vec::new();
        for miner in &mut miners {
            miner.machine.handle_job(&job, now.monotonic);
            miner.machine.output.clear();
            assert!(miner.target() >= pool.target, "a machine would hide shares that the pool pays for");
            miner.above.variance +=
                float(pool.target.to_work()) * miner.hashes_per_second * f64::from(JOB_SECONDS);
            found.extend(miner.works(now, &mut random));
        }
        found.sort_unstable();
        found.into_iter().for_each(|(at, work)| pool.vardiff.handle_share(work, at));
        now = now.after(Duration::from_secs(JOB_SECONDS.into()));
    }
    let seconds = f64::from(jobs * JOB_SECONDS);
    let sum = |credits: &mut dyn Iterator<Item = Credit>| {
        credits.fold(Credit::default(), |sum, credit| Credit {
            work: sum.work + credit.work,
            variance: sum.variance + credit.variance,
            shares: sum.shares + credit.shares,
        })
    };
    for (place, (user_agent, speed)) in kinds.iter().enumerate() {
        let of_kind = || miners.iter().skip(place).step_by(kinds.len());
        let done = speed * f64::from(each) * seconds;
        sum(&mut of_kind().map(|miner| miner.below)).assert_is(done, &format!("{user_agent} below"));
        sum(&mut of_kind().map(|miner| miner.above)).assert_is(done, &format!("{user_agent} above"));
    }
    let (below, above) =
        (sum(&mut miners.iter().map(|miner| miner.below)), sum(&mut miners.iter().map(|miner| miner.above)));
    below.assert_is(speed * seconds, "all below");
    above.assert_is(speed * seconds, "all above");
    let per_minute = above.shares * 60 / u64::from(jobs * JOB_SECONDS);
    assert!(
        (u64::from(rate) * 2 / 3..=u64::from(rate) * 3 / 2).contains(&per_minute),
        "{per_minute} a minute"
    );
    let accepted: u64 = miners.iter().map(|miner| miner.machine.counts.accepted).sum();
    assert_eq!(accepted, below.shares);
    below.shares
}

/// From a NerdMiner to a rack.
const ALL: [(&str, f64); 9] = [
    ("NerdMinerV2/V1.8.3", 5e5),
    ("cpuminer/2.5.1", 4.3e7),
    ("NerdNOS/1.0", 1.75e11),
    ("bitaxe/BM1370/v2", 1.2e12),
    ("x", 5e9),
    ("NerdQAxe++", 5e12),
    ("Antminer S19", 1.1e14),
    ("NiceHash/1.0.0", 2.25e14),
    ("bmminer/2.0.0", 4e14),
];

#[test]
fn a_million_shares_of_machines_of_all_sizes_earn_what_they_cost() {
    let shares = simulate(&ALL, (5, 10), 1_300);
    assert!(shares > 1_000_000, "{shares}");
}

#[test]
fn an_upstream_that_wants_many_shares_decides_the_difficulty_of_large_machines() {
    simulate(&ALL, (2, 600), 100);
}

#[test]
fn small_machines_among_themselves_are_credited_above_too() {
    simulate(&ALL[..2], (20, 60), 250);
    simulate(&[("NerdMinerV2/V1.8.3", 5e5), ("LeafMiner", 2e4)], (10, 100), 250);
}

/// It was asked to connect anew after two minutes and cut off after three, with nothing wrong but the difficulty that it had asked for.
#[test]
fn a_machine_with_more_shares_than_can_be_remembered_was_treated_as_ill() {
    let mut now = Now { monotonic: Monotonic::from_micros(1_000_000), unix: UnixTime::from_secs(TIME) };
    let (easiest, config) = (EASIEST.to_string(), MachineConfig::default());
    let password = format!("d={easiest}");
    for follows_speed in [true, false] {
        let least = Override { least_difficulty: Some(EASIEST), ..Override::default() };
        let config = MachineConfig {
            rate: ShareRate::from_shares_per_minute(600),
            follows_speed,
            devices: vec![least],
            ..config.clone()
        };
        let terms = MachineTerms { extranonce1: [1; 4], seen_key: [1; 16] };
        let mut machine = Machine::new(Arc::new(config), terms, now.monotonic);
        machine.seen = SeenHashes::new([1; 16], 500);
        let hears = |machine: &mut Machine, line: String, now| {
            machine.output.clear();
            let end = machine.handle_line(line.as_bytes(), &mut (), now);
            assert_eq!(end, Ok(()), "{:?} {}", machine.counts, String::from_utf8_lossy(&machine.output));
            String::from_utf8(machine.output.clone()).unwrap()
        };
        let work = Given { target: Target::DIFFICULTY_1, ..Given::default() }.work();
        let job = Arc::new(Sv1Job::new(&work, 1, (NUMBER_STEP, NUMBER_STEP), 8).unwrap());
        machine.handle_job(&job, now.monotonic);
        hears(&mut machine, r#"{"id":1,"method":"mining.subscribe","params":["x"]}"#.to_owned(), now);
        let authorize = format!(r#"{{"id":2,"method":"mining.authorize","params":["a.b","{password}"]}}"#);
        hears(&mut machine, authorize, now);
        let (before, mut said) = (machine.announced.unwrap(), String::new());
        // Shares of the first job count by its own difficulty.
        let job = machine.issued.back().unwrap().number;
        for nonce in 0..10_000 {
            let submit = format!(
                r#"{{"id":3,"method":"mining.submit","params":["a.b","{job:016x}","{:016x}","{TIME:08x}","{nonce:08x}"]}}"#,
                0
            );
            said += &hears(&mut machine, submit, now);
            now = now.after(Duration::from_millis(20));
        }
        assert!(machine.counts.accepted >= 500, "{:?}", machine.counts);
        assert!(said.contains("Too many shares") && !said.contains("client.reconnect"), "{follows_speed}");
        let (slowed, full) = (said.find("mining.set_difficulty"), said.find("Too many shares"));
        assert!(slowed < full, "{follows_speed}: in time");
        assert!(
            said[slowed.unwrap()..full.unwrap()].contains(r#""result":true"#),
            "{follows_speed}: shares go on"
        );
        let after = machine.announced.unwrap();
        assert!(after.to_work() > before.to_work(), "{follows_speed}: it is told to find fewer");
        assert_eq!(said.matches("mining.set_difficulty").count(), 1, "{follows_speed}: once");
    }
}

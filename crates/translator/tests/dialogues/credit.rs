//! Work that a pool credits against work that machines have done, with headers that are really hashed.

use std::sync::Arc;

use adit_channel::{
    Channel, ChannelKind, ChannelTerms, ExtranonceSpace, JobTable, Lookup, UserIdentity, Vardiff,
    VardiffConfig,
};
use adit_share::{Job, Submission, Verdict};
use adit_translator::{MachineConfig, Override, Share};
use adit_units::{ChannelId, ConnectionId, Difficulty, Hashrate, JobId, SequenceNumber, ShareRate, Target};

use super::world::{Rig, World, fine, hash};

/// How many hashes a second machines make.
const SPEEDS: [u32; 5] = [1, 4, 16, 64, 256];

/// How long they work.
const SECONDS: u32 = 3_600;

/// Devices that may be given shares of a few hashes.
pub(crate) fn slow_devices() -> MachineConfig {
    let least_difficulty = Some(Difficulty::from_trillionths(1));
    let devices = vec![Override { pattern: "cpuminer".into(), least_difficulty, ..Override::default() }];
    MachineConfig { devices, ..MachineConfig::default() }
}

/// The pool's side of the one channel that all machines share.
struct Pool {
    channel: Channel,
    jobs: JobTable<Arc<Job>>,
    credited: u128,
    /// Sum of the squares of what shares were worth, for the spread that chance makes.
    spread: f64,
}

impl Pool {
    fn new(world: &mut World) -> Self {
        let config = VardiffConfig {
            rate: ShareRate::from_shares_per_minute(30),
            easiest: Target::MAX,
            ..VardiffConfig::default()
        };
        let extranonce = ExtranonceSpace::new(ConnectionId(1)).next_prefix().unwrap();
        world.prefix = extranonce.as_bytes().try_into().unwrap();
        let user = UserIdentity::from_wire(b"alice").unwrap();
        let terms = ChannelTerms {
            id: ChannelId(2),
            kind: ChannelKind::Extended,
            user,
            extranonce,
            group: ChannelId(1),
        };
        let vardiff =
            Vardiff::new(config, Hashrate::from_hashes_per_second(341), Target::MAX, Target::ZERO).unwrap();
        let jobs = JobTable::default();
        let channel = Channel::new(terms, vardiff, jobs.next_activation(), [9; 16]);
        Self { channel, jobs, credited: 0, spread: 0.0 }
    }

    /// The pool has another job.
    fn issues(&mut self, world: &mut World) {
        self.channel.handle_job(&self.jobs, world.now.monotonic);
        world.target = self.channel.target();
        let job = world.refresh();
        self.jobs.activate(JobId(job.route().source.job), Arc::clone(job.job()));
    }

    /// A share comes up.
    fn takes(&mut self, world: &World, share: &Share) {
        let job_id = JobId(share.route.source.job);
        let Lookup::Open { job, activation } = self.jobs.lookup(job_id) else { panic!("the job is open") };
        let submission = Submission {
            channel_id: ChannelId(2),
            sequence_number: SequenceNumber(0),
            job_id,
            nonce: share.nonce,
            ntime: share.ntime,
            version: share.version,
            extranonce: Some(share.extranonce.as_bytes()),
            rest: &[],
        };
        let verdict = self.channel.judge(job, activation, &submission, world.now);
        let Verdict::Valid { work, .. } = verdict else { panic!("refused: {verdict:?}") };
        assert_eq!(work, share.work, "both sides count alike");
        self.credited += work.to_hashes();
        self.spread += float(work.to_hashes()).powi(2);
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers in a test")]
fn float(number: u128) -> f64 {
    number as f64
}

/// Asserts that what was credited is what was done, but for chance.
fn assert_within_chance(what: &str, credited: u128, done: u128, spread: f64) {
    let difference = float(credited) - float(done);
    let sigma = spread.max(1.0).sqrt();
    assert!(difference.abs() <= 4.0 * sigma, "{what}: {credited} credited, {done} done, sigma {sigma}");
}

/// A machine that hashes, and what it found by its own difficulty.
struct Hashing {
    rig: Rig,
    speed: u32,
    nonce: u32,
    credited: u128,
    spread: f64,
}

impl Hashing {
    fn new(world: &mut World, speed: u32) -> Self {
        // Its speed is not what its class lets expect, so it is measured on the way.
        let rig = Rig::ready_as(world, "cpuminer/2.5.1", "th=0.00000000001");
        Self { rig, speed, nonce: 0, credited: 0, spread: 0.0 }
    }

    /// A second passes.
    fn works(&mut self, world: &mut World, pool: &mut Pool) {
        let mut header = self.rig.header(&self.rig.attempt(0), 0);
        for _ in 0..self.speed {
            let nonce = self.nonce;
            self.nonce += 1;
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            let target = self.rig.told().difficulty.unwrap().to_target();
            if !target.is_met_by(&hash(&header)) {
                continue;
            }
            let attempt = self.rig.attempt(nonce);
            let jobs = self.rig.jobs.len();
            let lines = self.rig.submits_all(world, &attempt);
            assert_eq!(lines[0], fine(7));
            let work = target.to_work().to_hashes();
            self.credited += work;
            self.spread += float(work).powi(2);
            for share in core::mem::take(&mut self.rig.up) {
                pool.takes(world, &share);
            }
            if self.rig.jobs.len() > jobs {
                header = self.rig.header(&self.rig.attempt(0), 0);
            }
        }
    }
}

#[test]
fn a_pool_credits_the_work_that_was_done() {
    let mut world = World::with(slow_devices());
    let mut pool = Pool::new(&mut world);
    pool.issues(&mut world);
    let mut machines = SPEEDS.map(|speed| Hashing::new(&mut world, speed));
    for second in 1..=SECONDS {
        for machine in &mut machines {
            machine.works(&mut world, &mut pool);
        }
        world.wait(1);
        if second % 30 == 0 {
            pool.issues(&mut world);
            let job = world.job.clone().unwrap();
            machines.iter_mut().for_each(|machine| {
                machine.rig.takes(&world, &job);
            });
        }
    }
    for machine in &machines {
        let done = u128::from(machine.speed) * u128::from(SECONDS);
        assert_within_chance(&format!("{} h/s", machine.speed), machine.credited, done, machine.spread);
        let report = machine.rig.machine.report(world.now.monotonic);
        assert_eq!(report.shares.refused(), 0);
        let a_minute = report.shares.accepted * 60 / u64::from(SECONDS);
        assert!((5..=60).contains(&a_minute), "{a_minute} shares a minute of {} h/s", machine.speed);
    }
    let (slowest, fastest) = (&machines[0].rig, &machines[4].rig);
    assert!(slowest.difficulty < fastest.difficulty, "each has its own difficulty");
    assert!(fastest.jobs.len() > slowest.jobs.len(), "and the fastest was found out before its next job");
    let done = u128::from(SPEEDS.iter().sum::<u32>()) * u128::from(SECONDS);
    assert_within_chance("the pool", pool.credited, done, pool.spread);
    assert!(float(done) / pool.spread.sqrt() > 25.0, "shares enough to tell");
}

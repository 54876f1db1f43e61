//! How much memory a machine takes: none for a share, little for a connection.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../src/job/fixture.rs"]
mod fixture;

use core::time::Duration;
use std::sync::Arc;

use adit_messages::types::{B032, B064K, Seq0255, Sv2Option, U256};
use adit_messages::{Message, common, encode, mining};
use adit_translator::upstream::{DOUBT_AFTER, Event, UpShare, Upstream, UpstreamConfig};
use adit_translator::{Machine, MachineConfig, MachineTerms, NUMBER_STEP, Override, Share, Sv1Job};
use adit_transport::FrameQueue;
use adit_units::{Difficulty, Hashrate, Monotonic, Now, Target, UnixTime};

use self::fixture::{Given, HARD, TIME};

/// Most bytes that a connection may take in all; the core has the most of it when it is busy, and the shell around it the rest.
const CONNECTION: u64 = 24 * 1024;

/// Most bytes that a machine takes that is ready and submits nothing.
const IDLE_MACHINE: u64 = CONNECTION / 6;

/// Most bytes that a machine takes that has submitted its ten or twenty shares a minute for hours, whether it shares its jobs or has a channel
/// of its own.
const BUSY_MACHINE: u64 = CONNECTION * 3 / 4;

fn now(seconds: u64) -> Now {
    let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) };
    now.after(Duration::from_secs(seconds))
}

/// A job that every hash meets for machines; half of them for the upstream.
fn job(number: u32, tip: u8) -> Arc<Sv1Job> {
    let given = Given {
        number,
        tip,
        coinbase: [60, 300],
        merkle_path: vec![[3; 32]; 12],
        target: Target::from_le_bytes([0x7f; 32]),
        ..Given::default()
    };
    let floor = u64::from(tip) << 32;
    Arc::new(Sv1Job::new(&given.work(), 1, (floor + u64::from(number) * NUMBER_STEP, floor), 8).unwrap())
}

/// Any device may have the lowest difficulty that there is.
fn config() -> Arc<MachineConfig> {
    let least_difficulty = Some(Difficulty::from_trillionths(1));
    let devices = vec![Override { least_difficulty, ..Override::default() }];
    Arc::new(MachineConfig { devices, ..MachineConfig::default() })
}

/// A machine whose shares are met by every hash, with a first job; its output is taken.
fn ready(config: Arc<MachineConfig>, job: &Arc<Sv1Job>) -> Machine {
    let mut machine = logged_in(config);
    machine.handle_job(job, now(0).monotonic);
    while machine.poll_event().is_some() {}
    machine
}

/// A machine that has said who it is and has no job yet.
fn logged_in(config: Arc<MachineConfig>) -> Machine {
    let terms = MachineTerms { extranonce1: [1; 4], seen_key: [2; 16] };
    let mut machine = Machine::new(config, terms, now(0).monotonic);
    for line in [
        r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#,
        r#"{"id":2,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.9.31"]}"#,
        r#"{"id":3,"method":"mining.authorize","params":["bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.rig1","d=0.0000000001"]}"#,
    ] {
        machine.handle_line(line.as_bytes(), &mut (), now(0)).unwrap();
    }
    machine
}

/// Shares of the job with that number.
fn lines(job: u64, nonces: core::ops::Range<u32>) -> Vec<String> {
    let user = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.rig1";
    let id = format!("{job:016x}");
    let line = |nonce: u32| {
        format!(
            r#"{{"id":{nonce},"method":"mining.submit","params":["{user}","{id}","0000000000000000","{TIME:08x}","{nonce:08x}","00c00000"]}}"#
        )
    };
    nonces.map(line).collect()
}

/// Has the machine take the lines, as a server does that reuses its memory.
fn submit(machine: &mut Machine, lines: &[String], now: Now) {
    for line in lines {
        machine.handle_line(line.as_bytes(), &mut (), now).unwrap();
        while machine.poll_share().is_some() {}
        machine.output().clear();
    }
}

#[test]
fn a_share_takes_no_memory() {
    let job = job(1, 1);
    let mut machine = ready(config(), &job);
    let (first, rest) = (lines(job.number(), 0..1_000), lines(job.number(), 1_000..1_300));
    // Until the set of seen shares has the room that the rest will need.
    submit(&mut machine, &first, now(1));
    let counted = allocation_counter::measure(|| submit(&mut machine, &rest, now(2)));
    assert_eq!((counted.count_total, machine.report(now(2).monotonic).shares.accepted), (0, 1_300));
    let counted = allocation_counter::measure(|| submit(&mut machine, &rest, now(3)));
    let shares = machine.report(now(3).monotonic).shares;
    assert_eq!((counted.count_total, shares.duplicate), (0, 300), "a refused one neither");
}

/// A machine is reported with nearly every share, and its names were copied each time.
#[test]
fn a_report_takes_no_memory() {
    let job = job(1, 1);
    let mut machine = ready(config(), &job);
    submit(&mut machine, &lines(job.number(), 0..1), now(1));
    let mut named = None;
    let counted = allocation_counter::measure(|| named = Some(machine.report(now(2).monotonic)));
    let report = named.unwrap();
    assert_eq!((counted.count_total, report.shares.accepted), (0, 1));
    assert_eq!(report.identity.user_agent, "bitaxe/BM1370/v2.9.31");
}

/// The answer grew its buffer three times, which is given back after each.
#[test]
fn an_answer_takes_memory_once() {
    let job = job(1, 1);
    let mut machine = ready(config(), &job);
    let lines = lines(job.number(), 0..1_300);
    let (first, rest) = lines.split_at(1_000);
    submit(&mut machine, first, now(1));
    let counted = allocation_counter::measure(|| {
        for line in rest {
            drop(core::mem::take(machine.output()));
            submit(&mut machine, core::slice::from_ref(line), now(2));
        }
    });
    assert_eq!(counted.count_total, 300);
}

#[test]
fn an_idle_machine_is_small() {
    let (config, jobs) = (config(), (1..40).map(|number| job(number, 1)));
    let jobs: Vec<_> = jobs.collect();
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let mut machine = ready(config, &jobs[0]);
        jobs.iter().for_each(|job| machine.handle_job(job, now(60).monotonic));
        // A server gives the memory back that it has written.
        *machine.output() = Vec::new();
        kept = Some(Box::new(machine));
    });
    let bytes = u64::try_from(counted.bytes_current).unwrap();
    assert!(bytes <= IDLE_MACHINE, "{bytes} bytes");
    assert!(kept.is_some_and(|machine| machine.is_ready()));
}

#[test]
fn a_machine_that_has_worked_for_hours_is_small() {
    let config = config();
    let mut kept = None;
    let tips: Vec<_> = (1..20).map(|tip| job(1, tip)).collect();
    let shares: Vec<_> = tips.iter().map(|job| lines(job.number(), 0..100)).collect();
    let counted = allocation_counter::measure(|| {
        let mut machine = ready(config, &tips[0]);
        for (block, (job, shares)) in (0..).zip(tips.iter().zip(&shares)) {
            machine.handle_job(job, now(600 * block).monotonic);
            submit(&mut machine, shares, now(600 * block + 300));
        }
        *machine.output() = Vec::new();
        kept = Some(Box::new(machine));
    });
    let bytes = u64::try_from(counted.bytes_current).unwrap();
    assert!(bytes <= BUSY_MACHINE, "{bytes} bytes");
    assert_eq!(kept.unwrap().report(now(12_000).monotonic).shares.accepted, 1_900);
}

/// Machines with channels of their own, and the connection to a pool without groups, which sends each channel jobs of its own.
struct Farm {
    upstream: Upstream,
    /// Whether these pay somebody else for each channel.
    pays_apart: bool,
    machines: Vec<Machine>,
    /// The number of the last job.
    last: u32,
}

impl Farm {
    fn new(machines: u64, pays_apart: bool, now: Now) -> Self {
        let terms = UpstreamConfig {
            host: "pool.example".to_owned(),
            port: 34_254,
            user: "farm".to_owned(),
            min_extranonce_size: 12,
            names_workers: false,
            doubt_after: DOUBT_AFTER,
        };
        let upstream = Upstream::new(&Arc::new(terms), now.monotonic);
        let mut farm = Self {
            upstream,
            pays_apart,
            machines: Vec::with_capacity(usize::try_from(machines).unwrap()),
            last: 0,
        };
        farm.hear(common::SetupConnectionSuccess { used_version: 2, flags: 0 }, now);
        for key in 0..machines {
            let nominal = Hashrate::from_hashes_per_second(1_000_000);
            farm.upstream.open(key, &format!("farm.rig{key}"), nominal, now.monotonic).unwrap();
            let number = u32::try_from(key).unwrap() + 1;
            let prefix = [[7; 4], number.to_le_bytes()].concat();
            let opened = mining::OpenExtendedMiningChannelSuccess {
                request_id: number,
                channel_id: number,
                target: U256::from(const { &[0x7f; 32] }),
                extranonce_size: 14,
                extranonce_prefix: B032::try_from(&*prefix).unwrap(),
                group_channel_id: 0,
            };
            farm.hear(opened, now);
            farm.machines.push(logged_in(config()));
        }
        farm
    }

    fn hear<'a>(&mut self, message: impl Into<Message<'a>>, now: Now) {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        queue.iter().for_each(|frame| self.upstream.handle_frame(frame, now.monotonic).unwrap());
        self.upstream.frames().clear();
        while let Some(event) = self.upstream.poll_event() {
            let Event::Work(work) = event else { continue };
            let number = u64::from(self.last) * NUMBER_STEP;
            let floor = if work.is_new_tip { number } else { 0 };
            let job = Sv1Job::new(&work, 1, (number, floor), 8).unwrap();
            self.machines[usize::try_from(work.key).unwrap()].handle_job(&Arc::new(job), now.monotonic);
        }
        self.empty();
    }

    /// Takes what machines are sent, as a server does, which then gives the memory back.
    fn empty(&mut self) {
        for machine in &mut self.machines {
            while machine.poll_event().is_some() {}
            *machine.output() = Vec::new();
        }
    }

    /// Each channel gets a job.
    fn new_job(&mut self, tip: Option<u8>, now: Now) {
        self.last += 1;
        for channel in 1..=u32::try_from(self.machines.len()).unwrap() {
            let paid = if self.pays_apart { channel } else { 0 };
            let suffix = [&paid.to_le_bytes()[..], &self.last.to_le_bytes(), &[2; 292]].concat();
            let path: Vec<[u8; 32]> = (0..12)
                .map(|step| [self.last.to_le_bytes(), [step; 4]].concat().repeat(4).try_into().unwrap())
                .collect();
            let job = mining::NewExtendedMiningJob {
                channel_id: channel,
                job_id: self.last,
                min_ntime: Sv2Option::new(tip.is_none().then_some(TIME)),
                version: 0x2000_0000,
                version_rolling_allowed: true,
                merkle_path: Seq0255::new(path.iter().map(U256::from).collect()).unwrap(),
                coinbase_tx_prefix: B064K::try_from(&[1; 60][..]).unwrap(),
                coinbase_tx_suffix: B064K::try_from(&*suffix).unwrap(),
            };
            self.hear(job, now);
            let Some(tip) = tip else { continue };
            let block = [tip; 32];
            let prev_hash = mining::SetNewPrevHash {
                channel_id: channel,
                job_id: self.last,
                prev_hash: U256::from(&block),
                min_ntime: TIME,
                nbits: HARD,
            };
            self.hear(prev_hash, now);
        }
    }

    /// Every machine submits that many shares of its newest job, and the pool takes those that are good enough for it.
    fn mine(&mut self, shares: core::ops::Range<u32>, now: Now) {
        for line in lines(u64::from(self.last) * NUMBER_STEP, shares) {
            for (place, machine) in self.machines.iter_mut().enumerate() {
                machine.handle_line(line.as_bytes(), &mut (), now).unwrap();
                let Some(share) = machine.poll_share() else { continue };
                let Share { route, nonce, ntime, version, extranonce, worker, .. } = share;
                let (key, source) = (place as u64, route.source);
                self.upstream
                    .submit(&UpShare { tag: 0, key, source, nonce, ntime, version, extranonce, worker })
                    .unwrap();
                self.upstream.frames().clear();
            }
        }
        for channel in 1..=u32::try_from(self.machines.len()).unwrap() {
            let accepted = mining::SubmitSharesSuccess {
                channel_id: channel,
                last_sequence_number: u32::MAX / 4,
                new_submits_accepted_count: 1,
                new_shares_sum: 1,
            };
            self.hear(accepted, now);
        }
    }
}

/// What so many machines take that have worked for hours at `shares` in the ten minutes of a block, each on jobs of its own channel.
fn held_by(machines: u64, pays_apart: bool, shares: u32) -> u64 {
    const BLOCK_JOBS: u32 = 20;
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let mut farm = Farm::new(machines, pays_apart, now(0));
        for (block, tip) in (0..).zip(1..=10) {
            for job in 0..BLOCK_JOBS {
                let now = now(600 * block + 30 * u64::from(job));
                farm.new_job((job == 0).then_some(tip), now);
                farm.mine(job * shares / BLOCK_JOBS..(job + 1) * shares / BLOCK_JOBS, now);
            }
        }
        kept = Some(farm);
    });
    let is_busy =
        |machine: &Machine| machine.report(now(6_000).monotonic).shares.accepted == 10 * u64::from(shares);
    assert!(kept.is_some_and(|farm: Farm| farm.machines.iter().all(is_busy)));
    u64::try_from(counted.bytes_current).unwrap()
}

#[test]
fn a_machine_with_jobs_of_its_own_took_as_much_again_for_each() {
    for (pays_apart, shares_a_minute, most) in [
        (false, 10, BUSY_MACHINE * 2 / 3),
        (false, 20, BUSY_MACHINE),
        (true, 10, BUSY_MACHINE),
        (true, 20, BUSY_MACHINE),
    ] {
        let [one, three] = [1, 3].map(|machines| held_by(machines, pays_apart, 10 * shares_a_minute));
        let bytes = (three - one) / 2;
        assert!(
            bytes <= most,
            "{bytes} bytes at {shares_a_minute} shares a minute, paid apart: {pays_apart}"
        );
    }
}

//! The stage: an upstream's jobs on a virtual clock, and machines that send lines, read lines and build headers of what they read.

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use adit_channel::LinkId;
use adit_translator::upstream::ChannelWork;
use adit_translator::{
    Disconnect, Event, Lender, Machine, MachineConfig, MachineTerms, Memory, NUMBER_STEP, Override, Share,
    Sv1Job,
};
use adit_units::{Difficulty, Monotonic, Now, Target, UnixTime};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use serde_json::{Value, json};

use crate::fixture::Given;
pub(crate) use crate::fixture::{HARD, TIME as START};

/// A network target that every second hash meets.
pub(crate) const EASY: u32 = 0x207f_ffff;

/// The version of all jobs, of which a bit lies within all masks.
pub(crate) const VERSION: u32 = 0x2000_4000;

/// A password with the lowest difficulty that there is, which every hash meets; for devices that may have it.
pub(crate) const ANY_HASH: &str = "d=0.0000000001";

/// A device that may have any difficulty.
pub(crate) const TINY: &str = "tiny";

/// The upstream's part of the extranonce unless a test has another, and the bytes that it leaves: two more than machines need.
const PREFIX: [u8; 6] = [0xaa; 6];
const LEFT: u16 = 14;

/// The upstream's side of the stage.
pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) config: Arc<MachineConfig>,
    /// What shares of jobs to come must meet for the upstream.
    pub(crate) target: Target,
    /// Its part of the extranonce.
    pub(crate) prefix: [u8; 6],
    /// The bits of the version that jobs to come let machines roll.
    pub(crate) rolling: u32,
    /// The network's target of tips to come.
    pub(crate) nbits: u32,
    pub(crate) lent: Lent,
    /// The newest job.
    pub(crate) job: Option<Arc<Sv1Job>>,
    pub(crate) link: LinkId,
    tip: u8,
    jobs: u32,
    floor: u64,
}

/// What was lent, and to whom it may be given back.
#[derive(Default)]
pub(crate) struct Lent {
    next: u32,
    pub(crate) returned: HashSet<[u8; 4]>,
    /// What those had found who returned one.
    pub(crate) kept: HashMap<[u8; 4], Memory>,
}

impl Lender for Lent {
    fn exchange(&mut self, _present: [u8; 4], wanted: [u8; 4]) -> bool {
        self.returned.remove(&wanted)
    }

    fn memory(&mut self, extranonce1: [u8; 4]) -> Option<Memory> {
        self.kept.remove(&extranonce1)
    }
}

impl World {
    /// An upstream that takes every hash, with a first job.
    pub(crate) fn new() -> Self {
        let least_difficulty = Some(Difficulty::from_trillionths(1));
        let devices = vec![Override { pattern: TINY.into(), least_difficulty, ..Override::default() }];
        Self::with(MachineConfig { devices, ..MachineConfig::default() })
    }

    /// The same, for machines that are served so.
    pub(crate) fn with(config: MachineConfig) -> Self {
        let mut world = Self {
            now: Now { monotonic: Monotonic::from_micros(5_000_000), unix: UnixTime::from_secs(START) },
            config: Arc::new(config),
            target: Target::MAX,
            prefix: PREFIX,
            rolling: adit_share::VERSION_ROLLING_MASK,
            nbits: HARD,
            lent: Lent::default(),
            job: None,
            link: 1,
            tip: 0,
            jobs: 0,
            floor: 0,
        };
        world.new_tip();
        world
    }

    /// The same, with jobs whose shares must have that difficulty.
    pub(crate) fn asking(difficulty: &str) -> Self {
        let mut world = Self::new();
        world.target = difficulty.parse::<Difficulty>().unwrap().to_target();
        world.new_tip();
        world
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.wait_micros(seconds * 1_000_000);
    }

    pub(crate) fn wait_micros(&mut self, micros: u64) {
        self.now = self.now.after(Duration::from_micros(micros));
    }

    /// A job on another tip.
    pub(crate) fn new_tip(&mut self) -> Arc<Sv1Job> {
        self.tip += 1;
        self.floor = self.next_number();
        self.refresh()
    }

    /// Another upstream takes over, on the same tip.
    pub(crate) fn fail_over(&mut self) -> Arc<Sv1Job> {
        self.link += 1;
        self.floor = self.next_number();
        self.refresh()
    }

    fn next_number(&self) -> u64 {
        u64::from(self.jobs + 1) * NUMBER_STEP
    }

    /// Another job on the same tip.
    pub(crate) fn refresh(&mut self) -> Arc<Sv1Job> {
        let number = self.next_number();
        self.jobs += 1;
        let job = Sv1Job::new(&self.work(), self.link, (number, self.floor), self.config.extranonce2_len);
        let job = Arc::new(job.unwrap());
        self.job = Some(Arc::clone(&job));
        job
    }

    /// The same job under another number, for machines not to fall asleep.
    pub(crate) fn renew(&mut self) -> Arc<Sv1Job> {
        let number = self.next_number();
        self.jobs += 1;
        let job = Arc::new(self.job.as_ref().unwrap().renewed(number));
        self.job = Some(Arc::clone(&job));
        job
    }

    fn work(&self) -> ChannelWork {
        let extranonce2_len = u16::from(self.config.extranonce2_len);
        let given = Given {
            number: self.jobs,
            tip: self.tip,
            nbits: self.nbits,
            version: VERSION,
            version_mask: self.rolling,
            merkle_path: vec![[3; 32], [self.jobs.to_le_bytes()[0]; 32]],
            prefix: self.prefix.into(),
            extranonce_size: LEFT.max(4 + extranonce2_len),
            target: self.target,
            ..Given::default()
        };
        given.work()
    }
}

/// A job as a machine has read it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) clean: bool,
    pub(crate) ntime: u32,
    /// The last difficulty before it.
    pub(crate) difficulty: Option<Difficulty>,
    version: u32,
    prev_hash: [u8; 32],
    parts: [Vec<u8>; 2],
    path: Vec<[u8; 32]>,
    nbits: u32,
}

/// What a machine submits.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) user: String,
    pub(crate) job: String,
    pub(crate) extranonce2: String,
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
    pub(crate) bits: Option<u32>,
}

/// A machine, and what it has been told.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) user: String,
    pub(crate) extranonce1: Vec<u8>,
    pub(crate) jobs: Vec<Told>,
    pub(crate) difficulty: Option<Difficulty>,
    /// Shares that went up.
    pub(crate) up: Vec<Share>,
    pub(crate) ended: Option<Disconnect>,
    pub(crate) readies: usize,
}

/// The answer that all is well.
pub(crate) fn fine(id: impl Into<Value>) -> Value {
    json!({"id": id.into(), "result": true, "error": null})
}

/// The answer that something is refused.
pub(crate) fn refused(id: impl Into<Value>, code: u8, text: &str) -> Value {
    json!({"id": id.into(), "result": null, "error": [code, text, null]})
}

/// The method of a line that is no answer.
pub(crate) fn method(line: &Value) -> &str {
    line["method"].as_str().unwrap_or_default()
}

/// The methods of lines, answers being empty.
pub(crate) fn methods(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(method).collect()
}

impl Rig {
    /// A machine that has just connected.
    pub(crate) fn connects(world: &mut World) -> Self {
        world.lent.next += 1;
        let extranonce1 = (0xa000_0000 | world.lent.next).to_be_bytes();
        let terms = MachineTerms { extranonce1, seen_key: [7; 16] };
        let machine = Machine::new(Arc::clone(&world.config), terms, world.now.monotonic);
        Self {
            machine,
            user: "alice.rig".into(),
            extranonce1: extranonce1.into(),
            jobs: Vec::new(),
            difficulty: None,
            up: Vec::new(),
            ended: None,
            readies: 0,
        }
    }

    /// A machine without a name that has its first job.
    pub(crate) fn ready(world: &mut World) -> Self {
        Self::ready_as(world, "x/1.0", "x")
    }

    /// A machine of that name whose owner has set that password, with its first job.
    pub(crate) fn ready_as(world: &mut World, user_agent: &str, password: &str) -> Self {
        let mut rig = Self::connects(world);
        rig.asks(world, 1, "mining.subscribe", json!([user_agent]));
        rig.asks(world, 2, "mining.authorize", json!(["alice.rig", password]));
        let job = world.job.clone().unwrap();
        rig.takes(world, &job);
        assert_eq!(rig.jobs.len(), 1, "it is told of its job");
        rig
    }

    /// It sends a line; the answer is all that it is told.
    pub(crate) fn says(&mut self, world: &mut World, line: &str) -> Vec<Value> {
        let done = self.machine.handle_line(line.as_bytes(), &mut world.lent, world.now);
        self.ended = done.err();
        self.hears()
    }

    /// It sends a request.
    pub(crate) fn asks(
        &mut self,
        world: &mut World,
        id: impl Into<Value>,
        method: &str,
        params: Value,
    ) -> Vec<Value> {
        self.says(world, &json!({"id": id.into(), "method": method, "params": params}).to_string())
    }

    /// There is a job for it; the answer is what it is told.
    pub(crate) fn takes(&mut self, world: &World, job: &Arc<Sv1Job>) -> Vec<Value> {
        self.machine.handle_job(job, world.now.monotonic);
        self.hears()
    }

    /// Reads the lines that are there.
    pub(crate) fn hears(&mut self) -> Vec<Value> {
        let output = core::mem::take(self.machine.output());
        assert!(output.is_empty() || output.ends_with(b"\n"), "whole lines only");
        let lines = output.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        lines.iter().for_each(|line| self.heeds(line));
        while let Some(Event::Ready { .. }) = self.machine.poll_event() {
            self.readies += 1;
        }
        while let Some(share) = self.machine.poll_share() {
            self.up.push(share);
        }
        lines
    }

    /// Does as it is told.
    fn heeds(&mut self, line: &Value) {
        let params = &line["params"];
        match method(line) {
            "mining.notify" => self.jobs.push(Told::read(params, self.difficulty)),
            "mining.set_difficulty" => self.difficulty = Some(params[0].to_string().parse().unwrap()),
            "mining.set_extranonce" => self.extranonce1 = bytes(&params[0]),
            "" if line["result"][1].is_string() => self.extranonce1 = bytes(&line["result"][1]),
            _ => {}
        }
    }

    /// The job that it was told last.
    pub(crate) fn told(&self) -> &Told {
        self.jobs.last().unwrap()
    }

    /// What it would submit of its newest job with that nonce.
    pub(crate) fn attempt(&self, nonce: u32) -> Attempt {
        let Told { id, ntime, .. } = self.told().clone();
        let extranonce2 = "0000000000000000".into();
        Attempt { user: self.user.clone(), job: id, extranonce2, ntime, nonce, bits: None }
    }

    /// It submits a share; the answer is the one to that, and there is only one.
    pub(crate) fn submits(&mut self, world: &mut World, attempt: &Attempt) -> Value {
        let lines = self.submits_all(world, attempt);
        let mut answers = lines.into_iter().filter(|line| line["id"] == 7);
        let answer = answers.next().unwrap();
        assert_eq!(answers.next(), None);
        answer
    }

    /// The same with all that it is told.
    pub(crate) fn submits_all(&mut self, world: &mut World, attempt: &Attempt) -> Vec<Value> {
        let Attempt { user, job, extranonce2, ntime, nonce, bits } = attempt;
        let mut params = json!([user, job, extranonce2, format!("{ntime:08x}"), format!("{nonce:08x}")]);
        if let Some(bits) = bits {
            params.as_array_mut().unwrap().push(format!("{bits:08x}").into());
        }
        self.asks(world, 7, "mining.submit", params)
    }

    /// It submits a share of its newest job.
    pub(crate) fn tries(&mut self, world: &mut World, nonce: u32) -> Value {
        let attempt = self.attempt(nonce);
        self.submits(world, &attempt)
    }

    /// The hash of an attempt's header, in raw byte order; `mask` are the version bits that it may roll.
    pub(crate) fn hash(&self, attempt: &Attempt, mask: u32) -> [u8; 32] {
        hash(&self.header(attempt, mask))
    }

    /// An attempt's header, as firmware makes it.
    pub(crate) fn header(&self, attempt: &Attempt, mask: u32) -> [u8; 80] {
        let job = self.jobs.iter().rfind(|job| job.id == attempt.job).unwrap();
        let [before, behind] = &job.parts;
        let extranonce2 = Vec::from_hex(&attempt.extranonce2).unwrap();
        let coinbase = [&before[..], &self.extranonce1, &extranonce2, behind].concat();
        let join = |root: [u8; 32], step: &[u8; 32]| hash(&[root, *step].concat());
        let root = job.path.iter().fold(hash(&coinbase), join);
        let version = attempt.bits.map_or(job.version, |bits| job.version & !mask | bits);
        let mut header = Vec::with_capacity(80);
        header.extend_from_slice(&version.to_le_bytes());
        header.extend_from_slice(&job.prev_hash);
        header.extend_from_slice(&root);
        for number in [attempt.ntime, job.nbits, attempt.nonce] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.try_into().unwrap()
    }

    /// The first attempt on the newest job whose hash meets `target`, or does not.
    pub(crate) fn finds(&self, target: Target, meets: bool) -> Attempt {
        let attempts = (0..1_000_000).map(|nonce| self.attempt(nonce));
        let mut fitting = attempts.filter(|attempt| target.is_met_by(&self.hash(attempt, 0)) == meets);
        fitting.next().unwrap()
    }
}

impl Told {
    fn read(params: &Value, difficulty: Option<Difficulty>) -> Self {
        let number = |place: usize| u32::from_str_radix(params[place].as_str().unwrap(), 16).unwrap();
        let mut prev_hash: [u8; 32] = bytes(&params[1]).try_into().unwrap();
        prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        let path = params[4].as_array().unwrap().iter().map(|step| bytes(step).try_into().unwrap());
        Self {
            id: params[0].as_str().unwrap().to_owned(),
            clean: params[8].as_bool().unwrap(),
            ntime: number(7),
            difficulty,
            version: number(5),
            prev_hash,
            parts: [bytes(&params[2]), bytes(&params[3])],
            path: path.collect(),
            nbits: number(6),
        }
    }
}

/// The bytes of a hexadecimal text.
fn bytes(text: &Value) -> Vec<u8> {
    Vec::from_hex(text.as_str().unwrap()).unwrap()
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.to_lower_hex_string()
}

/// Of the hash that all of the chain is made of.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    sha256d::Hash::hash(bytes).to_byte_array()
}

//! Lines of any machine, jobs and outages in between, given to the server's side of an SV1 connection.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use adit_share::{Extranonce, Job, JobParts, Tip};
use adit_translator::sv1::{self, Call, Request};
use adit_translator::upstream::{ChannelWork, Source};
use adit_translator::{
    Event, Lender, Machine, MachineConfig, MachineTerms, NUMBER_STEP, Share, ShareCounts, Sv1Job,
};
use adit_units::{Difficulty, Height, JobId, Monotonic, Now, Target, UnixTime, Work};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{BlockHash, CompactTarget};
use serde_json::Value;

/// The most bytes that the answer to one line and what follows it may have, the line itself four times over not counted.
const OUTPUT_MAX: usize = 4 * 1024;

/// The wall clock at the start, in seconds; the time of all jobs.
const TIME: u32 = 1_780_000_000;

/// What the upstream's extranonces begin with.
const PREFIX: [u8; 6] = [0xee; 6];

/// Lines of a machine; those that begin with `!` are what happens meanwhile: `!job`, `!tip`, `!renew`, `!lost`, `!again`, `!wait 30`,
/// `!target 20` (a power of two of hashes). In the others `@` stands for the newest job's id.
///
/// # Panics
///
/// If a request is not answered exactly once, if output is not bounded, if shares are counted wrongly, or if one goes up that does not meet its
/// target.
pub fn run(bytes: &[u8]) {
    let mut stage = Stage::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let goes_on = match line.strip_prefix(b"!") {
            Some(direction) => stage.directed(&String::from_utf8_lossy(direction)),
            None => stage.hears(line),
        };
        if !goes_on {
            return;
        }
    }
}

/// Lends one former extranonce1 back, once.
struct Lent(Option<[u8; 4]>);

impl Lender for Lent {
    fn exchange(&mut self, _present: [u8; 4], wanted: [u8; 4]) -> bool {
        self.0.take_if(|free| *free == wanted).is_some()
    }
}

struct Stage {
    machine: Machine,
    lent: Lent,
    now: Now,
    target: Target,
    tip: u8,
    jobs: u32,
    floor: u64,
    /// By the upstream's numbers.
    issued: HashMap<u32, Arc<Sv1Job>>,
    newest: Option<Arc<Sv1Job>>,
    /// The newest job's id on the wire.
    id: String,
    told: Option<Difficulty>,
    /// The upstream's number of the job that was told last, and its time.
    time: (u32, u32),
    submitted: u64,
    readies: u32,
}

impl Stage {
    fn new() -> Self {
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) };
        let terms = MachineTerms { extranonce1: [0, 0, 0, 1], seen_key: [3; 16] };
        Self {
            machine: Machine::new(Arc::new(MachineConfig::default()), terms, now.monotonic),
            lent: Lent(Some([0xfa; 4])),
            now,
            target: Target::MAX,
            tip: 1,
            jobs: 0,
            floor: 0,
            issued: HashMap::new(),
            newest: None,
            id: "0".into(),
            told: None,
            time: (0, 0),
            submitted: 0,
            readies: 0,
        }
    }

    /// Something happens; the answer is whether the machine is still connected.
    fn directed(&mut self, direction: &str) -> bool {
        let (what, number) = direction.split_once(' ').unwrap_or((direction, ""));
        let number: u32 = number.parse().unwrap_or_default();
        match what {
            "job" => self.issue(false),
            "tip" => self.issue(true),
            "renew" => self.renew(),
            "again" => self.tell(),
            "lost" => self.machine.handle_upstream_lost(|_| false, self.now.monotonic),
            "wait" => self.now = self.now.after(Duration::from_secs(number.min(100_000).into())),
            "target" => self.target = Target::from_work(Work::from_hashes(1 << number.min(100))),
            _ => {}
        }
        self.reads(0);
        self.machine.handle_timeout(self.now.monotonic).is_ok()
    }

    fn issue(&mut self, is_new_tip: bool) {
        self.jobs += 1;
        if is_new_tip {
            self.tip = self.tip.wrapping_add(1);
            self.floor = u64::from(self.jobs) * NUMBER_STEP;
        }
        let number = u64::from(self.jobs) * NUMBER_STEP;
        let job = Arc::new(Sv1Job::new(&self.work(), 1, (number, self.floor), 8).expect("there is room"));
        self.issued.insert(self.jobs, Arc::clone(&job));
        self.newest = Some(job);
        self.tell();
    }

    fn renew(&mut self) {
        let Some(job) = self.newest.clone() else { return };
        self.jobs += 1;
        self.newest = Some(Arc::new(job.renewed(u64::from(self.jobs) * NUMBER_STEP)));
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(job) = &self.newest {
            self.machine.handle_job(job, self.now.monotonic);
        }
    }

    fn work(&self) -> ChannelWork {
        let nbits = CompactTarget::from_consensus(0x0300_0001);
        let version_mask = [0, 0x1fff_e000, 0x1fff_ffe0][self.jobs as usize % 3];
        let parts = JobParts {
            id: JobId(self.jobs),
            tip: Tip::new(BlockHash::from_byte_array([self.tip; 32]), Height(101), nbits, TIME),
            min_ntime: TIME,
            version: 0x2000_0000,
            version_rolling_allowed: version_mask != 0,
            coinbase_prefix: &[1; 50],
            coinbase_suffix: &[2; 60],
            extranonce_len: 20,
            merkle_path: vec![[3; 32]],
        };
        ChannelWork {
            key: 5,
            job: Arc::new(Job::from_parts(parts).expect("all parts are short")),
            source: Source { channel: 1, job: self.jobs, generation: self.tip.into() },
            prefix: Extranonce::join(&PREFIX, &[]),
            extranonce_size: 14,
            target: self.target,
            version_mask,
            is_new_tip: false,
        }
    }

    /// The machine sends a line; the answer is whether it is still connected.
    fn hears(&mut self, line: &[u8]) -> bool {
        let mut whole = Vec::with_capacity(line.len());
        for &byte in line {
            if byte == b'@' { whole.extend_from_slice(self.id.as_bytes()) } else { whole.push(byte) }
        }
        // What a server takes at most.
        whole.truncate(8 * 1024);
        let (id, is_answer) = match sv1::parse(&whole) {
            Ok(Request { id, call }) => {
                self.submitted += u64::from(matches!(call, Call::Submit(_)));
                (id, matches!(call, Call::Answer(_)))
            }
            Err(malformed) => (malformed.id, false),
        };
        let done = self.machine.handle_line(&whole, &mut self.lent, self.now);
        let answers = id.filter(|_| !is_answer).map(|id| format!("{{\"id\":{},\"result\":", id.as_str()));
        let heard = self.reads(whole.len());
        let found: Vec<_> = heard.iter().filter(|line| !line.contains("\"method\":\"")).collect();
        assert_eq!(
            found.len(),
            usize::from(answers.is_some()),
            "answers to {}",
            String::from_utf8_lossy(&whole)
        );
        assert!(found.iter().all(|line| answers.as_ref().is_some_and(|start| line.starts_with(start))));
        self.check_counts();
        done.is_ok()
    }

    /// Takes all that comes out of the machine, after a line of that length.
    fn reads(&mut self, len: usize) -> Vec<String> {
        let output = core::mem::take(self.machine.output());
        assert!(output.len() <= OUTPUT_MAX + 4 * len, "{} bytes for a line of {len}", output.len());
        assert!(output.is_empty() || output.ends_with(b"\n"));
        let text = String::from_utf8(output).expect("what is written is text");
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.iter().for_each(|line| self.notes(line));
        while let Some(share) = self.machine.poll_share() {
            self.check_share(&share);
        }
        while let Some(Event::Ready { .. }) = self.machine.poll_event() {
            self.readies += 1;
            assert_eq!(self.readies, 1);
        }
        assert_ne!(self.machine.extranonce1(), [0; 4]);
        lines
    }

    fn notes(&mut self, line: &str) {
        // An id such as 1e999 is echoed as it was, which this reader refuses.
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let first = line.pointer("/params/0").cloned().unwrap_or_default();
        match line.pointer("/method").and_then(Value::as_str) {
            Some("mining.set_difficulty") => {
                let told = first.to_string().parse().expect("difficulties are numbers without exponents");
                assert_ne!(self.told.replace(told), Some(told), "no difficulty is told twice");
            }
            Some("mining.notify") => {
                let id = first.as_str().unwrap_or_default().to_owned();
                assert!(id.len() == 16 && (id > self.id || self.id == "0"), "{id} after {}", self.id);
                self.id = id;
                let job = self.newest.as_ref().expect("there is a job to be told");
                assert!(self.told.is_some(), "no job without a difficulty");
                let digits = line.pointer("/params/7").and_then(Value::as_str).unwrap_or_default();
                let ntime = u32::from_str_radix(digits, 16).expect("times are hexadecimal");
                let (former, earlier) = core::mem::replace(&mut self.time, (job.route().source.job, ntime));
                let is_later = ntime > earlier || ntime == job.latest_ntime();
                assert!(is_later || former != job.route().source.job, "the same work twice");
                assert!((job.ntime()..=job.latest_ntime()).contains(&ntime));
                // A difficulty that the owner has fixed may lose what a floating point number loses.
                let told =
                    self.told.map(Difficulty::to_target).map(Target::to_work).unwrap_or_default().to_hashes();
                let asked = job.target().to_work().to_hashes();
                assert!(told <= asked + (asked >> 40), "{told} hashes for a share of {asked}");
            }
            _ => {}
        }
    }

    fn check_counts(&self) {
        let ShareCounts { accepted, blocks, .. } = self.machine.report(self.now.monotonic).shares;
        let refused = self.machine.report(self.now.monotonic).shares.refused();
        assert_eq!(accepted + refused, self.submitted, "each share is counted once");
        assert_eq!(blocks, 0);
    }

    /// A share that goes up makes a header that meets the target of its job.
    fn check_share(&self, share: &Share) {
        let job = self.issued.get(&share.route.source.job).expect("shares are of jobs that there were");
        assert_eq!((share.route.key, share.work), (5, job.target().to_work()));
        let whole = [&PREFIX, share.extranonce.as_bytes()].concat();
        let root = job.job().merkle_root(&whole).expect("the extranonce has its length");
        let tip = job.job().tip();
        let header = [
            &share.version.to_le_bytes()[..],
            tip.prev_hash.as_ref(),
            &root,
            &share.ntime.to_le_bytes(),
            &tip.nbits.to_consensus().to_le_bytes(),
            &share.nonce.to_le_bytes(),
        ];
        let hash = sha256d::Hash::hash(&header.concat()).to_byte_array();
        assert!(job.target().is_met_by(&hash), "the pool would refuse it");
        let rolls = (share.version ^ job.job().version()) & !job.version_mask() == 0;
        assert!(rolls && share.ntime >= TIME);
    }
}

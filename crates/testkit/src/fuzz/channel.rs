//! Channels over a table of jobs, which do what the bytes say, beside a twin that writes down for each job what held when it was given.

use core::time::Duration;
use std::collections::{HashMap, HashSet};

use adit_channel::{
    Activation, Channel, ChannelKind, ChannelTerms, ExtranoncePrefix, ExtranonceSpace, JobTable, Lookup,
    PAST_JOBS, UserIdentity, Vardiff, VardiffConfig,
};
use adit_share::{Job, JobParts, Reject, Submission, Tip, Verdict};
use adit_units::{
    ChannelId, ConnectionId, Hashrate, Height, JobId, Monotonic, Now, SequenceNumber, Target, UnixTime, Work,
};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{BlockHash, CompactTarget};

/// Time and version of every job.
const TIME: u32 = 1_780_000_000;
const VERSION: u32 = 0x2000_0000;
/// Most actions of one input.
const ACTIONS: usize = 400;
/// The coinbase around the extranonce, before the job's number.
const PREFIX: [u8; 60] = [0x5a; 60];
const SUFFIX: [u8; 30] = [0xa5; 30];

/// What a channel was given with one job.
#[derive(Clone, Copy)]
struct Given {
    target: Target,
    prefix: ExtranoncePrefix,
    group: ChannelId,
}

/// A channel and what is known of it.
struct Twin {
    channel: Channel,
    /// What holds for the next job.
    next: Given,
    /// Prefix and group of the job for the next tip, if it was given one ahead.
    ahead: Option<(ExtranoncePrefix, ChannelId)>,
    given: HashMap<u32, Given>,
    accepted: HashSet<[u8; 80]>,
}

struct Stage<'a> {
    script: &'a [u8],
    now: Now,
    table: JobTable<Job>,
    space: ExtranonceSpace,
    twins: Vec<Twin>,
    /// Jobs that can earn, oldest first, with the place that they have in the order of all.
    open: Vec<(u32, Activation)>,
    /// The job for the next tip.
    waits: Option<u32>,
    highest: u32,
    tips: u32,
    nbits: CompactTarget,
}

/// Lets the bytes act.
///
/// # Panics
///
/// If a share gets another verdict than the twin gives it, a job's lifetime, target, prefix or group is not what was written down, or a
/// prefix comes twice.
pub fn run(bytes: &[u8]) {
    let mut stage = Stage::new(bytes);
    stage.new_tip();
    stage.open_channel();
    for _ in 0..ACTIONS {
        if stage.script.is_empty() {
            break;
        }
        stage.act();
    }
}

impl<'a> Stage<'a> {
    fn new(script: &'a [u8]) -> Self {
        Self {
            script,
            now: Now { monotonic: Monotonic::from_micros(1), unix: UnixTime::from_secs(TIME) },
            table: JobTable::default(),
            space: ExtranonceSpace::new(ConnectionId(1)),
            twins: Vec::new(),
            open: Vec::new(),
            waits: None,
            highest: 0,
            tips: 0,
            nbits: CompactTarget::from_consensus(0x0300_0001),
        }
    }

    fn byte(&mut self) -> u8 {
        self.script.split_off_first().copied().unwrap_or(0)
    }

    fn act(&mut self) {
        match self.byte() % 16 {
            0 => self.open_channel(),
            1 | 2 => self.refresh(),
            3 => self.new_tip(),
            4 => self.announce(),
            5 => self.announced_tip(),
            6 => self.move_channel(),
            7 => self.update(),
            8 => self.now = self.now.after(Duration::from_secs(self.byte().into())),
            9 => self.close_all(),
            _ => self.submit(),
        }
        self.check_lifetimes();
    }

    /// Every channel is gone, and the past jobs with them.
    fn close_all(&mut self) {
        self.twins.clear();
        self.table.forget_past();
        let past = self.open.len().saturating_sub(1);
        self.open.drain(..past);
    }

    fn open_channel(&mut self) {
        let (kind, target) = (self.byte(), [self.byte().max(1); 32]);
        let Some(prefix) = self.space.next_prefix() else { return };
        assert!(self.twins.iter().all(|twin| twin.given.values().all(|given| given.prefix != prefix)));
        let config = VardiffConfig { easiest: Target::MAX, ..VardiffConfig::default() };
        let nominal = Hashrate::from_wire(f32::from(self.byte())).expect("a byte is a rate");
        let max_target = Target::from_le_bytes(target);
        let Ok(vardiff) = Vardiff::new(config, nominal, max_target, Target::from_compact(self.nbits)) else {
            return;
        };
        let kind = if kind % 2 == 0 { ChannelKind::Extended } else { ChannelKind::Standard };
        let (id, group) = (ChannelId(2), ChannelId(1));
        let user = UserIdentity::from_wire(b"a.b").expect("it prints");
        let terms = ChannelTerms { id, kind, user, extranonce: prefix, group };
        let Some(&(job, first)) = self.open.last() else { return };
        let mut channel = Channel::new(terms, vardiff, first, [3; 16]);
        let next = Given { target: channel.target(), prefix, group };
        channel.handle_first_job(self.now.monotonic);
        let given = HashMap::from([(job, next)]);
        // Whoever opens late is given the job for the next tip too.
        let ahead = self.waits.map(|_| (prefix, group));
        self.twins.push(Twin { channel, next, ahead, given, accepted: HashSet::new() });
    }

    fn next_job(&mut self) -> Job {
        self.highest += 1;
        let tip = Tip::new(BlockHash::hash(&self.tips.to_le_bytes()), Height(1), self.nbits, TIME);
        self.job(self.highest, tip)
    }

    fn job(&self, id: u32, tip: Tip) -> Job {
        let parts = JobParts {
            id: JobId(id),
            tip,
            min_ntime: TIME,
            version: VERSION,
            version_rolling_allowed: true,
            coinbase_prefix: &[&PREFIX[..], &id.to_le_bytes()].concat(),
            coinbase_suffix: &SUFFIX,
            extranonce_len: ExtranoncePrefix::LEN + ExtranoncePrefix::ROLLABLE_LEN,
            merkle_path: vec![[7; 32]],
        };
        Job::from_parts(parts).expect("every part is short enough for the wire")
    }

    /// Another job on the same tip.
    fn refresh(&mut self) {
        let job = self.next_job();
        let id = self.highest;
        for twin in &mut self.twins {
            if let Some(target) = twin.channel.handle_job(&self.table, self.now.monotonic) {
                twin.next.target = target;
            }
            twin.given.insert(id, twin.next);
        }
        let activation = self.table.activate(JobId(id), job);
        self.open.push((id, activation));
        if self.open.len() > PAST_JOBS + 1 {
            self.open.remove(0);
        }
    }

    /// A tip whose job nobody had before.
    fn new_tip(&mut self) {
        self.tips += 1;
        let easy = self.byte().is_multiple_of(4);
        self.nbits = CompactTarget::from_consensus(if easy { 0x207f_ffff } else { 0x0300_0001 });
        let job = self.next_job();
        let (id, network) = (self.highest, Target::from_compact(self.nbits));
        self.table.announce(JobId(id), job);
        for twin in &mut self.twins {
            if let Some(target) = twin.channel.handle_new_tip(&self.table, network, self.now.monotonic) {
                twin.next.target = target;
            }
            twin.given.insert(id, twin.next);
            twin.ahead = None;
        }
        self.set_tip(id);
    }

    fn set_tip(&mut self, id: u32) {
        let activation = self.table.set_tip(JobId(id)).expect("it was announced");
        self.open = vec![(id, activation)];
        self.waits = None;
    }

    /// A job for the next tip, given ahead.
    fn announce(&mut self) {
        if self.waits.is_some() {
            return;
        }
        self.tips += 1;
        let job = self.next_job();
        self.tips -= 1;
        self.table.announce(JobId(self.highest), job);
        self.waits = Some(self.highest);
        for twin in &mut self.twins {
            twin.ahead = Some((twin.next.prefix, twin.next.group));
        }
    }

    /// The tip that a job was given for.
    fn announced_tip(&mut self) {
        let Some(id) = self.waits else { return };
        self.tips += 1;
        let network = Target::from_compact(self.nbits);
        for twin in &mut self.twins {
            if let Some(target) = twin.channel.handle_announced_tip(&self.table, network, self.now.monotonic)
            {
                twin.next.target = target;
            }
            let (prefix, group) = twin.ahead.take().expect("every channel was given it");
            twin.given.insert(id, Given { prefix, group, ..twin.next });
        }
        self.set_tip(id);
    }

    /// A channel has another prefix or another group from the next job on.
    fn move_channel(&mut self) {
        let (choice, group) = (self.byte(), ChannelId(100 + u32::from(self.byte() % 3)));
        let is_ahead = self.waits.is_some();
        let count = self.twins.len().max(1);
        let Some(twin) = self.twins.get_mut(usize::from(choice / 2) % count) else { return };
        if choice % 2 == 0 {
            twin.channel.set_group(group, &self.table, is_ahead);
            twin.next.group = group;
        } else if let Some(prefix) = self.space.next_prefix() {
            twin.channel.set_extranonce(prefix, &self.table, is_ahead);
            twin.next.prefix = prefix;
        }
    }

    fn update(&mut self) {
        let (choice, rate, target) = (self.byte(), f32::from(self.byte()), [self.byte(); 32]);
        let count = self.twins.len().max(1);
        let Some(twin) = self.twins.get_mut(usize::from(choice) % count) else { return };
        let nominal = Hashrate::from_wire(rate).expect("a byte is a rate");
        if let Ok(Some(target)) = twin.channel.update(nominal, Target::from_le_bytes(target), &self.table) {
            twin.next.target = target;
        }
    }

    fn submit(&mut self) {
        let (choice, back, nonce) = (self.byte(), self.byte() % 24, self.byte() % 8);
        let count = self.twins.len().max(1);
        let id = (self.highest + 1).saturating_sub(back.into());
        let is_open = self.open.iter().any(|&(open, _)| open == id);
        let Lookup::Open { job, activation } = self.table.lookup(JobId(id)) else {
            return assert!(!is_open, "job {id} can earn no more");
        };
        assert!(is_open, "job {id} can still earn");
        let Some(twin) = self.twins.get_mut(usize::from(choice) % count) else { return };
        let extended = twin.channel.kind() == ChannelKind::Extended;
        let rolled = [nonce; ExtranoncePrefix::ROLLABLE_LEN];
        let share = Submission {
            channel_id: ChannelId(2),
            sequence_number: SequenceNumber(0),
            job_id: JobId(id),
            nonce: (nonce / 2).into(),
            ntime: TIME,
            version: VERSION,
            extranonce: extended.then_some(&rolled[..]),
            rest: &[],
        };
        let expected = twin.verdict(job, &share);
        assert_eq!(twin.channel.judge(job, activation, &share, self.now), expected);
        let given = twin.given.get(&id).map(|given| given.group);
        assert_eq!(twin.channel.group_at(activation), given);
    }

    /// Every number has the standing that was written down for it.
    fn check_lifetimes(&self) {
        for id in self.highest.saturating_sub(30)..=self.highest + 1 {
            let open = self.open.iter().find(|&&(open, _)| open == id);
            match self.table.lookup(JobId(id)) {
                Lookup::Open { job, activation } => {
                    assert_eq!((job.id().0, Some(activation)), (id, open.map(|&(_, activation)| activation)));
                }
                Lookup::Unknown => assert!(id > self.highest || self.waits == Some(id) || id == 0, "{id}"),
                Lookup::Stale => assert!(open.is_none() && self.waits != Some(id), "{id}"),
            }
        }
    }
}

impl Twin {
    /// What the share deserves, by hashing everything.
    fn verdict(&mut self, job: &Job, share: &Submission<'_>) -> Verdict {
        let Some(given) = self.given.get(&share.job_id.0) else {
            return Verdict::Rejected(Reject::InvalidJobId);
        };
        let rolled = share.extranonce.unwrap_or(&[0; ExtranoncePrefix::ROLLABLE_LEN]);
        let coinbase = [job.coinbase_prefix(), given.prefix.as_bytes(), rolled, job.coinbase_suffix()];
        let leaf = sha256d::Hash::hash(&coinbase.concat()).to_byte_array();
        let root = sha256d::Hash::hash(&[leaf, [7; 32]].concat()).to_byte_array();
        let fields = [share.ntime, job.tip().nbits.to_consensus(), share.nonce].map(u32::to_le_bytes);
        let below = job.tip().prev_hash.to_byte_array();
        let header = [&share.version.to_le_bytes()[..], &below, &root, &fields.concat()].concat();
        let header: [u8; 80] = header.try_into().expect("a header has 80 bytes");
        if self.accepted.contains(&header) {
            return Verdict::Rejected(Reject::DuplicateShare);
        }
        let hash = sha256d::Hash::hash(&header).to_byte_array();
        let (earns, is_block) = (given.target.is_met_by(&hash), job.tip().target.is_met_by(&hash));
        if !earns && !is_block {
            return Verdict::Rejected(Reject::DifficultyTooLow);
        }
        self.accepted.insert(header);
        let work = if earns { given.target.to_work() } else { Work::ZERO };
        if is_block { Verdict::Block { work, hash, header } } else { Verdict::Valid { work, hash } }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
            super::run(&bytes);
        }
    }
}

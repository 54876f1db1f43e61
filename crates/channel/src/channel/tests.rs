//! One channel over a table of jobs: targets, duplicates and what is forgotten.

use core::time::Duration;

use adit_share::{CoinbaseSpec, FULL_EXTRANONCE_LEN, Template, TemplateParts, Tip};
use adit_units::{
    ConnectionId, Height, JobId, JobTag, Sats, SequenceNumber, ShareRate, TemplateId, UnixTime, Work,
};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, TxOut};

use super::*;
use crate::duplicates::{FLOOD, SET_LIMIT};
use crate::{ExtranonceSpace, VardiffConfig};

const TIME: u32 = 1_700_000_000;
const EASY: Target = Target::MAX;

fn now() -> Now {
    Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) }
}

/// A job on a tip that nobody will meet the target of.
fn job(id: u32) -> Job {
    let value = Sats::from_sats(5_000_000_000);
    let template = Template::new(TemplateParts {
        id: TemplateId(id.into()),
        tip: Tip::new(BlockHash::all_zeros(), Height(100), CompactTarget::from_consensus(0x0300_0001), TIME),
        version: 0x2000_0000,
        time: TIME,
        coinbase_value: value,
        subsidy: value,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: Vec::new(),
    });
    let spec = CoinbaseSpec {
        payouts: vec![TxOut { value: Amount::from_sat(value.to_sats()), script_pubkey: ScriptBuf::new() }],
        signature: String::new(),
        tag: JobTag { instance: 0, boot: 0, job: JobId(id) },
        extranonce_len: FULL_EXTRANONCE_LEN,
    };
    Job::new(JobId(id), &template.unwrap(), &spec).unwrap()
}

/// A channel over a table of jobs, and the submissions that its miner makes.
struct Bench {
    jobs: JobTable<Job>,
    channel: Channel,
    now: Now,
}

impl Bench {
    /// A channel of that kind whose first job is number 1 of a new tip.
    fn new(kind: ChannelKind, easiest: Target) -> Self {
        Self::with_ceiling(kind, easiest, target(1 << 40))
    }

    fn with_ceiling(kind: ChannelKind, easiest: Target, hardest: Target) -> Self {
        let mut jobs = JobTable::default();
        jobs.announce(JobId(1), job(1));
        let first = jobs.set_tip(JobId(1)).unwrap();
        let config = VardiffConfig { rate: ShareRate::from_shares_per_minute(10), easiest, hardest };
        let vardiff = Vardiff::new(config, Hashrate::default(), Target::MAX).unwrap();
        let extranonce = ExtranonceSpace::new(ConnectionId(1)).next_prefix().unwrap();
        let user = UserIdentity::from_wire(b"alice.rig").unwrap();
        let terms = ChannelTerms { id: ChannelId(2), kind, user, extranonce };
        Self { jobs, channel: Channel::new(terms, vardiff, first, [7; 16]), now: now() }
    }

    /// A minute later, another job of the tip.
    fn refresh(&mut self, id: u32) -> Option<Target> {
        self.now = self.now.after(Duration::from_secs(60));
        let announced = self.channel.handle_job(&self.jobs, self.now.monotonic);
        self.jobs.activate(JobId(id), job(id));
        announced
    }

    /// A minute later, the first job of a new tip.
    fn new_tip(&mut self, id: u32) -> Option<Target> {
        self.now = self.now.after(Duration::from_secs(60));
        let announced = self.channel.handle_new_tip(&self.jobs, self.now.monotonic);
        self.jobs.announce(JobId(id), job(id));
        assert!(self.jobs.set_tip(JobId(id)).is_some());
        announced
    }

    /// Submits a share on an open job.
    fn submit(&mut self, id: u32, nonce: u32) -> Verdict {
        let crate::Lookup::Open { job, activation } = self.jobs.lookup(JobId(id)) else {
            panic!("job {id} is not open");
        };
        let submission = Submission {
            channel_id: ChannelId(2),
            sequence_number: SequenceNumber(0),
            job_id: JobId(id),
            nonce,
            ntime: TIME,
            version: 0x2000_0000,
            extranonce: match self.channel.kind() {
                ChannelKind::Standard => None,
                ChannelKind::Extended => Some(&[0; ExtranoncePrefix::ROLLABLE_LEN]),
            },
            rest: &[],
        };
        self.channel.judge(job, activation, &submission, self.now)
    }

    /// What a share on that job earned.
    fn earned(&mut self, id: u32, nonce: u32) -> u128 {
        match self.submit(id, nonce) {
            Verdict::Valid { work, .. } => work.to_hashes(),
            other => panic!("{other:?}"),
        }
    }
}

fn target(hashes: u128) -> Target {
    Target::from_work(Work::from_hashes(hashes))
}

#[test]
fn a_share_earns_by_the_target_of_its_job_and_not_by_the_latest() {
    let mut bench = Bench::new(ChannelKind::Extended, EASY);
    assert_eq!(bench.channel.update(Hashrate::default(), target(2), &bench.jobs), Ok(Some(target(2))));
    assert_eq!(bench.refresh(2), None);
    assert_eq!(bench.earned(1, 0), 1);
    let earned: Vec<_> = (0..64).map(|nonce| bench.submit(2, nonce)).collect();
    let valid = earned
        .iter()
        .filter(|verdict| matches!(verdict, Verdict::Valid { work, .. } if work.to_hashes() == 2));
    assert!((10..54).contains(&valid.count()), "about half of the hashes meet half of all: {earned:?}");
}

#[test]
fn a_job_from_before_the_channel_is_not_its_job() {
    let mut bench = Bench::new(ChannelKind::Extended, EASY);
    bench.jobs.activate(JobId(2), job(2));
    let second = bench.jobs.active().unwrap().0;
    let Channel { terms, vardiff, .. } = bench.channel;
    let mut bench = Bench { channel: Channel::new(terms, vardiff, second, [7; 16]), ..bench };
    assert_eq!(bench.submit(1, 0), Verdict::Rejected(Reject::InvalidJobId));
    assert_eq!(bench.earned(2, 0), 1);
}

#[test]
fn a_standard_channel_is_judged_by_the_root_that_its_miner_was_given() {
    let mut bench = Bench::new(ChannelKind::Standard, EASY);
    let (activation, job) = bench.jobs.active().unwrap();
    let root = job.merkle_root(&bench.channel.terms.extranonce.to_full()).unwrap();
    assert_eq!(bench.channel.assignment(job, activation).unwrap().merkle_root(), Some(&root));
    assert_eq!(bench.earned(1, 0), 1);
}

#[test]
fn a_share_earns_once_on_every_job_that_is_open() {
    let mut bench = Bench::new(ChannelKind::Extended, EASY);
    assert_eq!(bench.earned(1, 0), 1);
    bench.refresh(2);
    assert_eq!(bench.earned(2, 0), 1, "the same nonce on another job is another share");
    for id in [1, 2] {
        assert_eq!(bench.submit(id, 0), Verdict::Rejected(Reject::DuplicateShare));
    }
    bench.new_tip(3);
    assert_eq!(bench.earned(3, 0), 1);
    assert_eq!(bench.submit(3, 0), Verdict::Rejected(Reject::DuplicateShare));
}

#[test]
fn a_refused_share_does_not_make_shares_harder() {
    let mut bench = Bench::new(ChannelKind::Extended, EASY);
    bench.refresh(2);
    bench.earned(2, 0);
    for _ in 0..1000 {
        assert_eq!(bench.submit(2, 0), Verdict::Rejected(Reject::DuplicateShare));
    }
    assert_eq!(bench.refresh(3), None);
    for nonce in 0..100 {
        bench.earned(3, nonce);
    }
    assert!(bench.new_tip(4).is_some_and(|harder| harder < EASY));
}

#[test]
fn what_a_job_was_made_into_is_forgotten_with_the_job() {
    let mut bench = Bench::new(ChannelKind::Standard, EASY);
    for id in 2..40 {
        bench.refresh(id);
        bench.earned(id, 0);
        bench.earned(id - 1, 1);
        assert!(bench.channel.assignments.len() <= crate::PAST_JOBS + 2);
    }
    bench.new_tip(40);
    assert!(bench.channel.assignments.is_empty());
}

#[test]
fn a_flood_gets_a_new_set_with_the_next_job_and_still_earns_once() {
    let mut bench = Bench::with_ceiling(ChannelKind::Standard, EASY, EASY);
    for nonce in 0..u32::try_from(SET_LIMIT).unwrap() {
        bench.earned(1, nonce);
    }
    assert_eq!(bench.submit(1, u32::MAX), Verdict::Rejected(Reject::TooManyShares));
    bench.refresh(2);
    assert_eq!(bench.submit(1, u32::MAX), Verdict::Rejected(Reject::TooManyShares));
    assert_eq!(bench.submit(1, 5), Verdict::Rejected(Reject::DuplicateShare));
    assert_eq!(bench.earned(2, 0), 1, "the next job has room");
    assert_eq!(bench.submit(2, 0), Verdict::Rejected(Reject::DuplicateShare));
}

#[test]
fn an_ordinary_miner_has_one_set_for_all_jobs_of_a_tip() {
    let mut bench = Bench::new(ChannelKind::Standard, EASY);
    for id in 2..30 {
        bench.earned(id - 1, 0);
        bench.refresh(id);
        assert_eq!(bench.channel.duplicates.sets(), 1);
    }
    for nonce in 1..=u32::try_from(FLOOD).unwrap() {
        bench.earned(29, nonce);
    }
    bench.refresh(30);
    assert_eq!(bench.channel.duplicates.sets(), 2);
    for id in 31..=30 + u32::try_from(crate::PAST_JOBS).unwrap() {
        bench.refresh(id);
    }
    bench.refresh(50);
    assert_eq!(bench.channel.duplicates.sets(), 1, "no job of the first set is open");
    bench.new_tip(51);
    assert_eq!(bench.channel.duplicates.sets(), 1);
}

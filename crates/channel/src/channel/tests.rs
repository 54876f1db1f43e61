//! One channel over a table of jobs: targets, duplicates and what is forgotten.

use core::time::Duration;

use adit_share::{CoinbaseSpec, FULL_EXTRANONCE_LEN, JobParts, Template, TemplateParts, Tip};
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

/// A network target that nobody will meet.
const HARD: u32 = 0x0300_0001;

/// A job on a tip that nobody will meet the target of.
fn job(id: u32) -> Job {
    job_on(HARD, id)
}

/// A job on a tip with that target.
fn job_on(nbits: u32, id: u32) -> Job {
    let value = Sats::from_sats(5_000_000_000);
    let template = Template::new(TemplateParts {
        id: TemplateId(id.into()),
        tip: Tip::new(BlockHash::all_zeros(), Height(100), CompactTarget::from_consensus(nbits), TIME),
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

/// A job that somebody else has made; all are alike but for their numbers.
fn untagged(id: u32) -> Job {
    Job::from_parts(JobParts { id: JobId(id), ..job(1).parts() }).unwrap()
}

/// What channel 2 of the group 1 is.
fn terms(kind: ChannelKind) -> ChannelTerms {
    let user = UserIdentity::from_wire(b"alice.rig").unwrap();
    ChannelTerms { id: ChannelId(2), kind, user, extranonce: prefix(0), group: ChannelId(1) }
}

/// One of the prefixes that a connection hands out.
fn prefix(number: usize) -> ExtranoncePrefix {
    let mut space = ExtranonceSpace::new(ConnectionId(1));
    core::iter::from_fn(|| space.next_prefix()).nth(number).unwrap()
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
        Self::with_first_job(kind, easiest, hardest, job(1))
    }

    fn with_first_job(kind: ChannelKind, easiest: Target, hardest: Target, first: Job) -> Self {
        let (mut jobs, network) = (JobTable::default(), first.tip().target);
        jobs.announce(JobId(1), first);
        let first = jobs.set_tip(JobId(1)).unwrap();
        let config = VardiffConfig {
            rate: ShareRate::from_shares_per_minute(10),
            easiest,
            hardest,
            ..VardiffConfig::default()
        };
        let vardiff = Vardiff::new(config, Hashrate::default(), Target::MAX, network).unwrap();
        let terms = terms(kind);
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
        let job = job(id);
        let announced = self.channel.handle_new_tip(&self.jobs, job.tip().target, self.now.monotonic);
        self.jobs.announce(JobId(id), job);
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

    /// What the first share on that job that meets its target earned.
    fn first_earned(&mut self, id: u32) -> Work {
        let earned = (0..100_000).find_map(|nonce| match self.submit(id, nonce) {
            Verdict::Valid { work, .. } => Some(work),
            Verdict::Block { .. } | Verdict::Rejected(_) => None,
        });
        earned.expect("one of so many hashes meets the target")
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
    let Channel { vardiff, .. } = bench.channel;
    let channel = Channel::new(terms(ChannelKind::Extended), vardiff, second, [7; 16]);
    let mut bench = Bench { channel, ..bench };
    assert_eq!(bench.submit(1, 0), Verdict::Rejected(Reject::InvalidJobId));
    assert_eq!(bench.earned(2, 0), 1);
}

#[test]
fn a_standard_channel_is_judged_by_the_root_that_its_miner_was_given() {
    let mut bench = Bench::new(ChannelKind::Standard, EASY);
    let (activation, job) = bench.jobs.active().unwrap();
    let root = job.merkle_root(prefix(0).to_full().as_bytes()).unwrap();
    assert_eq!(bench.channel.assignment(job, activation).unwrap().merkle_root(), Some(&root));
    assert_eq!(bench.earned(1, 0), 1);
}

/// The extranonce that a share on an open job is hashed with.
fn extranonce_on(bench: &mut Bench, id: u32) -> Vec<u8> {
    let crate::Lookup::Open { job, activation } = bench.jobs.lookup(JobId(id)) else {
        panic!("job {id} is not open");
    };
    let Some(assignment) = bench.channel.assignment(job, activation) else { panic!("job {id} is older") };
    let share = Submission {
        channel_id: ChannelId(2),
        sequence_number: SequenceNumber(0),
        job_id: JobId(id),
        nonce: 0,
        ntime: TIME,
        version: 0,
        extranonce: None,
        rest: &[],
    };
    assignment.extranonce(&share).as_bytes().to_vec()
}

#[test]
fn another_extranonce_holds_for_later_jobs_and_the_old_one_for_those_that_are_out() {
    let mut bench = Bench::new(ChannelKind::Extended, EASY);
    bench.channel.set_extranonce(prefix(1), &bench.jobs, false);
    bench.channel.set_extranonce(prefix(2), &bench.jobs, false);
    assert_eq!(bench.channel.extranonce(), prefix(2), "of two changes between jobs the last counts");
    bench.refresh(2);
    bench.channel.set_extranonce(prefix(3), &bench.jobs, false);
    bench.refresh(3);
    for (id, number) in [(1, 0), (2, 2), (3, 3)] {
        assert_eq!(extranonce_on(&mut bench, id), prefix(number).as_bytes(), "job {id}");
        assert_eq!(bench.earned(id, 0), 1);
    }
    bench.new_tip(4);
    assert_eq!(extranonce_on(&mut bench, 4), prefix(3).as_bytes());
}

#[test]
fn a_job_that_was_given_ahead_keeps_what_held_then() {
    for kind in [ChannelKind::Extended, ChannelKind::Standard] {
        let mut bench = Bench::new(kind, EASY);
        // The channel has a job for the next tip when both change, twice.
        for (number, group) in [(1, 9), (2, 11)] {
            bench.channel.set_extranonce(prefix(number), &bench.jobs, true);
            bench.channel.set_group(ChannelId(group), &bench.jobs, true);
        }
        bench.refresh(3);
        let as_given = |number| match kind {
            ChannelKind::Extended => prefix(number).as_bytes().to_vec(),
            ChannelKind::Standard => prefix(number).to_full().as_bytes().to_vec(),
        };
        assert_eq!(
            extranonce_on(&mut bench, 3),
            as_given(2),
            "a job of this tip is sent with what holds now"
        );
        let tip = job(2);
        bench.channel.handle_announced_tip(&bench.jobs, tip.tip().target, bench.now.monotonic);
        bench.jobs.announce(JobId(2), tip);
        let activation = bench.jobs.set_tip(JobId(2)).unwrap();
        assert_eq!(extranonce_on(&mut bench, 2), as_given(0));
        assert_eq!(bench.channel.group_at(activation), Some(ChannelId(1)));
        assert!([1, 11].into_iter().all(|group| bench.channel.works_for(ChannelId(group))));
        assert!(!bench.channel.works_for(ChannelId(9)));
        bench.refresh(4);
        assert_eq!(extranonce_on(&mut bench, 4), as_given(2));
        assert_eq!(bench.channel.group_at(bench.jobs.active().unwrap().0), Some(ChannelId(11)));
        bench.new_tip(5);
        assert!(
            bench.channel.works_for(ChannelId(1)),
            "nothing of it can earn any more, but it may still be a block"
        );
        assert_eq!(bench.channel.former_group_at(activation), Some(ChannelId(1)));
        assert_eq!(bench.channel.former_group_at(activation.next()), Some(ChannelId(11)));
        bench.new_tip(6);
        assert!(!bench.channel.works_for(ChannelId(1)), "nor that");
    }
}

#[test]
fn a_job_that_was_given_ahead_and_is_not_used_changes_nothing() {
    let mut bench = Bench::new(ChannelKind::Extended, EASY);
    bench.channel.set_extranonce(prefix(1), &bench.jobs, true);
    assert!(bench.channel.works_for(ChannelId(1)));
    bench.new_tip(3);
    assert_eq!(extranonce_on(&mut bench, 3), prefix(1).as_bytes());
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
fn a_miner_whose_own_jobs_were_too_easy_at_first_earned_nothing_until_the_next_tip() {
    let mut bench = Bench::with_first_job(ChannelKind::Extended, EASY, EASY, untagged(1));
    let full = u32::try_from(SET_LIMIT).unwrap();
    for nonce in 0..full {
        bench.earned(1, nonce);
    }
    assert_eq!(bench.submit(1, full), Verdict::Rejected(Reject::TooManyShares));
    bench.channel.handle_job(&bench.jobs, bench.now.monotonic);
    bench.jobs.activate(JobId(2), untagged(2));
    assert_eq!(bench.earned(2, full), 1, "the next job makes room");
    for job in [1, 2] {
        for nonce in (0..=full).step_by(1_000) {
            assert_eq!(
                bench.submit(job, nonce),
                Verdict::Rejected(Reject::DuplicateShare),
                "its hash is known"
            );
        }
    }
    for nonce in 1..full {
        bench.earned(2, full + nonce);
    }
    assert_eq!(bench.submit(2, 2 * full), Verdict::Rejected(Reject::TooManyShares), "for as many more");
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

#[test]
fn after_a_measured_change_shares_earn_exactly_what_was_announced() {
    for new_tip in [false, true] {
        let mut bench = Bench::new(ChannelKind::Extended, EASY);
        bench.refresh(2);
        for nonce in 0..100 {
            assert_eq!(bench.earned(2, nonce), 1);
        }
        let announced = if new_tip { bench.new_tip(3) } else { bench.refresh(3) };
        let announced = announced.expect("ten times as many shares as wanted");
        assert!(announced.to_work() > Work::from_hashes(4), "{announced}");
        assert_eq!(bench.first_earned(3), announced.to_work(), "new tip: {new_tip}");
        if !new_tip {
            assert_eq!(bench.earned(2, 100), 1, "the job before keeps what it was issued with");
        }
    }
}

#[test]
fn sets_of_a_flood_over_three_jobs_still_know_every_share() {
    let mut bench = Bench::with_ceiling(ChannelKind::Standard, EASY, EASY);
    for id in 1..=3 {
        for nonce in 0..=u32::try_from(FLOOD).unwrap() {
            assert_eq!(bench.earned(id, nonce), 1);
        }
        if id < 3 {
            bench.refresh(id + 1);
        }
    }
    assert_eq!(bench.channel.duplicates.sets(), 3);
    assert_eq!(bench.channel.remembered(), 3 * (FLOOD + 1));
    for id in 1..=3 {
        assert_eq!(bench.submit(id, 5), Verdict::Rejected(Reject::DuplicateShare), "job {id}");
    }
}

#[test]
fn a_channel_does_not_fill_up_over_tips() {
    let mut bench = Bench::with_ceiling(ChannelKind::Standard, EASY, EASY);
    let shares = u32::try_from(FLOOD).unwrap() - 1;
    for tip in 1..=2 + u32::try_from(SET_LIMIT / FLOOD).unwrap() {
        for nonce in 0..shares {
            assert_eq!(bench.earned(tip, nonce), 1);
        }
        assert_eq!(bench.channel.remembered(), FLOOD - 1);
        bench.new_tip(tip + 1);
        assert_eq!(bench.channel.remembered(), 0);
    }
}

#[test]
fn a_block_is_evidence_of_speed_like_any_share() {
    let some_blocks = || job_on(0x200f_ffff, 1);
    let mut scratch = Bench::with_first_job(ChannelKind::Standard, EASY, EASY, some_blocks());
    let blocks = (0..2_000).filter(|&nonce| matches!(scratch.submit(1, nonce), Verdict::Block { .. }));
    let blocks: Vec<_> = blocks.take(60).collect();
    assert_eq!(blocks.len(), 60, "every sixteenth hash is a block");
    let mut bench = Bench::with_first_job(ChannelKind::Standard, EASY, target(1 << 40), some_blocks());
    bench.channel.handle_first_job(bench.now.monotonic);
    for nonce in blocks {
        assert!(matches!(bench.submit(1, nonce), Verdict::Block { .. }));
    }
    assert!(bench.refresh(2).is_some_and(|harder| harder < EASY));
}

#[test]
fn a_channel_that_may_remember_no_more_takes_nothing_but_blocks() {
    let mut bench = Bench::with_first_job(ChannelKind::Standard, EASY, EASY, job_on(0x207f_ffff, 1));
    assert!(!matches!(bench.submit(1, 0), Verdict::Rejected(_)));
    bench.channel.allow_remembering(false);
    assert_eq!(bench.submit(1, 0), Verdict::Rejected(Reject::DuplicateShare));
    let (mut blocks, mut refused) = (0, 0);
    for nonce in 1..=12 {
        match bench.submit(1, nonce) {
            Verdict::Block { .. } => {
                blocks += 1;
                assert_eq!(bench.submit(1, nonce), Verdict::Rejected(Reject::DuplicateShare));
            }
            verdict => {
                refused += 1;
                assert_eq!(verdict, Verdict::Rejected(Reject::TooManyShares));
            }
        }
    }
    assert!(blocks > 0 && refused > 0);
    assert_eq!(bench.channel.remembered(), 1 + blocks);
    bench.channel.allow_remembering(true);
    assert!(!matches!(bench.submit(1, 100), Verdict::Rejected(_)));
}

//! The same shares before `channels_sv2`: more than a hundred thousand, good ones and ones spoiled in every way.
//!
//! Both sides hold the same jobs, down to the bytes of the coinbase. Verdict and hash must be the same, and for a block the whole
//! coinbase with its witness. Where the two are meant to differ, the difference is named here and asserted to be exactly that:
//!
//! * A share with a forbidden version *and* a time outside its window: ours looks at the version first, theirs at the time.
//! * A time that the job allows but the network's clock does not yet: ours refuses, theirs has no clock. See
//!   [`a_time_beyond_the_networks_clock_is_refused_here_only`].
//! * A standard job that allows no version rolling: ours refuses rolled versions, theirs allows them on every standard job. See
//!   [`a_fixed_version_binds_standard_shares_here_only`].
//! * A block that does not meet the channel's target: both send it out; theirs credits it in full, ours not at all. The verdict is
//!   the same; that the work is zero is asserted on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_messages::error_code::SubmitSharesError;
use adit_share::{Assignment, Job, Reject, Seen, Submission, Template, Verdict, judge};
use adit_units::{ChannelId, JobId, SequenceNumber, Target, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use channels_sv2::server::extended::ExtendedChannel;
use channels_sv2::server::share_accounting::{ShareValidationError, ShareValidationResult};
use channels_sv2::server::standard::StandardChannel;

use crate::fixture::{self, SIGNATURE, TIME};
use crate::oracle::{self, Oracle, ROLLED_LEN};

/// What is said of a share: the hash and, if it is a block, the coinbase; or the error code.
type Answer = Result<([u8; 32], Option<Vec<u8>>), String>;

/// A network on which one hash in sixteen is a block, and one on which every second is.
const HARDER_THAN_SHARES: u32 = 0x200f_ffff;
const EASIER_THAN_SHARES: u32 = 0x207f_ffff;

/// The oracle's two kinds of channel.
trait Judge: Oracle {
    const EXTENDED: bool;

    /// The parts of the coinbase that the active job announces, if it announces any.
    fn coinbase_parts(&self) -> Option<(Vec<u8>, Vec<u8>)>;

    fn merkle_root(&self) -> Option<[u8; 32]>;

    fn validate(&mut self, share: &Submission<'_>) -> Result<ShareValidationResult, ShareValidationError>;
}

impl Judge for ExtendedChannel {
    const EXTENDED: bool = true;

    fn coinbase_parts(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let job = self.get_active_job()?;
        Some((job.get_coinbase_tx_prefix_without_bip141(), job.get_coinbase_tx_suffix_without_bip141()))
    }

    fn merkle_root(&self) -> Option<[u8; 32]> {
        None
    }

    fn validate(&mut self, share: &Submission<'_>) -> Result<ShareValidationResult, ShareValidationError> {
        self.validate_share(oracle::extended_message(share))
    }
}

impl Judge for StandardChannel {
    const EXTENDED: bool = false;

    fn coinbase_parts(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        None
    }

    fn merkle_root(&self) -> Option<[u8; 32]> {
        Some(self.get_active_job()?.get_merkle_root().to_array())
    }

    fn validate(&mut self, share: &Submission<'_>) -> Result<ShareValidationResult, ShareValidationError> {
        self.validate_share(oracle::standard_message(share))
    }
}

/// A job of ours, as a channel's job table would hold it.
enum Known {
    Live { job: Arc<Job>, assignment: Assignment, template: Arc<Template> },
    Stale,
}

/// One channel on both sides.
struct Pair<C> {
    theirs: C,
    ours: BTreeMap<JobId, Known>,
    seen: Seen,
    now: UnixTime,
}

impl<C: Judge> Pair<C> {
    /// A channel with three jobs: the first went stale with its tip, the second was replaced on the same tip, the third is being
    /// worked on. The last two were issued with different targets.
    fn new(theirs: C, nbits: u32, targets: [Target; 2], version_rolling_allowed: bool) -> Self {
        let now = UnixTime::from_secs(TIME + 7200);
        let mut pair = Self { theirs, ours: BTreeMap::new(), seen: Seen::new([1; 16], 1 << 20), now };
        let (old, new) = (fixture::tip(900_000, nbits), fixture::tip(900_001, nbits));
        let templates =
            [(1, old, 3), (2, new, 4), (3, new, 9)].map(|(id, tip, size)| fixture::template(id, tip, size));
        pair.theirs.set_tip(&templates[0]);
        pair.add_job(JobId(1), &templates[0], targets[0], version_rolling_allowed);
        pair.theirs.set_tip(&templates[1]);
        pair.ours.insert(JobId(1), Known::Stale);
        pair.add_job(JobId(2), &templates[1], targets[0], version_rolling_allowed);
        pair.add_job(JobId(3), &templates[2], targets[1], version_rolling_allowed);
        pair
    }

    fn add_job(
        &mut self,
        id: JobId,
        template: &Arc<Template>,
        target: Target,
        version_rolling_allowed: bool,
    ) {
        let spec = fixture::spec(template, id, 2);
        self.theirs.set_target(target);
        assert_eq!(self.theirs.add_job(template, &spec), id);
        let job = Job::new(id, template, &spec).unwrap().with_version_rolling(version_rolling_allowed);
        let prefix = self.theirs.extranonce_prefix();
        let assignment = if C::EXTENDED {
            Assignment::extended(&job, target, &prefix).unwrap()
        } else {
            Assignment::standard(&job, target, &prefix).unwrap()
        };
        if let Some((prefix, suffix)) = self.theirs.coinbase_parts() {
            assert_eq!((job.coinbase_prefix(), job.coinbase_suffix()), (&prefix[..], &suffix[..]));
        }
        assert_eq!(assignment.merkle_root().copied(), self.theirs.merkle_root());
        let (job, template) = (Arc::new(job), Arc::clone(template));
        self.ours.insert(id, Known::Live { job, assignment, template });
    }

    fn ours(&mut self, share: &Submission<'_>) -> Answer {
        let (job, assignment, template) = match self.ours.get(&share.job_id) {
            None => return Err(code(Reject::InvalidJobId)),
            Some(Known::Stale) => return Err(code(Reject::StaleShare)),
            Some(Known::Live { job, assignment, template }) => (job, assignment, template),
        };
        let _ = self.seen.make_room();
        match judge(job, assignment, &mut self.seen, share, self.now) {
            Verdict::Rejected(reject) => Err(code(reject)),
            Verdict::Valid { work, hash } => {
                assert_eq!(work, assignment.target().to_work());
                Ok((hash, None))
            }
            Verdict::Block { work, hash, header } => {
                let earned = assignment.target().is_met_by(&hash);
                assert_eq!(work, if earned { assignment.target().to_work() } else { Work::ZERO });
                let block = job.block(template, header, assignment.extranonce(share).as_bytes());
                assert_eq!(block.check(), Ok(()));
                assert_eq!(block.hash.to_byte_array(), hash);
                Ok((hash, Some(block.coinbase().to_vec())))
            }
        }
    }

    fn theirs(&mut self, share: &Submission<'_>) -> Answer {
        match self.theirs.validate(share) {
            Ok(ShareValidationResult::Valid(hash)) => Ok((hash.to_byte_array(), None)),
            Ok(ShareValidationResult::BlockFound(hash, _, coinbase)) => {
                Ok((hash.to_byte_array(), Some(coinbase)))
            }
            Err(
                ShareValidationError::Invalid(code)
                | ShareValidationError::Stale(code)
                | ShareValidationError::InvalidJobId(code)
                | ShareValidationError::DoesNotMeetTarget(code)
                | ShareValidationError::VersionRollingNotAllowed(code)
                | ShareValidationError::DuplicateShare(code)
                | ShareValidationError::BadExtranonceSize(code),
            ) => Err(code.to_owned()),
            Err(
                error @ (ShareValidationError::InvalidCoinbase
                | ShareValidationError::NoChainTip
                | ShareValidationError::SeenSharesBudgetExhausted),
            ) => panic!("the oracle is not set up for this share: {error:?}"),
        }
    }

    /// Puts so many random shares before both and counts the answers.
    fn compare(&mut self, shares: usize, seed: u64) -> BTreeMap<String, usize> {
        let (mut random, mut history, mut counts) = (Random(seed), Vec::new(), BTreeMap::new());
        for number in 0..shares {
            let share: Share = match random.below(20) {
                0 if number > 0 => history[random.below(number)],
                _ => Share::random(&mut random, C::EXTENDED),
            };
            history.push(share);
            let submission = share.submission();
            let (ours, theirs) = (self.ours(&submission), self.theirs(&submission));
            let kind = match &ours {
                Ok((_, coinbase)) => if coinbase.is_some() { "block" } else { "valid" }.to_owned(),
                Err(code) => code.clone(),
            };
            *counts.entry(kind).or_default() += 1;
            if ours != theirs {
                let (ours, theirs) = (ours.unwrap_err(), theirs.unwrap_err());
                assert!(share.is_untimely(), "{share:?}: ours {ours}, theirs {theirs}");
                assert_eq!(theirs, code(Reject::InvalidNtime), "{share:?}");
                let version_codes = [Reject::InvalidNonRollableVersionBit, Reject::VersionRollingNotAllowed];
                assert!(version_codes.map(code).contains(&ours), "{share:?}: ours {ours}, theirs {theirs}");
            }
        }
        counts
    }
}

fn code(reject: Reject) -> String {
    SubmitSharesError::from(reject).as_str().to_owned()
}

/// A small generator of random numbers (SplitMix64), so that a run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn number(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap()
    }

    fn pick(&mut self, from: &[u32]) -> u32 {
        from[self.below(from.len())]
    }
}

/// A share and the room for its extranonce.
#[derive(Clone, Copy, Debug)]
struct Share {
    job_id: u32,
    nonce: u32,
    ntime: u32,
    version: u32,
    extranonce: [u8; 32],
    extranonce_len: Option<usize>,
}

impl Share {
    /// A good share more often than not; each thing about it is spoiled once in a while, so several at once are too.
    fn random(random: &mut Random, extended: bool) -> Self {
        let spoil = |random: &mut Random| random.below(16) == 0;
        let job_id = match spoil(random) {
            true => random.pick(&[0, 1, 4, u32::MAX]),
            false => random.pick(&[2, 3]),
        };
        let ntime = match spoil(random) {
            true => random.pick(&[0, TIME - 3600, TIME - 1, TIME, TIME + 7200, TIME + 7201, u32::MAX]),
            false => TIME + random.number() % 7201,
        };
        let version = match random.below(32) {
            0 => random.number(),
            1 => 0x2000_0000 ^ 1 << random.below(32),
            2..16 => 0x2000_0000 ^ random.number() & 0x1fff_ffe0,
            _ => 0x2000_0000,
        };
        let len = match spoil(random) {
            true => random.below(33),
            false => ROLLED_LEN.into(),
        };
        let mut extranonce = [0; 32];
        extranonce.fill_with(|| random.number().to_le_bytes()[0]);
        Self {
            job_id,
            nonce: random.number(),
            ntime,
            version,
            extranonce,
            extranonce_len: extended.then_some(len),
        }
    }

    fn submission(&self) -> Submission<'_> {
        Submission {
            channel_id: ChannelId(1),
            sequence_number: SequenceNumber(0),
            job_id: JobId(self.job_id),
            nonce: self.nonce,
            ntime: self.ntime,
            version: self.version,
            extranonce: self.extranonce_len.map(|len| &self.extranonce[..len]),
            rest: &[],
        }
    }

    fn is_untimely(&self) -> bool {
        !(TIME..=TIME + 7200).contains(&self.ntime)
    }
}

/// Every second and every fourth hash is a share.
fn easy() -> [Target; 2] {
    [2, 4].map(|hashes| Target::from_work(Work::from_hashes(hashes)))
}

/// One hash in 64 and one in 32 is a share.
fn hard() -> [Target; 2] {
    [64, 32].map(|hashes| Target::from_work(Work::from_hashes(hashes)))
}

/// That each of these answers came up often enough to mean something.
fn assert_all_came_up(counts: &BTreeMap<String, usize>, answers: &[&str]) {
    for answer in answers {
        let count = counts.get(*answer).copied().unwrap_or_default();
        assert!(count >= 100, "only {count} times {answer}: {counts:?}");
    }
    assert_eq!(counts.len(), answers.len(), "{counts:?}");
}

const COMMON: [&str; 7] = [
    "valid",
    "block",
    "stale-share",
    "invalid-job-id",
    "invalid-share",
    "duplicate-share",
    "difficulty-too-low",
];

#[test]
fn extended_shares_with_version_rolling() {
    let theirs = oracle::extended_channel(SIGNATURE, true);
    let counts = Pair::new(theirs, HARDER_THAN_SHARES, easy(), true).compare(40_000, 1);
    assert_all_came_up(
        &counts,
        &[&COMMON[..], &["bad-extranonce-size", "invalid-non-rollable-version-bit"]].concat(),
    );
}

#[test]
fn extended_shares_without_version_rolling() {
    let theirs = oracle::extended_channel(SIGNATURE, false);
    let counts = Pair::new(theirs, HARDER_THAN_SHARES, easy(), false).compare(40_000, 2);
    assert_all_came_up(
        &counts,
        &[&COMMON[..], &["bad-extranonce-size", "version-rolling-not-allowed"]].concat(),
    );
}

#[test]
fn extended_shares_where_blocks_are_easier_than_shares() {
    let theirs = oracle::extended_channel(SIGNATURE, true);
    let counts = Pair::new(theirs, EASIER_THAN_SHARES, hard(), true).compare(20_000, 3);
    assert_eq!(counts.get("valid"), None, "what meets the harder target of shares is a block");
    assert!(counts["block"] > 5000, "{counts:?}");
}

#[test]
fn standard_shares() {
    let theirs = oracle::standard_channel(SIGNATURE);
    let counts = Pair::new(theirs, HARDER_THAN_SHARES, easy(), true).compare(40_000, 4);
    assert_all_came_up(&counts, &[&COMMON[..], &["invalid-non-rollable-version-bit"]].concat());
}

#[test]
fn standard_shares_where_blocks_are_easier_than_shares() {
    let theirs = oracle::standard_channel(SIGNATURE);
    let counts = Pair::new(theirs, EASIER_THAN_SHARES, hard(), true).compare(20_000, 5);
    assert_eq!(counts.get("valid"), None, "what meets the harder target of shares is a block");
    assert!(counts["block"] > 5000, "{counts:?}");
}

/// A share that nothing is wrong with, on the active job.
fn good_share(nonce: u32) -> Share {
    let extranonce_len = None;
    Share { job_id: 3, nonce, ntime: TIME, version: 0x2000_0000, extranonce: [7; 32], extranonce_len }
}

#[test]
fn a_time_beyond_the_networks_clock_is_refused_here_only() {
    let theirs = oracle::standard_channel(SIGNATURE);
    let mut pair = Pair::new(theirs, HARDER_THAN_SHARES, [Target::MAX; 2], true);
    pair.now = UnixTime::from_secs(TIME);
    let at = |ntime| Share { ntime, ..good_share(1) };
    let (last, next) = (at(TIME + 6600), at(TIME + 6601));
    assert_eq!(pair.ours(&last.submission()), pair.theirs(&last.submission()));
    assert_eq!(pair.ours(&next.submission()), Err(code(Reject::InvalidNtime)));
    assert!(pair.theirs(&next.submission()).is_ok());
}

#[test]
fn a_fixed_version_binds_standard_shares_here_only() {
    let theirs = oracle::standard_channel(SIGNATURE);
    let mut pair = Pair::new(theirs, HARDER_THAN_SHARES, [Target::MAX; 2], false);
    let good = good_share(1);
    assert_eq!(pair.ours(&good.submission()), pair.theirs(&good.submission()));
    let rolled = Share { version: 0x2000_0020, ..good };
    assert_eq!(pair.ours(&rolled.submission()), Err(code(Reject::VersionRollingNotAllowed)));
    assert!(pair.theirs(&rolled.submission()).is_ok());
}

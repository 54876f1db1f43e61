//! Tests of the judge that look at what it hashes and at the edges of its checks.

use adit_units::{ChannelId, JobId, SequenceNumber, Target};

use super::*;
use crate::fixture::{self, TIME};
use crate::sha256::count;

/// A network so hard that no share is a block, and one so easy that every second hash is.
const HARD: u32 = 0x1702_0000;
const EASY: u32 = 0x207f_ffff;

/// A channel that works on one job.
struct Channel {
    job: Job,
    assignment: Assignment,
    seen: Seen,
    now: UnixTime,
}

impl Channel {
    fn new(nbits: u32, make: impl FnOnce(&Job) -> Assignment) -> Self {
        let template = fixture::template(1, fixture::tip(900_000, nbits), 5);
        let job = Job::new(JobId(7), &template, &fixture::spec(&template, JobId(7), 2)).unwrap();
        let assignment = make(&job);
        Self { job, assignment, seen: Seen::new([9; 16], 1000), now: UnixTime::from_secs(TIME) }
    }

    fn extended(nbits: u32, target: Target) -> Self {
        Self::new(nbits, |job| Assignment::extended(job, target, &[1; 6]).unwrap())
    }

    fn standard(nbits: u32, target: Target) -> Self {
        Self::new(nbits, |job| Assignment::standard(job, target, &[1; 20]).unwrap())
    }

    /// Judges, and gives the number of compressions that took.
    fn judge(&mut self, share: &Submission<'_>) -> (usize, Verdict) {
        let _ = self.seen.make_room();
        count::during(|| judge(&self.job, &self.assignment, &mut self.seen, share, self.now))
    }

    fn verdict(&mut self, share: &Submission<'_>) -> Verdict {
        self.judge(share).1
    }

    /// The first share from `share` on, by its nonce, of which `wanted` holds.
    fn search<'a>(&self, share: Submission<'a>, wanted: impl Fn(&Verdict) -> bool) -> Submission<'a> {
        let found = (0..10_000).map(|nonce| Submission { nonce, ..share }).find(|share| {
            let mut seen = Seen::new([9; 16], 1000);
            seen.make_room().unwrap();
            wanted(&judge(&self.job, &self.assignment, &mut seen, share, self.now))
        });
        found.expect("one of so many hashes is as wanted")
    }
}

/// A good extended share.
const EXTENDED: Submission<'static> = Submission {
    channel_id: ChannelId(1),
    sequence_number: SequenceNumber(2),
    job_id: JobId(7),
    nonce: 4,
    ntime: TIME,
    version: 0x2000_0000,
    extranonce: Some(&[5; 14]),
    rest: &[],
};

/// A good standard share.
const STANDARD: Submission<'static> = Submission { extranonce: None, ..EXTENDED };

fn is_valid(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Valid { .. })
}

fn rejected(reject: Reject) -> (usize, Verdict) {
    (0, Verdict::Rejected(reject))
}

#[test]
fn a_share_is_hashed_in_no_more_compressions_than_it_must() {
    let mut channel = Channel::extended(HARD, Target::MAX);
    let (prefix, suffix) = (channel.job.coinbase_prefix().len(), channel.job.coinbase_suffix().len());
    assert_eq!((prefix, channel.job.merkle_path().len()), (69, 3));
    let coinbase = (prefix + 20 + suffix + 1 + 8).div_ceil(64) - 1;
    let (count, verdict) = channel.judge(&EXTENDED);
    assert!(is_valid(&verdict));
    assert_eq!(count, (coinbase + 1) + 3 * (2 + 1) + (2 + 1));

    let mut channel = Channel::standard(HARD, Target::MAX);
    let (count, verdict) = channel.judge(&STANDARD);
    assert!(is_valid(&verdict));
    assert_eq!(count, 2 + 1);
}

#[test]
fn no_cheap_check_fails_after_hashing() {
    let mut channel = Channel::extended(HARD, Target::MAX);
    assert!(is_valid(&channel.verdict(&EXTENDED)));
    let bad = |share: Submission<'static>, reject| (share, rejected(reject));
    for (share, answer) in [
        bad(Submission { extranonce: None, ..EXTENDED }, Reject::BadExtranonceSize),
        bad(Submission { extranonce: Some(&[]), ..EXTENDED }, Reject::BadExtranonceSize),
        bad(Submission { extranonce: Some(&[5; 13]), ..EXTENDED }, Reject::BadExtranonceSize),
        bad(Submission { extranonce: Some(&[5; 15]), ..EXTENDED }, Reject::BadExtranonceSize),
        bad(Submission { version: 0x2000_0001, ..EXTENDED }, Reject::InvalidNonRollableVersionBit),
        bad(Submission { ntime: TIME - 1, ..EXTENDED }, Reject::InvalidNtime),
        bad(EXTENDED, Reject::DuplicateShare),
    ] {
        assert_eq!(channel.judge(&share), answer, "{share:?}");
    }
    channel.job = channel.job.with_version_rolling(false);
    let rolled = Submission { version: 0x2000_0020, ..EXTENDED };
    assert_eq!(channel.judge(&rolled), rejected(Reject::VersionRollingNotAllowed));

    let mut channel = Channel::standard(HARD, Target::MAX);
    assert_eq!(channel.judge(&EXTENDED), rejected(Reject::BadExtranonceSize));
    assert!(is_valid(&channel.verdict(&STANDARD)));
    assert_eq!(channel.judge(&STANDARD), rejected(Reject::DuplicateShare));
}

#[test]
fn of_several_faults_the_first_in_order_decides() {
    let mut channel = Channel::extended(HARD, Target::MAX);
    let mut share = Submission { extranonce: Some(&[5; 2]), version: 1, ntime: 0, ..EXTENDED };
    assert_eq!(channel.judge(&share), rejected(Reject::BadExtranonceSize));
    share.extranonce = EXTENDED.extranonce;
    assert_eq!(channel.judge(&share), rejected(Reject::InvalidNonRollableVersionBit));
    share.version = EXTENDED.version;
    assert_eq!(channel.judge(&share), rejected(Reject::InvalidNtime));
    share.ntime = EXTENDED.ntime;
    assert!(is_valid(&channel.verdict(&share)));
    assert_eq!(channel.judge(&share), rejected(Reject::DuplicateShare));
}

#[test]
fn the_time_must_be_within_the_window_of_the_job_and_of_the_network() {
    for (ntime, now, good) in [
        (TIME - 1, TIME, false),
        (TIME, TIME, true),
        (TIME + 6600, TIME, true),
        (TIME + 6601, TIME, false), // a node could find it too far in the future
        (TIME + 6601, TIME + 1, true),
        (TIME + 7200, TIME + 600, true),
        (TIME + 7200, TIME + 599, false),
        (TIME + 7201, TIME + 99_999, false),
        (TIME, TIME - 6600, true),
        (TIME, TIME - 6601, false), // the template's source is ahead of this clock
        (0, TIME, false),
        (u32::MAX, u32::MAX, false),
    ] {
        let mut channel = Channel::extended(HARD, Target::MAX);
        channel.now = UnixTime::from_secs(now);
        let verdict = channel.verdict(&Submission { ntime, ..EXTENDED });
        let expected = if good { "valid" } else { "refused" };
        assert_eq!(is_valid(&verdict), good, "ntime {ntime} at {now} must be {expected}, is {verdict:?}");
    }
}

#[test]
fn only_the_free_bits_of_the_version_may_change_and_only_if_allowed() {
    for bit in 0..32 {
        let share = Submission { version: 0x2000_0000 ^ 1 << bit, ..EXTENDED };
        let mut channel = Channel::extended(HARD, Target::MAX);
        let free = (5..29).contains(&bit);
        let verdict = channel.verdict(&share);
        assert_eq!(is_valid(&verdict), free, "bit {bit}");
        if !free {
            assert_eq!(verdict, Verdict::Rejected(Reject::InvalidNonRollableVersionBit));
        }
        channel.job = channel.job.with_version_rolling(false);
        assert_eq!(channel.verdict(&share), Verdict::Rejected(Reject::VersionRollingNotAllowed));
    }
}

#[test]
fn a_share_that_differs_anywhere_is_no_duplicate() {
    let mut channel = Channel::extended(HARD, Target::MAX);
    for share in [
        EXTENDED,
        Submission { nonce: 5, ..EXTENDED },
        Submission { ntime: TIME + 1, ..EXTENDED },
        Submission { version: 0x2000_0020, ..EXTENDED },
        Submission { extranonce: Some(&[5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6]), ..EXTENDED },
    ] {
        assert!(is_valid(&channel.verdict(&share)), "{share:?}");
        let again = Submission { sequence_number: SequenceNumber(99), rest: &[1], ..share };
        assert_eq!(channel.judge(&again), rejected(Reject::DuplicateShare));
    }
    let Channel { job, assignment, seen, now } = &mut channel;
    let other_job = Job::from_parts(crate::JobParts { id: JobId(8), ..job.parts() }).unwrap();
    seen.make_room().unwrap();
    let share = Submission { job_id: JobId(8), ..EXTENDED };
    assert!(is_valid(&judge(&other_job, assignment, seen, &share, *now)));
}

#[test]
fn a_refused_share_is_not_remembered() {
    let hardest = Target::from_le_bytes([0; 32]);
    let mut channel = Channel::standard(HARD, hardest);
    for _ in 0..3 {
        assert_eq!(channel.judge(&STANDARD), (3, Verdict::Rejected(Reject::DifficultyTooLow)));
    }
    assert!(channel.seen.is_empty());
}

#[test]
fn a_share_earns_the_work_of_its_target() {
    let target = Target::from_work(Work::from_hashes(16));
    let mut channel = Channel::standard(HARD, target);
    let share = channel.search(STANDARD, is_valid);
    let Verdict::Valid { work, hash } = channel.verdict(&share) else { panic!("it was valid before") };
    assert_eq!(work, Work::from_hashes(16));
    assert!(target.is_met_by(&hash));
}

#[test]
fn a_block_below_the_channels_target_goes_out_but_earns_nothing() {
    let target = Target::from_work(Work::from_hashes(1000));
    let mut channel = Channel::standard(EASY, target);
    let unpaid = |verdict: &Verdict| matches!(verdict, Verdict::Block { work: Work::ZERO, .. });
    let share = channel.search(STANDARD, unpaid);
    let Verdict::Block { hash, header, .. } = channel.verdict(&share) else {
        panic!("it was a block before")
    };
    assert!(!target.is_met_by(&hash) && channel.job.tip().target.is_met_by(&hash));
    assert_eq!(header[76..], share.nonce.to_le_bytes());
    assert_eq!(channel.judge(&share), rejected(Reject::DuplicateShare));

    let paid =
        |verdict: &Verdict| matches!(verdict, Verdict::Block { work, .. } if *work == target.to_work());
    let share = channel.search(STANDARD, paid);
    assert!(paid(&channel.verdict(&share)));
}

#[test]
fn a_hash_exactly_equal_to_the_target_meets_it() {
    let mut channel = Channel::standard(HARD, Target::MAX);
    let Verdict::Valid { hash, .. } = channel.verdict(&STANDARD) else { panic!("any hash is a share") };
    let mut below = hash;
    let lowest = below.iter().position(|&byte| byte != 0).unwrap();
    below[..lowest].fill(0xff);
    below[lowest] -= 1;
    let exact = Target::from_le_bytes(hash);
    let mut channel = Channel::standard(HARD, exact);
    assert_eq!(channel.verdict(&STANDARD), Verdict::Valid { work: exact.to_work(), hash });
    let mut channel = Channel::standard(HARD, Target::from_le_bytes(below));
    assert_eq!(channel.verdict(&STANDARD), Verdict::Rejected(Reject::DifficultyTooLow));
}

#[test]
fn a_block_that_is_replayed_against_a_full_set_is_no_new_block() {
    let mut channel = Channel::standard(EASY, Target::MAX);
    channel.seen = Seen::new([9; 16], 1);
    let plain = channel.search(STANDARD, is_valid);
    assert!(is_valid(&channel.verdict(&plain)));
    let mut from = 0;
    for _ in 0..crate::BLOCK_ROOM {
        let share = Submission { nonce: from, ..STANDARD };
        let block = (from..from + 1000).map(|nonce| Submission { nonce, ..share }).find(|share| {
            matches!(channel.verdict(share), Verdict::Block { work, .. } if work == Work::from_hashes(1))
        });
        let block = block.expect("every second hash is a block, and is paid even beyond the limit");
        for _ in 0..3 {
            assert_eq!(channel.judge(&block), rejected(Reject::DuplicateShare));
        }
        from = block.nonce + 1;
    }
    for nonce in from..from + 20 {
        let verdict = channel.verdict(&Submission { nonce, ..STANDARD });
        assert_eq!(verdict, Verdict::Rejected(Reject::TooManyShares), "no room is left even for blocks");
    }
    assert_eq!(channel.seen.len(), 1 + crate::BLOCK_ROOM);
}

#[test]
fn a_full_set_refuses_shares_but_not_a_block() {
    let mut channel = Channel::standard(HARD, Target::MAX);
    channel.seen = Seen::new([9; 16], 1);
    assert!(is_valid(&channel.verdict(&STANDARD)));
    let next = Submission { nonce: 5, ..STANDARD };
    assert_eq!(channel.verdict(&next), Verdict::Rejected(Reject::TooManyShares));
    assert_eq!(channel.judge(&STANDARD), rejected(Reject::DuplicateShare));
}

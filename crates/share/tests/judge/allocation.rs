//! Judging takes no memory, whatever the verdict.

use adit_share::{Assignment, Job, Reject, Seen, Submission, Verdict, judge};
use adit_units::{JobId, Target, UnixTime, Work};
use allocation_counter::{AllocationInfo, measure};

use crate::fixture::{self, TIME};

/// The payload of an extended share with an extranonce of this length.
fn payload(nonce: u32, ntime: u32, version: u32, extranonce_len: u8) -> Vec<u8> {
    let fields = [1, nonce, 7, nonce, ntime, version];
    let mut payload: Vec<u8> = fields.into_iter().flat_map(u32::to_le_bytes).collect();
    payload.push(extranonce_len);
    payload.extend((0..extranonce_len).map(|_| 5));
    payload
}

/// Reads and judges a share, and gives what that took of memory.
fn judge_measured(
    job: &Job,
    assignment: &Assignment,
    seen: &mut Seen,
    payload: &[u8],
) -> (AllocationInfo, Verdict) {
    let mut verdict = None;
    let taken = measure(|| {
        let share = match assignment.merkle_root() {
            None => Submission::parse_extended(payload),
            Some(_) => Submission::parse_standard(payload),
        };
        verdict = share.ok().map(|share| judge(job, assignment, seen, &share, UnixTime::from_secs(TIME)));
    });
    (taken, verdict.unwrap())
}

/// What kind of verdict it is, and which reject.
fn kind(verdict: &Verdict) -> Result<&'static str, Reject> {
    match verdict {
        Verdict::Valid { .. } => Ok("valid"),
        Verdict::Block { .. } => Ok("block"),
        Verdict::Rejected(reject) => Err(*reject),
    }
}

#[test]
fn no_verdict_takes_memory() {
    // Half of all hashes are blocks here; of the others, half meet the channel's target.
    let template = fixture::template(1, fixture::tip(900_000, 0x207f_ffff), 100);
    let job = Job::new(JobId(7), &template, &fixture::spec(&template, JobId(7), 100)).unwrap();
    let fixed = job.clone().with_version_rolling(false);
    let three_quarters = Target::from_le_bytes([0xbf; 32]);
    let extended = Assignment::extended(&job, three_quarters, &[1; 6]).unwrap();
    let standard = Assignment::standard(&job, three_quarters, &[1; 20]).unwrap();
    let mut verdicts = Vec::new();
    let mut shares = |job: &Job, assignment: &Assignment, limit: usize, payloads: &[Vec<u8>]| {
        let mut seen = Seen::new([3; 16], limit);
        for payload in payloads {
            let _ = seen.make_room();
            let (taken, verdict) = judge_measured(job, assignment, &mut seen, payload);
            assert_eq!(taken, AllocationInfo::default(), "{verdict:?}");
            verdicts.push(kind(&verdict));
        }
    };
    let good: Vec<_> = (0..300).map(|nonce| payload(nonce, TIME, 0x2000_0000, 14)).collect();
    shares(&job, &extended, 1000, &good);
    shares(&job, &standard, 1000, &good);
    shares(&job, &extended, 1000, &[&good[..], &good].concat()); // duplicates
    shares(&job, &extended, 2, &good); // more than may be remembered
    shares(&job, &extended, 10, &[payload(1, TIME, 0x2000_0000, 13)]);
    shares(&job, &extended, 10, &[payload(1, TIME - 1, 0x2000_0000, 14)]);
    shares(&job, &extended, 10, &[payload(1, TIME, 0x4000_0000, 14)]);
    shares(&fixed, &extended, 10, &[payload(1, TIME, 0x2000_0020, 14)]);

    verdicts.sort();
    verdicts.dedup();
    let all = [
        Ok("block"),
        Ok("valid"),
        Err(Reject::BadExtranonceSize),
        Err(Reject::VersionRollingNotAllowed),
        Err(Reject::InvalidNonRollableVersionBit),
        Err(Reject::InvalidNtime),
        Err(Reject::DuplicateShare),
        Err(Reject::DifficultyTooLow),
        Err(Reject::TooManyShares),
    ];
    assert_eq!(verdicts, all, "each kind of verdict that the judge gives must be among those measured");
}

#[test]
fn the_counter_counts() {
    let taken = measure(|| drop(std::hint::black_box(vec![Work::ZERO; 3])));
    assert_eq!(taken.count_total, 1);
}

//! Shares judged two at a time, against the same shares judged one by one.

use adit_share::{
    Assignment, Checked, Job, Reject, Seen, Submission, Unhashed, Verdict, check, judge, judge_hashed,
};
use adit_units::{ChannelId, JobId, SequenceNumber, Target, UnixTime};
use proptest::prelude::*;

use crate::fixture::{self, TIME};

/// Half of all hashes are blocks here, and half of the others meet the channel's target.
const EASY: u32 = 0x207f_ffff;

/// A channel with one job of its own.
#[derive(Clone)]
struct Channel {
    job: Job,
    assignment: Assignment,
    seen: Seen,
}

/// Channels whose jobs differ in the length of the coinbase, of the path and of the extranonce's first part.
fn channels() -> [Channel; 4] {
    let shapes = [(true, 0, 1), (true, 5, 2), (true, 70, 30), (false, 3, 1)];
    shapes.map(|(extended, transactions, payouts)| {
        let template = fixture::template(1, fixture::tip(900_000, EASY), transactions);
        let job = Job::new(JobId(7), &template, &fixture::spec(&template, JobId(7), payouts)).unwrap();
        let target = Target::from_le_bytes([0xbf; 32]);
        let assignment = if extended {
            Assignment::extended(&job, target, &[1; 6])
        } else {
            Assignment::standard(&job, target, &[1; 20])
        };
        Channel { job, assignment: assignment.unwrap(), seen: Seen::new([3; 16], 6) }
    })
}

/// A share: its channel, and what little differs between those of one channel.
type Share = (usize, u32, u8, bool);

fn submission((channel, nonce, _, late): Share, rolled: &[u8]) -> Submission<'_> {
    Submission {
        channel_id: ChannelId(1),
        sequence_number: SequenceNumber(2),
        job_id: JobId(7),
        nonce,
        ntime: if late { TIME + 7201 } else { TIME },
        version: 0x2000_0000,
        extranonce: (channel < 3).then_some(rolled),
        rest: &[],
    }
}

/// Every third length of extranonce is wrong.
fn rolled((_, _, extra, _): Share) -> Vec<u8> {
    vec![extra; if extra == 2 { 13 } else { 14 }]
}

fn one_by_one(channels: &mut [Channel; 4], shares: &[Share]) -> Vec<Verdict> {
    let judge = |share: &Share| {
        let (Channel { job, assignment, seen }, rolled) = (&mut channels[share.0], rolled(*share));
        let _at_limit = seen.make_room();
        judge(job, assignment, seen, &submission(*share, &rolled), UnixTime::from_secs(TIME))
    };
    shares.iter().map(judge).collect()
}

fn checked(channels: &[Channel; 4], share: Share) -> Result<Checked, Reject> {
    let (Channel { job, assignment, seen }, rolled) = (&channels[share.0], rolled(share));
    let share = Unhashed { job, assignment, submission: &submission(share, &rolled) };
    check(share, seen, UnixTime::from_secs(TIME))
}

/// Hashes two shares at once.
fn hashes(channels: &[Channel; 4], shares: [Share; 2]) -> [[u8; 32]; 2] {
    let rolled = shares.map(rolled);
    let submissions = [submission(shares[0], &rolled[0]), submission(shares[1], &rolled[1])];
    Unhashed::hash_two([0, 1].map(|place| {
        let Channel { job, assignment, .. } = &channels[shares[place].0];
        Unhashed { job, assignment, submission: &submissions[place] }
    }))
}

fn hashed(channels: &mut [Channel; 4], share: Share, hash: [u8; 32]) -> Verdict {
    let (Channel { job, assignment, seen }, rolled) = (&mut channels[share.0], rolled(share));
    let share = Unhashed { job, assignment, submission: &submission(share, &rolled) };
    assert_eq!(share.hash(), hash);
    let _at_limit = seen.make_room();
    judge_hashed(share, seen, hash, UnixTime::from_secs(TIME))
}

fn in_pairs(channels: &mut [Channel; 4], shares: &[Share]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for pair in shares.chunks(2) {
        let checked: Vec<_> = pair.iter().map(|share| checked(channels, *share)).collect();
        match (pair, &checked[..]) {
            (&[first, second], [Ok(one), Ok(other)]) if first.0 != second.0 || one != other => {
                let [hash, other_hash] = hashes(channels, [first, second]);
                verdicts.push(hashed(channels, first, hash));
                verdicts.push(hashed(channels, second, other_hash));
            }
            _ => verdicts.extend(one_by_one(channels, pair)),
        }
    }
    verdicts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn shares_in_pairs_are_judged_as_they_are_alone(
        shares in prop::collection::vec((0_usize..4, 0_u32..8, 0_u8..3, prop::bool::weighted(0.1)), 0..60),
    ) {
        let (mut alone, mut paired) = (channels(), channels());
        let verdicts = one_by_one(&mut alone, &shares);
        prop_assert_eq!(in_pairs(&mut paired, &shares), verdicts);
    }
}

#[test]
fn of_equal_shares_that_were_both_checked_only_one_is_accepted() {
    let mut channels = channels();
    let is_good =
        |share: &Share| !matches!(one_by_one(&mut channels.clone(), &[*share])[0], Verdict::Rejected(_));
    let share = (0..).map(|nonce| (1, nonce, 0, false)).find(is_good).unwrap();
    assert_eq!(checked(&channels, share), checked(&channels, share));
    let [hash, same] = hashes(&channels, [share; 2]);
    assert_eq!(hash, same);
    assert!(!matches!(hashed(&mut channels, share, hash), Verdict::Rejected(_)));
    assert_eq!(hashed(&mut channels, share, hash), Verdict::Rejected(Reject::DuplicateShare));
    assert_eq!(checked(&channels, share), Err(Reject::DuplicateShare));
}

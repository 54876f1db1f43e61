//! Shares judged two at a time, against the same shares judged one by one.

use adit_share::{
    Assignment, Checked, Job, Reject, Seen, Submission, Unhashed, Verdict, check, judge, settle,
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
    check(job, assignment, seen, &submission(share, &rolled), UnixTime::from_secs(TIME))
}

fn in_pairs(channels: &mut [Channel; 4], shares: &[Share]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for pair in shares.chunks(2) {
        match pair {
            &[first, second] => match [first, second].map(|share| checked(channels, share)) {
                [Ok(check), Ok(other)] if first.0 != second.0 || check != other => {
                    let hashes = {
                        let rolled = [rolled(first), rolled(second)];
                        let shares = [submission(first, &rolled[0]), submission(second, &rolled[1])];
                        let unhashed = |place: usize, share: Share| {
                            let Channel { job, assignment, .. } = &channels[share.0];
                            Unhashed { job, assignment, submission: &shares[place] }
                        };
                        Unhashed::hash_two([unhashed(0, first), unhashed(1, second)])
                    };
                    for ((share, checked), hash) in [(first, check), (second, other)].into_iter().zip(hashes)
                    {
                        let (Channel { job, assignment, seen }, rolled) =
                            (&mut channels[share.0], rolled(share));
                        let submission = submission(share, &rolled);
                        let _at_limit = seen.make_room();
                        let share = Unhashed { job, assignment, submission: &submission };
                        assert_eq!(share.hash(), hash);
                        verdicts.push(settle(share, seen, checked, hash));
                    }
                }
                _ => verdicts.extend(one_by_one(channels, pair)),
            },
            rest => verdicts.extend(one_by_one(channels, rest)),
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
    let share = (0..)
        .map(|nonce| (1, nonce, 0, false))
        .find(|share| !matches!(one_by_one(&mut channels.clone(), &[*share])[0], Verdict::Rejected(_)));
    let share = share.unwrap();
    let checked = [checked(&channels, share).unwrap(); 2];
    let (Channel { job, assignment, seen }, rolled) = (&mut channels[1], rolled(share));
    let submission = submission(share, &rolled);
    let unhashed = Unhashed { job, assignment, submission: &submission };
    let [hash, same] = Unhashed::hash_two([unhashed; 2]);
    assert_eq!(hash, same);
    seen.make_room().unwrap();
    assert!(!matches!(settle(unhashed, seen, checked[0], hash), Verdict::Rejected(_)));
    seen.make_room().unwrap();
    assert_eq!(settle(unhashed, seen, checked[1], hash), Verdict::Rejected(Reject::DuplicateShare));
}

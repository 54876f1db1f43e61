//! How long judging a share takes, against `channels_sv2` and against the bare hashing, all in one run.
//!
//! `cargo bench -p adit-share` prints criterion's figures, then one table. The table counts the SHA-256 compressions that a share
//! cannot do without and compares with the time that they alone would take. Its subjects take turns every millisecond and
//! its ratios are medians over all turns, so what else the machine does meanwhile hardly shows.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, prints what it measured, and shares its fixture with the tests"
)]

#[path = "../tests/judge/fixture.rs"]
mod fixture;
#[path = "../tests/judge/oracle.rs"]
mod oracle;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_share::{
    Assignment, CoinbaseSpec, Job, Seen, Submission, Template, Unhashed, Verdict, check, judge, judge_hashed,
};
use adit_units::{JobId, Target, UnixTime};
use channels_sv2::server::extended::ExtendedChannel;
use channels_sv2::server::standard::StandardChannel;
use criterion::{Criterion, Throughput};
use mining_sv2::{SubmitSharesExtended, SubmitSharesStandard};
use oracle::Oracle;

/// Shares in one timed batch.
const BATCH: u32 = 512;
/// Batches before a channel is made new, so that its set of seen shares stays as small as a real one.
const BATCHES_PER_CHANNEL: u32 = 4;
/// Turns of each subject for the table.
const TURNS: usize = 400;
/// The transactions of the template: a merkle path of twelve steps.
const TRANSACTIONS: u32 = 2500;
/// The network's difficulty: so high that no share is a block.
const NBITS: u32 = 0x1702_0000;

/// Judges one batch and says how long that took.
type Batch = Box<dyn FnMut() -> Duration>;

/// One kind of share and those who judge it.
struct Scenario {
    name: String,
    /// The compressions that a share takes.
    compressions: u32,
    /// One share after the other.
    adit: Batch,
    /// Two shares at a time.
    pairs: Batch,
    /// From the payload, as `adit`: decoded, made owned, validated.
    channels: Batch,
    /// Validated only, on messages that are owned already.
    channels_decoded: Batch,
}

fn main() {
    let template = fixture::template(1, fixture::tip(900_000, NBITS), TRANSACTIONS);
    let mut scenarios =
        [extended(&template, 1), extended(&template, 100), standard(&template)].map(|scenario| {
            assert!(scenario.compressions > 0);
            scenario
        });

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("SHA-256 compression", |bencher| {
        bencher.iter_custom(|iterations| compress(iterations.try_into().expect("a bench is short")));
    });
    for scenario in &mut scenarios {
        let mut group = criterion.benchmark_group(&scenario.name);
        group.throughput(Throughput::Elements(1));
        for (name, batch) in [
            ("adit", &mut scenario.adit),
            ("adit, in pairs", &mut scenario.pairs),
            ("channels_sv2", &mut scenario.channels),
            ("channels_sv2, decoded before", &mut scenario.channels_decoded),
        ] {
            group.bench_function(name, |bencher| bencher.iter_custom(|iterations| repeat(batch, iterations)));
        }
        group.finish();
    }
    print_table(&mut scenarios);
}

fn extended(template: &Arc<Template>, payouts: u64) -> Scenario {
    let (job, spec) = job(template, payouts);
    let new_channel = {
        let (template, id) = (Arc::clone(template), job.id());
        move || {
            let mut channel = oracle::extended_channel(&spec.signature, true);
            set_up(&mut channel, &template, &spec, id);
            channel
        }
    };
    let prefix = new_channel().extranonce_prefix();
    let assignment = Assignment::extended(&job, Target::MAX, &prefix).expect("the prefix fits");
    Scenario {
        name: format!("extended, payouts: {payouts}"),
        compressions: compressions(&job, &assignment),
        channels: batch(
            new_channel.clone(),
            |nonce| payload(nonce, true),
            |channel: &mut ExtendedChannel, payload| {
                let share: SubmitSharesExtended<'_> =
                    binary_sv2::from_bytes(payload).expect("it is well-formed");
                black_box(channel.validate_share(share.into_owned())).expect("it is valid");
            },
        ),
        channels_decoded: batch(
            new_channel,
            |nonce| Some(oracle::extended_message(&parse(&payload(nonce, true), true))),
            |channel, share| {
                let share = share.take().expect("each share is judged once");
                black_box(channel.validate_share(share)).expect("it is valid");
            },
        ),
        adit: adit(job.clone(), assignment.clone()),
        pairs: pairs(job, assignment),
    }
}

fn standard(template: &Arc<Template>) -> Scenario {
    let (job, spec) = job(template, 1);
    let new_channel = {
        let (template, id) = (Arc::clone(template), job.id());
        move || {
            let mut channel = oracle::standard_channel(&spec.signature);
            set_up(&mut channel, &template, &spec, id);
            channel
        }
    };
    let extranonce = new_channel().extranonce_prefix();
    let assignment = Assignment::standard(&job, Target::MAX, &extranonce).expect("the extranonce fits");
    Scenario {
        name: "standard".to_owned(),
        compressions: compressions(&job, &assignment),
        channels: batch(
            new_channel.clone(),
            |nonce| payload(nonce, false),
            |channel: &mut StandardChannel, payload| {
                let share: SubmitSharesStandard = binary_sv2::from_bytes(payload).expect("it is well-formed");
                black_box(channel.validate_share(share.into_owned())).expect("it is valid");
            },
        ),
        channels_decoded: batch(
            new_channel,
            |nonce| Some(oracle::standard_message(&parse(&payload(nonce, false), false))),
            |channel, share| {
                let share = share.take().expect("each share is judged once");
                black_box(channel.validate_share(share)).expect("it is valid");
            },
        ),
        adit: adit(job.clone(), assignment.clone()),
        pairs: pairs(job, assignment),
    }
}

fn job(template: &Template, payouts: u64) -> (Job, CoinbaseSpec) {
    let spec = fixture::spec(template, JobId(1), payouts);
    let job = Job::new(JobId(1), template, &spec).expect("the fixture is a good job");
    assert_eq!(job.merkle_path().len(), 12);
    (job, spec)
}

/// Gives a channel of the oracle the same job, at the easiest target.
fn set_up(channel: &mut impl Oracle, template: &Template, spec: &CoinbaseSpec, id: JobId) {
    channel.set_tip(template);
    channel.set_target(Target::MAX);
    assert_eq!(channel.add_job(template, spec), id);
}

/// As `adit`, two shares at a time.
fn pairs(job: Job, assignment: Assignment) -> Batch {
    let (extended, now) = (assignment.merkle_root().is_none(), UnixTime::from_secs(fixture::TIME));
    batch(
        || Seen::new([7; 16], 1 << 16),
        move |pair| [2 * pair, 2 * pair + 1].map(|nonce| payload(nonce, extended)),
        move |seen, payloads| {
            let [first, second] = &*payloads;
            let shares = [parse(first, extended), parse(second, extended)];
            let shares = [&shares[0], &shares[1]].map(|submission| Unhashed {
                job: &job,
                assignment: &assignment,
                submission,
            });
            let [first, second] = shares.map(|share| check(share, seen, now).expect("it is new"));
            assert_ne!(first, second);
            for (share, hash) in shares.into_iter().zip(Unhashed::hash_two(shares)) {
                seen.make_room().expect("the set is renewed in time");
                let verdict = judge_hashed(share, seen, hash, now);
                assert!(matches!(black_box(&verdict), Verdict::Valid { .. }));
            }
        },
    )
}

fn adit(job: Job, assignment: Assignment) -> Batch {
    let extended = assignment.merkle_root().is_none();
    batch(
        || Seen::new([7; 16], 1 << 16),
        move |nonce| payload(nonce, extended),
        move |seen, payload| {
            seen.make_room().expect("the set is renewed in time");
            let share = parse(payload, extended);
            let verdict = judge(&job, &assignment, seen, &share, UnixTime::from_secs(fixture::TIME));
            assert!(matches!(black_box(&verdict), Verdict::Valid { .. }));
        },
    )
}

/// What is judged in one go.
trait Shares {
    /// How many shares that is.
    const COUNT: u32 = 1;
}

impl Shares for Vec<u8> {}
impl<T> Shares for Option<T> {}
impl Shares for [Vec<u8>; 2] {
    const COUNT: u32 = 2;
}

/// Batches of shares that are made outside the timed part, with a new channel every few batches.
fn batch<C: 'static, S: Shares + 'static>(
    mut new_channel: impl FnMut() -> C + 'static,
    share: impl Fn(u32) -> S + 'static,
    mut judge: impl FnMut(&mut C, &mut S) + 'static,
) -> Batch {
    let (mut channel, mut batches) = (new_channel(), 0_u32);
    Box::new(move || {
        if batches.is_multiple_of(BATCHES_PER_CHANNEL) {
            channel = new_channel();
        }
        let count = BATCH / S::COUNT;
        let first = batches.wrapping_mul(count);
        batches = batches.wrapping_add(1);
        let mut shares: Vec<S> = (0..count).map(|place| share(first.wrapping_add(place))).collect();
        let start = Instant::now();
        for share in &mut shares {
            judge(&mut channel, share);
        }
        start.elapsed()
    })
}

/// The time of so many compressions, each on the state that the last one left.
fn compress(count: u32) -> Duration {
    let (mut state, block) = ([7_u32; 8], [[42_u8; 64]]);
    let start = Instant::now();
    for _ in 0..count {
        sha2::block_api::compress256(black_box(&mut state), black_box(&block));
    }
    start.elapsed()
}

/// The compressions that a share takes: the blocks of the coinbase after its midstate, the path, the header.
fn compressions(job: &Job, assignment: &Assignment) -> u32 {
    let header = 2 + 1;
    if assignment.merkle_root().is_some() {
        return header;
    }
    let len = job.coinbase_prefix().len() + job.extranonce_len() + job.coinbase_suffix().len();
    let blocks = (len + 1 + 8).div_ceil(64) - job.coinbase_prefix().len() / 64;
    let path = job.merkle_path().len() * (2 + 1);
    u32::try_from(blocks + 1 + path).expect("a block is small") + header
}

/// The time of whole batches as if they had been `iterations` shares.
fn repeat(batch: &mut Batch, iterations: u64) -> Duration {
    let batches = iterations.div_ceil(BATCH.into());
    let total: Duration = (0..batches).map(|_| batch()).sum();
    let nanos = total.as_nanos() * u128::from(iterations) / u128::from(batches * u64::from(BATCH));
    Duration::from_nanos(nanos.try_into().expect("a bench is short"))
}

/// The payload of a share as it comes off the wire.
fn payload(nonce: u32, extended: bool) -> Vec<u8> {
    let fields = [1, nonce, 1, nonce, fixture::TIME, 0x2000_0000];
    let mut payload: Vec<u8> = fields.into_iter().flat_map(u32::to_le_bytes).collect();
    if extended {
        payload.push(oracle::ROLLED_LEN);
        payload.extend_from_slice(&[0x11; oracle::ROLLED_LEN as usize]);
    }
    payload
}

fn parse(payload: &[u8], extended: bool) -> Submission<'_> {
    let share =
        if extended { Submission::parse_extended(payload) } else { Submission::parse_standard(payload) };
    share.expect("it is well-formed")
}

fn print_table(scenarios: &mut [Scenario]) {
    println!(
        "| share | compressions | one of them, ns | hashing alone, ns | adit, ns | adit / hashing | in pairs, ns | adit / in pairs | \
         channels_sv2, ns | channels_sv2 / in pairs | without decoding | in pairs, shares/s/core |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for Scenario { name, compressions, adit, pairs, channels, channels_decoded } in scenarios {
        let hashes = *compressions * BATCH;
        let turns: Vec<_> = (0..TURNS)
            .map(|_| [compress(hashes), adit(), pairs(), channels(), channels_decoded()].map(picos_per_share))
            .collect();
        let median = |figure: fn(&[u128; 5]) -> u128| {
            let mut figures: Vec<u128> = turns.iter().map(figure).collect();
            figures.sort_unstable();
            figures.get(TURNS / 2).copied().unwrap_or_default()
        };
        println!(
            "| {name} | {compressions} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            decimal(median(|[hashing, ..]| *hashing) / u128::from(*compressions)),
            decimal(median(|[hashing, ..]| *hashing)),
            decimal(median(|[_, adit, ..]| *adit)),
            decimal(median(|[hashing, adit, ..]| adit * 1000 / hashing)),
            decimal(median(|[_, _, pairs, ..]| *pairs)),
            decimal(median(|[_, adit, pairs, ..]| adit * 1000 / pairs)),
            decimal(median(|[_, _, _, channels, _]| *channels)),
            decimal(median(|[_, _, pairs, channels, _]| channels * 1000 / pairs)),
            decimal(median(|[_, _, pairs, _, decoded]| decoded * 1000 / pairs)),
            1_000_000_000_000 / median(|[_, _, pairs, ..]| *pairs),
        );
    }
}

fn picos_per_share(batch: Duration) -> u128 {
    batch.as_nanos() * 1000 / u128::from(BATCH)
}

/// Thousandths with two decimals.
fn decimal(thousandths: u128) -> String {
    format!("{}.{:02}", thousandths / 1000, thousandths % 1000 / 10)
}

//! Throughput of appends on a real disk: group commit against one sync per record, in the same run.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use adit_channel::{RewardKind, ShareKind, ShareRecord, UserIdentity};
use adit_ledger::segment::{CommitFrame, EncodedRecords, Position};
use adit_ledger::{LogConfig, Opened, ShareLog, ShareSink as _, completion, open};
use adit_units::{ChannelId, ConnectionId, Height, JobId, JobTag, SequenceNumber, UnixTime, Work};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// Shares that each connection submits in one measured round.
const SHARES_PER_CONNECTION: u32 = 64;

/// A share as a home miner sends it.
fn record(connection: u32, sequence_number: u32) -> ShareRecord {
    ShareRecord {
        received: UnixTime::from_millis(1_790_000_000_000),
        connection: ConnectionId(connection),
        channel: ChannelId(1),
        sequence_number: SequenceNumber(sequence_number),
        tag: JobTag { instance: 1, boot: 2, job: JobId(3) },
        height: Height(900_000),
        work: Work::from_hashes(1 << 44),
        hash: [0x5a; 32],
        kind: ShareKind::Share,
        reward: RewardKind::Pooled,
        user: UserIdentity::from_wire(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig1")
            .expect("plain text"),
        worker: None,
        custom: None,
    }
}

/// One connection that submits its shares one by one, as fast as the log takes them, and waits for the last acknowledgement.
async fn connection(log: ShareLog, number: u32) {
    let (done, mut watch) = completion();
    for sequence_number in 0..SHARES_PER_CONNECTION {
        log.append(&[record(number, sequence_number)], &done).await.expect("the disk works");
    }
    while watch.changed().await < u64::from(SHARES_PER_CONNECTION) {}
}

/// One connection that waits for each acknowledgement before its next share.
async fn patient_connection(log: ShareLog, number: u32) {
    let (done, mut watch) = completion();
    for sequence_number in 0..SHARES_PER_CONNECTION {
        log.append(&[record(number, sequence_number)], &done).await.expect("the disk works");
        watch.changed().await;
    }
}

/// Runs that many connections to their end.
fn run<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    log: &ShareLog,
    connections: u32,
    connection: fn(ShareLog, u32) -> F,
) {
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..connections).map(|number| tokio::spawn(connection(log.clone(), number))).collect();
        for task in tasks {
            task.await.expect("a connection does not panic");
        }
    });
}

/// Without rests, which would only be measured themselves.
fn config() -> LogConfig {
    LogConfig { commit_rest: Duration::ZERO, ..LogConfig::new(1) }
}

fn group_commit(criterion: &mut Criterion, dir: &Path) {
    let runtime = Runtime::new().expect("threads can be started");
    let Opened { log, mut outcome, .. } =
        open(dir, config(), UnixTime::from_millis(0)).expect("the directory is empty");
    let mut group = criterion.benchmark_group("group commit");
    // Short, because a second of it writes a hundred megabytes.
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for connections in [1, 10, 100, 1000] {
        group.throughput(Throughput::Elements(u64::from(connections * SHARES_PER_CONNECTION)));
        let before = log.progress();
        group.bench_function(BenchmarkId::new("eager connections", connections), |bencher| {
            bencher.iter(|| run(&runtime, &log, connections, connection));
        });
        report(&log, before, connections, "eager");
        let before = log.progress();
        group.bench_function(BenchmarkId::new("patient connections", connections), |bencher| {
            bencher.iter(|| run(&runtime, &log, connections, patient_connection));
        });
        report(&log, before, connections, "patient");
    }
    group.finish();
    drop(log);
    runtime.block_on(outcome.wait()).expect("the disk works");
}

/// Prints how many records one sync covered on average.
#[expect(clippy::print_stderr, reason = "a bench speaks to the terminal")]
fn report(log: &ShareLog, before: adit_ledger::LogProgress, connections: u32, kind: &str) {
    let after = log.progress();
    let records = after.durable_end.0 - before.durable_end.0;
    let commits = (after.commits - before.commits).max(1);
    let bytes = (after.bytes - before.bytes) / records.max(1);
    eprintln!(
        "{connections} {kind} connections: {records} records in {commits} syncs, {} records per sync, {bytes} bytes per record",
        records / commits
    );
}

/// The simple way, for comparison: each record is written and synced by itself.
fn one_sync_per_record(criterion: &mut Criterion, dir: &Path) {
    let mut file = File::create(dir.join("simple")).expect("the directory can be written");
    let mut group = criterion.benchmark_group("one sync per record");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(SHARES_PER_CONNECTION)));
    group.bench_function("simple", |bencher| {
        bencher.iter(|| {
            for sequence_number in 0..SHARES_PER_CONNECTION {
                let mut frame = CommitFrame::default();
                frame.push(&EncodedRecords::encode(&[record(1, sequence_number)]).0);
                file.write_all(frame.seal(Position(0))).expect("the disk works");
                file.sync_data().expect("the disk works");
            }
        });
    });
    group.finish();
}

/// What a record costs the task that appends it, without any disk.
fn encode(criterion: &mut Criterion) {
    let records: Vec<_> = (0..64).map(|number| record(1, number)).collect();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(64));
    group
        .bench_function("64 records", |bencher| bencher.iter(|| EncodedRecords::encode(black_box(&records))));
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    // On the disk that holds the build, because a temporary directory may be in memory.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("append-bench");
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("left over from an earlier run");
    }
    group_commit(criterion, &dir.join("log"));
    one_sync_per_record(criterion, &dir);
    encode(criterion);
    fs::remove_dir_all(&dir).expect("nobody else uses it");
}

criterion_group!(append, benches);
criterion_main!(append);

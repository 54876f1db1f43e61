//! The log with its thread: who wakes when, what waits, and that acknowledgements stop with the disk.

use std::io;

use adit_channel::ShareRecord;

use super::*;
use crate::reader::read_in;
use crate::storage::faulty::{Fault, FaultyStorage};
use crate::test_records::{record, records};
use crate::{DurableWatch, completion};

const NOW: UnixTime = UnixTime::from_millis(5);

fn open_log(storage: &FaultyStorage, config: LogConfig) -> Opened {
    open_in(storage.clone(), config, NOW).unwrap()
}

fn found(storage: &FaultyStorage) -> Vec<ShareRecord> {
    read_in(storage.clone(), Position(0)).unwrap().map(|item| item.unwrap().1).collect()
}

/// Waits until so many records of a connection are durable.
async fn reach(watch: &mut DurableWatch, count: u64) {
    while watch.changed().await < count {}
}

#[tokio::test]
async fn one_sync_makes_many_connections_durable() {
    let storage = FaultyStorage::default();
    let Opened { log, mut outcome, .. } = open_log(&storage, LogConfig::new(1));
    let held = storage.hold_syncs();
    let before = storage.operations();
    let (first, mut first_watch) = completion();
    log.append(&[record(0)], &first).await.unwrap();
    held.wait_for_sync();
    let mut connections = Vec::new();
    for number in 1..=100 {
        let (done, watch) = completion();
        log.append(&[record(number)], &done).await.unwrap();
        connections.push((done, watch));
    }
    assert_eq!(log.progress().queued, 100);
    assert_eq!(first_watch.durable(), 0);
    drop(held);
    reach(&mut first_watch, 1).await;
    for (_, watch) in &mut connections {
        assert_eq!(watch.changed().await, 1);
    }
    let after = storage.operations();
    assert_eq!((after.data_syncs - before.data_syncs, after.appends - before.appends), (2, 2));
    let progress = log.progress();
    assert_eq!((progress.commits, progress.durable_end, progress.queued), (2, Position(101), 0));
    drop(log);
    outcome.wait().await.unwrap();
    assert_eq!(found(&storage), records(0..101));
}

#[tokio::test]
async fn records_that_come_while_the_writer_rests_share_a_commit() {
    let storage = FaultyStorage::default();
    let config = LogConfig { commit_rest: Duration::from_secs(1), ..LogConfig::new(1) };
    let Opened { log, .. } = open_log(&storage, config);
    let (done, mut watch) = completion();
    log.append(&[record(0)], &done).await.unwrap();
    reach(&mut watch, 1).await;
    for number in 1..20 {
        log.append(&[record(number)], &done).await.unwrap();
    }
    reach(&mut watch, 20).await;
    assert_eq!(log.progress().commits, 2);
}

#[test]
fn no_rest_follows_a_commit_that_was_full() {
    let (writer, _) = Writer::open(FaultyStorage::default(), 1, 64 << 20, NOW).unwrap();
    let (queue, waiting) = mpsc::channel(4096);
    let (counters, (done, _watch)) = (Counters::default(), completion());
    let (mut frame, batch) = (CommitFrame::default(), records(0..100));
    while !frame.is_full() {
        let (records, _) = EncodedRecords::encode(&batch);
        frame.push(&records);
        queue.try_send(Append { records, done: done.clone() }).unwrap();
    }
    drop(queue);
    write_until_closed(writer, waiting, &counters, Duration::from_secs(3600)).unwrap();
    assert_eq!(counters.commits.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_full_queue_makes_its_callers_wait() {
    let storage = FaultyStorage::default();
    let Opened { log, .. } = open_log(&storage, LogConfig { queue_len: 2, ..LogConfig::new(1) });
    let held = storage.hold_syncs();
    let (done, mut watch) = completion();
    log.append(&[record(0)], &done).await.unwrap();
    held.wait_for_sync();
    log.append(&records(1..3), &done).await.unwrap();
    log.append(&records(3..4), &done).await.unwrap();
    let last = records(4..5);
    let mut waiting = Box::pin(log.append(&last, &done));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("the queue had room for two appends"),
        () = std::future::ready(()) => {}
    }
    drop(held);
    waiting.await.unwrap();
    reach(&mut watch, 5).await;
    assert_eq!(found(&storage), records(0..5));
}

#[tokio::test]
async fn a_long_batch_is_taken_in_pieces_and_in_order() {
    let storage = FaultyStorage::default();
    let Opened { log, mut outcome, .. } = open_log(&storage, LogConfig { queue_len: 1, ..LogConfig::new(1) });
    let (done, mut watch) = completion();
    log.append(&[], &done).await.unwrap();
    log.append(&records(0..1000), &done).await.unwrap();
    reach(&mut watch, 1000).await;
    drop(log);
    outcome.wait().await.unwrap();
    assert_eq!(found(&storage), records(0..1000));
}

#[tokio::test]
async fn a_commit_is_never_larger_than_a_reader_accepts() {
    let storage = FaultyStorage::default();
    let Opened { log, mut outcome, .. } = open_log(&storage, LogConfig::new(1));
    let held = storage.hold_syncs();
    let (done, mut watch) = completion();
    log.append(&[record(0)], &done).await.unwrap();
    held.wait_for_sync();
    let mut longest = record(1);
    longest.user = adit_channel::UserIdentity::from_wire(&[b'u'; 255]).unwrap();
    let batch = vec![longest; EncodedRecords::COUNT_MAX];
    for _ in 0..200 {
        log.append(&batch, &done).await.unwrap();
    }
    drop(held);
    let total = 1 + 200 * batch.len() as u64;
    reach(&mut watch, total).await;
    let LogProgress { commits, bytes, .. } = log.progress();
    assert!(bytes > 4 << 20 && commits <= 1 + bytes.div_ceil(1 << 20), "{bytes} bytes in {commits} commits");
    drop(log);
    outcome.wait().await.unwrap();
    assert_eq!(found(&storage).len() as u64, total);
}

#[tokio::test]
async fn what_is_queued_when_the_last_handle_is_dropped_becomes_durable() {
    let storage = FaultyStorage::default();
    let Opened { log, outcome, .. } = open_log(&storage, LogConfig::new(1));
    let held = storage.hold_syncs();
    let (done, mut watch) = completion();
    for number in 0..50 {
        log.clone().append(&[record(number)], &done).await.unwrap();
    }
    drop((log, held));
    outcome.clone().wait().await.unwrap();
    outcome.clone().wait().await.unwrap();
    assert_eq!(watch.changed().await, 50);
    let again = open_log(&storage.after_power_cut(3), LogConfig::new(1));
    assert!(again.recovered.clean);
    assert_eq!((again.boot, again.recovered.end), (1, Position(50)));
}

/// How far the numbers of one connection's records are from those of the next.
const APART: u64 = 1 << 24;

/// Appends from several connections until the log stops; gives back for each how many records it had sent and saw acknowledged.
///
/// However many that takes: the writer may find so much in its queue that hundreds of appends share a commit.
async fn load_until_stopped(log: ShareLog) -> Vec<(u64, u64)> {
    let tasks = (0..4_u64).map(|connection| {
        let log = log.clone();
        tokio::spawn(async move {
            let (done, watch) = completion();
            let mut sent = 0;
            loop {
                let first = connection * APART + sent;
                let batch = records(first..first + 1 + connection);
                sent += batch.len() as u64;
                if log.append(&batch, &done).await.is_err() {
                    return (sent, watch);
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    drop(log);
    let mut results = Vec::new();
    for task in tasks {
        let (sent, watch) = task.await.unwrap();
        results.push((sent, watch));
    }
    results.into_iter().map(|(sent, watch)| (sent, watch.durable())).collect()
}

/// What connections were told must be found; what is found they must have sent, in order.
fn check(storage: &FaultyStorage, connections: &[(u64, u64)]) {
    let found = found(storage);
    let mut expected = 0;
    for (connection, &(sent, acknowledged)) in (0..).zip(connections) {
        let own = found.iter().filter(|share| u64::from(share.sequence_number.0) / APART == connection);
        let own: Vec<_> = own.cloned().collect();
        let count = own.len() as u64;
        assert!(
            acknowledged <= count && count <= sent,
            "{acknowledged} acknowledged, {count} found, {sent} sent"
        );
        assert_eq!(own, records(connection * APART..connection * APART + count));
        expected += own.len();
    }
    assert_eq!(found.len(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_stop_for_good_when_the_disk_fails() {
    // Opening takes five operations, numbers 0 to 4.
    for operation in (5..40).chain([60, 100, 150]) {
        for fault in [Fault::Error, Fault::PowerCut] {
            let storage = FaultyStorage::default();
            let new = LogConfig::new(1);
            // Without rests the records make commits enough for every operation to come about.
            let config = LogConfig { segment_bytes: 3000, queue_len: 3, commit_rest: Duration::ZERO, ..new };
            let Opened { log, mut outcome, .. } = open_log(&storage, config);
            storage.fail_at(operation, fault);
            let spare = log.clone();
            let loading = tokio::spawn(load_until_stopped(log));
            let ended = tokio::time::timeout(Duration::from_secs(60), outcome.wait()).await;
            assert!(
                matches!(ended, Ok(Err(LogFailure::Write(_)))),
                "operation {operation} went wrong: {ended:?}"
            );
            let operations = storage.operations().total;
            let connections = loading.await.unwrap();
            let (done, watch) = completion();
            assert_eq!(spare.append(&[record(0)], &done).await, Err(LogClosed));
            assert_eq!(watch.durable(), 0);
            assert_eq!(storage.operations().total, operations, "nothing is tried again");
            for seed in 0..4 {
                check(&storage.after_power_cut(seed), &connections);
            }
            check(&storage.after_kill(), &connections);
        }
    }
}

/// A storage whose files break the rules of the program rather than those of the disk.
#[derive(Debug)]
struct Panicking;

#[derive(Debug)]
struct PanickingFile(u32);

impl Storage for Panicking {
    type File = PanickingFile;

    fn path(&self, name: &str) -> std::path::PathBuf {
        name.into()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn read(&self, _: &str, _: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn create(&self, _: &str) -> io::Result<PanickingFile> {
        Ok(PanickingFile(0))
    }
    fn rewrite_end(&self, _: &str, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl crate::storage::AppendFile for PanickingFile {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        self.0 += 1;
        assert!(self.0 < 2, "a bug, for the test");
        Ok(())
    }
    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_is_a_failure_and_not_an_orderly_end() {
    let Opened { log, mut outcome, .. } = open_in(Panicking, LogConfig::new(1), NOW).unwrap();
    let (done, watch) = completion();
    log.append(&[record(0)], &done).await.unwrap();
    assert!(matches!(outcome.wait().await, Err(LogFailure::WriterPanicked)));
    assert!(matches!(outcome.wait().await, Err(LogFailure::WriterPanicked)));
    assert_eq!(watch.durable(), 0);
    assert_eq!(log.append(&[record(1)], &done).await, Err(LogClosed));
}

#[tokio::test]
async fn a_directory_is_locked_while_the_log_is_open_and_free_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { log, mut outcome, boot, .. } = open(dir.path(), LogConfig::new(1), NOW).unwrap();
    let (done, mut watch) = completion();
    log.append(&records(0..3), &done).await.unwrap();
    reach(&mut watch, 3).await;
    let second = open(dir.path(), LogConfig::new(1), NOW).unwrap_err();
    assert!(second.to_string().contains("in use by another process"), "{second}");
    assert_eq!(
        crate::read(dir.path()).unwrap().map(|item| item.unwrap().1).collect::<Vec<_>>(),
        records(0..3)
    );
    drop(log);
    outcome.wait().await.unwrap();
    let again = open(dir.path(), LogConfig::new(1), NOW).unwrap();
    assert_eq!((boot, again.boot), (0, 1));
    assert_eq!((again.recovered.end, again.recovered.clean), (Position(3), true));
}

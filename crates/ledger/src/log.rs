//! The share log as roles see it: a queue in front of one thread that writes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use adit_channel::ShareRecord;
use adit_units::UnixTime;
use tokio::sync::{mpsc, watch};

use crate::Durable;
use crate::segment::{CommitFrame, EncodedRecords, Position};
use crate::storage::{Directory, Storage};
use crate::writer::{OpenError, Recovery, WriteError, Writer};

/// How a share log is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The number of this server among those of the pool; stands in every job tag.
    pub instance: u16,
    /// The size at which a new segment file is begun, in bytes; at most [`crate::segment::SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// How long the writer rests after a commit, unless that was full. The records that come meanwhile share the next one, and its sync,
    /// their wake-ups and their acknowledgements with it; one of these is delayed by as much at the most, and not at all after a quiet time.
    pub commit_rest: Duration,
    /// How many appends may wait for the writer, at least one; each holds at most [`EncodedRecords::LEN_MAX`] bytes. When the queue is
    /// full, callers wait.
    pub queue_len: usize,
}

impl LogConfig {
    /// Segments of 64 MiB, rests of five milliseconds, and 4096 appends in the queue (110 MiB at the very most, usually one).
    #[must_use]
    pub const fn new(instance: u16) -> Self {
        Self { instance, segment_bytes: 64 << 20, commit_rest: Duration::from_millis(5), queue_len: 4096 }
    }
}

/// A log that has been recovered and is ready to take records.
#[derive(Debug)]
pub struct Opened {
    /// Takes records. The log ends in order when this and all its clones are dropped.
    pub log: ShareLog,
    /// How many times this server had started before; already on stable storage, and greater than at any earlier start.
    pub boot: u32,
    /// What was found.
    pub recovered: Recovery,
    /// Tells when the log has ended, and how.
    pub outcome: LogOutcome,
}

/// Opens the log in a directory of the local file system, creating it if it is missing, and starts its writer.
///
/// `now` is noted in the new segment. This blocks on the disk: it reads the last segment whole.
///
/// # Errors
///
/// If the directory is in use or cannot be written, if the log is of another instance, or if it is damaged anywhere but at its very
/// end. Nothing is served then; the message says what an operator can do.
pub fn open(dir: &Path, config: LogConfig, now: UnixTime) -> Result<Opened, OpenError> {
    open_in(Directory::open(dir)?, config, now)
}

/// As [`open`], in any kind of storage.
///
/// # Errors
///
/// As [`open`].
pub fn open_in<S: Storage>(storage: S, config: LogConfig, now: UnixTime) -> Result<Opened, OpenError> {
    let (writer, recovered) = Writer::open(storage, config.instance, config.segment_bytes, now)?;
    let boot = writer.boot();
    tracing::info!(
        instance = config.instance,
        boot,
        end = recovered.end.0,
        segments = recovered.segments,
        torn_bytes_cut = recovered.torn_bytes_cut,
        clean = recovered.clean,
        "share log opened"
    );
    let (sender, queue) = mpsc::channel(config.queue_len.max(1));
    let counters = Arc::new(Counters { end: AtomicU64::new(recovered.end.0), ..Counters::default() });
    let (ended, outcome) = watch::channel(None);
    let log = ShareLog { queue: sender, counters: Arc::clone(&counters) };
    let run = move || {
        let result = write_until_closed(writer, queue, &counters, config.commit_rest);
        if let Err(error) = &result {
            tracing::error!(%error, "share log stopped");
        }
        ended.send_replace(Some(result.map_err(LogFailure::Write)));
    };
    thread::Builder::new().name("share-log".to_owned()).spawn(run).map_err(OpenError::Thread)?;
    Ok(Opened { log, boot, recovered, outcome: LogOutcome(outcome) })
}

/// Where accepted shares go: the log on the local disk, or another one that keeps the same promise.
pub trait ShareSink: Clone + Send + Sync + 'static {
    /// Takes records in order; `done` counts each of them once it is on stable storage, and not before.
    ///
    /// Returns when the records are in the sink's bounded queue, so a slow disk slows its callers down. A future that is dropped may
    /// have taken some of the records.
    ///
    /// # Errors
    ///
    /// If the sink has stopped: no record is counted any more, whether it was taken or not.
    fn append(
        &self,
        records: &[ShareRecord],
        done: &Durable,
    ) -> impl Future<Output = Result<(), LogClosed>> + Send;
}

/// The share log has stopped and takes no more records; its outcome says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the share log has stopped; shares can no longer be acknowledged")]
#[non_exhaustive]
pub struct LogClosed;

/// A handle on a share log that is being written; cloning is cheap.
#[derive(Clone, Debug)]
pub struct ShareLog {
    queue: mpsc::Sender<Append>,
    counters: Arc<Counters>,
}

/// How far a log has come; the numbers are read one after the other, while the writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProgress {
    /// The position behind the last record on stable storage.
    pub durable_end: Position,
    /// Commits of this run, which is also its number of data syncs.
    pub commits: u64,
    /// Bytes of those commits.
    pub bytes: u64,
    /// Appends that wait for the writer.
    pub queued: usize,
}

impl ShareLog {
    /// How far the log has come.
    #[must_use]
    pub fn progress(&self) -> LogProgress {
        LogProgress {
            durable_end: Position(self.counters.end.load(Ordering::Acquire)),
            commits: self.counters.commits.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            queued: self.queue.max_capacity() - self.queue.capacity(),
        }
    }
}

impl ShareSink for ShareLog {
    async fn append(&self, records: &[ShareRecord], done: &Durable) -> Result<(), LogClosed> {
        let mut rest = records;
        while !rest.is_empty() {
            let slot = self.queue.reserve().await.map_err(|_| LogClosed)?;
            let (records, behind) = EncodedRecords::encode(rest);
            slot.send(Append { records, done: done.clone() });
            rest = behind;
        }
        Ok(())
    }
}

/// Tells when the log has ended; clones tell the same.
#[derive(Clone, Debug)]
pub struct LogOutcome(watch::Receiver<Option<Result<(), LogFailure>>>);

/// Why a log stopped acknowledging for good. The process must end; blocks may still go out before it does.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogFailure {
    /// The disk failed, or is full.
    #[error(transparent)]
    Write(WriteError),
    /// The writer itself broke down, which is a bug; its thread has said where.
    #[error("the thread that writes the share log has panicked; nothing more is acknowledged")]
    WriterPanicked,
}

impl LogOutcome {
    pub(crate) const fn new(outcome: watch::Receiver<Option<Result<(), LogFailure>>>) -> Self {
        Self(outcome)
    }

    /// Waits until the log has ended: in order, after all its handles were dropped and all that was queued is on stable storage,
    /// or by a failure. The directory is free again by then.
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// If the log has failed. Acknowledgements have stopped for good then.
    pub async fn wait(&mut self) -> Result<(), LogFailure> {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(LogFailure::WriterPanicked)),
            Err(_) => Err(LogFailure::WriterPanicked),
        }
    }
}

/// Records on their way to the writer.
#[derive(Debug)]
struct Append {
    records: EncodedRecords,
    done: Durable,
}

#[derive(Debug, Default)]
struct Counters {
    end: AtomicU64,
    commits: AtomicU64,
    bytes: AtomicU64,
}

/// The writer's life: gather, write, sync, count, rest; until nobody can append any more, or the disk fails.
///
/// The writer, and with it the lock on its directory, is gone when this returns; so is the queue, and with it every record that
/// has not been counted.
fn write_until_closed<S: Storage>(
    mut writer: Writer<S>,
    mut queue: mpsc::Receiver<Append>,
    counters: &Counters,
    commit_rest: Duration,
) -> Result<(), WriteError> {
    let (mut frame, mut waiting) = (CommitFrame::default(), Vec::new());
    while let Some(first) = queue.blocking_recv() {
        let received = first.records.received();
        gather(first, &mut queue, &mut frame, &mut waiting);
        writer.commit(&mut frame, received)?;
        counters.end.store(writer.next_position().0, Ordering::Release);
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(frame.file_bytes(), Ordering::Relaxed);
        let was_full = frame.is_full();
        frame.clear();
        for (done, records) in waiting.drain(..) {
            done.advance(records);
        }
        // Where a commit was full, enough for the next one waits already.
        if !was_full && !commit_rest.is_zero() {
            thread::sleep(commit_rest);
        }
    }
    writer.close()
}

/// Puts into one commit what the queue holds, up to the size of a commit.
fn gather(
    first: Append,
    queue: &mut mpsc::Receiver<Append>,
    frame: &mut CommitFrame,
    waiting: &mut Vec<(Durable, u64)>,
) {
    let mut next = Some(first);
    while let Some(Append { records, done }) = next {
        frame.push(&records);
        waiting.push((done, records.count().into()));
        next = if frame.is_full() { None } else { queue.try_recv().ok() };
    }
}

#[cfg(test)]
mod tests;

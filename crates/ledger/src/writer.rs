//! The one writer of a share log: recovery at the start, then commits, each with one sync.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use adit_units::UnixTime;

use crate::catalog::{self, ReadError, segment_name};
use crate::segment::{CommitFrame, Damage, Ending, Header, Next, Position, SEGMENT_BYTES_MAX, Segment};
use crate::storage::{self, AppendFile as _, DirectoryError, Storage};

/// Why a share log cannot be opened for writing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be used, or is in use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is there cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk does not take what must be written before the log can serve.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The log belongs to another server of the pool.
    #[error(
        "the share log in {} is of instance {found}, this server is configured as instance {configured}: \
         give each server a log directory of its own, or set the instance back",
        path.display()
    )]
    OtherInstance {
        /// The directory.
        path: PathBuf,
        /// The instance that wrote the log.
        found: u16,
        /// The instance in the configuration.
        configured: u16,
    },
    /// The server has been started 2^32 times.
    #[error(
        "instance {0} has been started too often to make unique job tags: configure an unused instance and a new log"
    )]
    BootsExhausted(u16),
    /// The system refuses a thread.
    #[error("cannot start the thread that writes the share log")]
    Thread(#[source] io::Error),
}

/// A write or a sync that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {doing} {}; nothing more is acknowledged: free space or replace the disk, then start again", path.display())]
pub struct WriteError {
    /// What was being done.
    pub doing: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the file system said.
    pub source: Arc<io::Error>,
}

/// What was found when a log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The position behind the last record; the next record gets it.
    pub end: Position,
    /// How many segment files there were.
    pub segments: usize,
    /// Bytes of an unfinished commit that were cut off; nothing in it had been acknowledged.
    pub torn_bytes_cut: u64,
    /// Whether the last run had ended in order.
    pub clean: bool,
}

/// The writing end of a log.
#[derive(Debug)]
pub(crate) struct Writer<S: Storage> {
    storage: S,
    header: Header,
    file: S::File,
    /// Bytes in the segment.
    len: u64,
    /// The position of the next record.
    next: Position,
    /// The size at which a new segment is begun.
    segment_bytes: u64,
}

impl<S: Storage> Writer<S> {
    /// Recovers the log and begins a segment of a new run.
    ///
    /// The run's number is on stable storage, as part of that segment's header, before this returns.
    pub(crate) fn open(
        storage: S,
        instance: u16,
        segment_bytes: u64,
        now: UnixTime,
    ) -> Result<(Self, Recovery), OpenError> {
        let failed = |source| WriteError::new("clean up", storage.path(""), source);
        storage::remove_leftovers(&storage).map_err(failed)?;
        let (last, recovery) = recover(&storage)?;
        let boot = match last {
            None => 0,
            Some(last) if last.instance != instance => {
                let path = storage.path("");
                return Err(OpenError::OtherInstance { path, found: last.instance, configured: instance });
            }
            Some(last) => last.boot.checked_add(1).ok_or(OpenError::BootsExhausted(instance))?,
        };
        let header = Header { instance, boot, first: recovery.end, created: now };
        let file = begin_segment(&storage, header)?;
        let segment_bytes = segment_bytes.min(SEGMENT_BYTES_MAX);
        let writer =
            Self { storage, header, file, len: Header::LEN as u64, next: recovery.end, segment_bytes };
        Ok((writer, recovery))
    }

    /// The number of this run.
    pub(crate) fn boot(&self) -> u32 {
        self.header.boot
    }

    /// The position of the next record.
    pub(crate) fn next_position(&self) -> Position {
        self.next
    }

    /// Writes the records and returns once they are on stable storage. `received` is when the first of them arrived.
    ///
    /// After an error the writer must not be used again: what is in the file, and in the system's memory of it, is unknown.
    pub(crate) fn commit(&mut self, frame: &mut CommitFrame, received: UnixTime) -> Result<(), WriteError> {
        let has_records = self.header.first < self.next;
        // A run may end behind any commit, and a segment that is too large with its mark could never be read again.
        let with_mark = self.len + frame.file_bytes() + CommitFrame::default().file_bytes();
        if has_records && with_mark > self.segment_bytes {
            let header = Header { first: self.next, created: received, ..self.header };
            self.file = begin_segment(&self.storage, header)?;
            self.header = header;
            self.len = Header::LEN as u64;
        }
        self.append(frame)
    }

    /// Marks the orderly end of the run.
    pub(crate) fn close(mut self) -> Result<(), WriteError> {
        self.append(&mut CommitFrame::default())
    }

    /// One write, one sync.
    fn append(&mut self, frame: &mut CommitFrame) -> Result<(), WriteError> {
        let path = || self.storage.path(&segment_name(self.header.first));
        self.file.append(frame.seal(self.next)).map_err(|source| WriteError::new("write", path(), source))?;
        self.file.sync_data().map_err(|source| WriteError::new("sync", path(), source))?;
        self.len += frame.file_bytes();
        self.next = Position(self.next.0 + u64::from(frame.records()));
        Ok(())
    }
}

impl WriteError {
    fn new(doing: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self { doing, path, source: Arc::new(source) }
    }
}

/// Puts a segment without records in place.
///
/// One may stand there already, begun by a run that wrote nothing; its successor has a later run number.
fn begin_segment<S: Storage>(storage: &S, header: Header) -> Result<S::File, WriteError> {
    let name = segment_name(header.first);
    storage::place_file(storage, &name, &header.to_bytes())
        .map_err(|source| WriteError::new("begin", storage.path(&name), source))
}

/// Checks the headers of all segments and the content of the last, and brings that one in order.
fn recover<S: Storage>(storage: &S) -> Result<(Option<Header>, Recovery), OpenError> {
    let segments = catalog::segments(storage)?;
    let mut last: Option<Header> = None;
    for &first in &segments {
        let header = catalog::header(storage, first)?;
        if let Some(earlier) = last {
            catalog::check_order(storage, earlier, header)?;
        }
        last = Some(header);
    }
    let mut recovery =
        Recovery { end: Position(0), segments: segments.len(), torn_bytes_cut: 0, clean: true };
    if let Some(header) = last {
        mend_last(storage, header.first, &mut recovery)?;
    }
    Ok((last, recovery))
}

/// Cuts an unfinished commit off the last segment, and makes sure that what stays is on stable storage.
///
/// If a sync failed in the last run, the system may show bytes that are not on the disk and never will be. Only the last commit can
/// be such: it is written and synced again, unless an orderly end behind it proves that it was synced.
fn mend_last<S: Storage>(storage: &S, first: Position, recovery: &mut Recovery) -> Result<(), OpenError> {
    let name = segment_name(first);
    let mut segment = catalog::load(storage, first)?;
    let damaged = |damage| ReadError::Damaged { path: storage.path(&name), damage };
    let (last_commit, ending) = walk(&mut segment).map_err(damaged)?;
    recovery.end = segment.next_position();
    let cut = match ending {
        Ending::Closed => return Ok(()),
        Ending::Whole => 0,
        Ending::Unfinished { bytes, .. } => bytes,
    };
    (recovery.clean, recovery.torn_bytes_cut) = (false, cut);
    storage
        .rewrite_end(&name, last_commit, between(segment.bytes(), last_commit, cut))
        .map_err(|source| WriteError::new("mend", storage.path(&name), source).into())
}

/// Walks to the end of a segment: where its last whole commit starts (or the header, if there is none), and how it ends.
fn walk(segment: &mut Segment<Vec<u8>>) -> Result<(u64, Ending), Damage> {
    let mut last_commit = 0;
    loop {
        match segment.next_commit()? {
            Next::Commit(commit) => last_commit = commit.offset(),
            Next::End(ending) => return Ok((last_commit, ending)),
        }
    }
}

/// The bytes from `offset` on, without the last `cut`.
fn between(bytes: &[u8], offset: u64, cut: u64) -> &[u8] {
    let range = usize::try_from(offset).ok().zip(usize::try_from(bytes.len() as u64 - cut).ok());
    range.and_then(|(from, to)| bytes.get(from..to)).expect("the commits of a segment lie inside of it")
}

#[cfg(test)]
mod tests;

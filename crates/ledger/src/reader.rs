//! Reads a share log from its files, every checksum verified.

use std::path::Path;
use std::vec;

use adit_channel::ShareRecord;

use crate::catalog::{self, ReadError, segment_name};
use crate::segment::{Damage, Ending, Header, Next, Position, Segment};
use crate::storage::{Directory, Storage};

/// Reads all records in a directory, in order, while a writer may be at work there.
///
/// # Errors
///
/// If there is no such directory or it cannot be listed.
pub fn read(dir: &Path) -> Result<Records<Directory>, ReadError> {
    read_from(dir, Position(0))
}

/// Reads the records from a position on; files that end before it are not opened.
///
/// # Errors
///
/// If there is no such directory or it cannot be listed.
pub fn read_from(dir: &Path, start: Position) -> Result<Records<Directory>, ReadError> {
    read_in(Directory::view(dir)?, start)
}

/// Reads the records of a log that lies in any kind of storage, from a position on.
///
/// # Errors
///
/// If the storage cannot be listed.
pub fn read_in<S: Storage>(storage: S, start: Position) -> Result<Records<S>, ReadError> {
    let mut segments = catalog::segments(&storage)?;
    // The last segment that starts at or before `start` holds it.
    let skipped = segments.partition_point(|&first| first <= start).saturating_sub(1);
    segments.drain(..skipped);
    Ok(Records {
        storage,
        segments: segments.into_iter(),
        current: None,
        commit: Vec::new().into_iter(),
        start,
        unfinished_bytes: 0,
        ended: false,
    })
}

/// The records of a share log in order, each with its position; ends after the first error.
///
/// A commit that is not finished ends the iteration without an error: it belongs to a writer at work or is left over from a crash,
/// and none of it has been acknowledged.
#[derive(Debug)]
pub struct Records<S> {
    storage: S,
    /// The segments that have not been opened.
    segments: vec::IntoIter<Position>,
    current: Option<Segment<Vec<u8>>>,
    /// What is left of the commit being read.
    commit: vec::IntoIter<(Position, ShareRecord)>,
    /// Records before it are passed over.
    start: Position,
    unfinished_bytes: u64,
    ended: bool,
}

impl<S: Storage> Records<S> {
    /// After the last record: how many bytes of an unfinished commit follow it.
    #[must_use]
    pub fn unfinished_bytes(&self) -> u64 {
        self.unfinished_bytes
    }

    /// Takes one step towards the next record: a commit, or a file. False at the end of the log.
    fn advance(&mut self) -> Result<bool, ReadError> {
        let Some(segment) = &mut self.current else { return self.open_first() };
        let header = segment.header();
        let (ending, end) = match segment.next_commit() {
            Ok(Next::Commit(commit)) => {
                let records: Result<Vec<_>, _> = commit.records().collect();
                self.commit = records.map_err(|damage| self.damaged(header, damage))?.into_iter();
                return Ok(true);
            }
            Ok(Next::End(ending)) => (ending, segment.next_position()),
            Err(damage) => return Err(self.damaged(header, damage)),
        };
        self.open_next(header, ending, end)
    }

    /// Opens the segment that holds the start.
    fn open_first(&mut self) -> Result<bool, ReadError> {
        match self.segments.next() {
            None => self.finish(Position(0)),
            Some(first) if first > self.start => Err(self.gap(self.start, first)),
            Some(first) => {
                self.current = Some(catalog::load(&self.storage, first)?);
                Ok(true)
            }
        }
    }

    /// Opens the segment behind one that ended at position `end`.
    fn open_next(&mut self, header: Header, ending: Ending, end: Position) -> Result<bool, ReadError> {
        let path = |first| self.storage.path(&segment_name(first));
        match (self.segments.next(), ending) {
            (None, Ending::Unfinished { bytes, .. }) => {
                self.unfinished_bytes = bytes;
                self.finish(end)
            }
            (None, Ending::Closed | Ending::Whole) => self.finish(end),
            (Some(_), Ending::Unfinished { offset, .. }) => {
                Err(ReadError::BreaksOff { path: path(header.first), offset })
            }
            (Some(first), _) if first > end => Err(self.gap(end, first)),
            (Some(first), _) if first < end => Err(ReadError::Overlap { path: path(first), first }),
            (Some(first), Ending::Closed | Ending::Whole) => {
                let segment = catalog::load(&self.storage, first)?;
                catalog::check_order(&self.storage, header, segment.header())?;
                self.current = Some(segment);
                Ok(true)
            }
        }
    }

    /// Ends the iteration, unless the caller knows of records that are not there.
    fn finish(&self, end: Position) -> Result<bool, ReadError> {
        if end < self.start { Err(ReadError::EndsEarly { end, start: self.start }) } else { Ok(false) }
    }

    fn gap(&self, missing: Position, found: Position) -> ReadError {
        ReadError::Gap { path: self.storage.path(&segment_name(found)), missing, found }
    }

    fn damaged(&self, header: Header, damage: Damage) -> ReadError {
        ReadError::Damaged { path: self.storage.path(&segment_name(header.first)), damage }
    }
}

impl<S: Storage> Iterator for Records<S> {
    type Item = Result<(Position, ShareRecord), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let start = self.start;
            if let Some(item) = self.commit.find(|(position, _)| *position >= start) {
                return Some(Ok(item));
            }
            match self.advance() {
                Ok(more) => self.ended = !more,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

//! Which segment files a log consists of, and whether they fit together.

use std::io;
use std::path::PathBuf;

use crate::segment::{Damage, Header, Position, SEGMENT_BYTES_MAX, Segment};
use crate::storage::{DirectoryError, Storage};

/// Why a share log cannot be read.
///
/// Nothing was changed. Every variant but the first two means that records which were acknowledged may be lost, so a program must not
/// go on without an operator; `docs/share-log.md` says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file is damaged where it was durable.
    #[error("share log file {} is damaged at {damage}; restore this file from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// A file is larger than any segment.
    #[error("{} is larger than any share log file can be; restore this file from a copy", .0.display())]
    TooLarge(PathBuf),
    /// A file's name and its content disagree.
    #[error("share log file {} holds records from position {first} on; give it back its own name", path.display())]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// The position of the first record in it.
        first: Position,
    },
    /// Records are missing between two files, or before the first.
    #[error("share log records {missing} up to {found} are missing before {}; restore the files that held them", path.display())]
    Gap {
        /// The file behind the gap.
        path: PathBuf,
        /// The first missing position.
        missing: Position,
        /// The first position that is there again.
        found: Position,
    },
    /// Two files hold the same positions.
    #[error("share log file {} starts at position {first}, which an earlier file holds too; remove the one that is foreign", path.display())]
    Overlap {
        /// The later file.
        path: PathBuf,
        /// Its first position.
        first: Position,
    },
    /// A file ends in the middle of a commit and is not the last.
    #[error("share log file {} breaks off at byte {offset} although a later file exists; restore this file from a copy", path.display())]
    BreaksOff {
        /// The file.
        path: PathBuf,
        /// Where the unfinished commit starts.
        offset: u64,
    },
    /// The log ends before records that the reader knows of.
    #[error(
        "share log ends at position {end}, but records up to {start} were read before; restore the files that held them"
    )]
    EndsEarly {
        /// The position behind the last record.
        end: Position,
        /// The position to start from.
        start: Position,
    },
    /// Files of several servers, or of runs in the wrong order, lie in one directory.
    #[error("share log file {} is of instance {}, start {}, and does not belong behind the file before it; remove the one that is foreign", path.display(), header.instance, header.boot)]
    Foreign {
        /// The later file.
        path: PathBuf,
        /// What it says about itself.
        header: Header,
    },
}

/// The name of the segment that starts at a position.
pub(crate) fn segment_name(first: Position) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}", first = first.0)
}

const PREFIX: &str = "shares-";
const SUFFIX: &str = ".log";

/// The position in a segment's name; `None` for names of other files.
fn position_in(name: &str) -> Option<Position> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let position = Position(digits.parse().ok()?);
    (segment_name(position) == name).then_some(position)
}

/// The first positions of all segments, in order.
///
/// # Errors
///
/// If the directory cannot be listed.
pub(crate) fn segments<S: Storage>(storage: &S) -> Result<Vec<Position>, ReadError> {
    let names = storage.list().map_err(|source| ReadError::Io { path: storage.path(""), source })?;
    let mut positions: Vec<_> = names.iter().filter_map(|name| position_in(name)).collect();
    positions.sort_unstable();
    Ok(positions)
}

/// Reads the header of the segment that starts at `first`, and checks it against its name.
///
/// # Errors
///
/// If the file cannot be read, is damaged there, or has the wrong name.
pub(crate) fn header<S: Storage>(storage: &S, first: Position) -> Result<Header, ReadError> {
    let (name, path) = (segment_name(first), || storage.path(&segment_name(first)));
    let bytes =
        storage.read(&name, Header::LEN as u64).map_err(|source| ReadError::Io { path: path(), source })?;
    let header = Header::from_bytes(&bytes).map_err(|damage| ReadError::Damaged { path: path(), damage })?;
    if header.first != first {
        return Err(ReadError::Misnamed { path: path(), first: header.first });
    }
    Ok(header)
}

/// Reads the segment that starts at `first` into memory.
///
/// # Errors
///
/// As [`header`], and if the file is larger than a segment can be.
pub(crate) fn load<S: Storage>(storage: &S, first: Position) -> Result<Segment<Vec<u8>>, ReadError> {
    header(storage, first)?;
    let (name, path) = (segment_name(first), || storage.path(&segment_name(first)));
    let bytes = storage
        .read(&name, SEGMENT_BYTES_MAX + 1)
        .map_err(|source| ReadError::Io { path: path(), source })?;
    if bytes.len() as u64 > SEGMENT_BYTES_MAX {
        return Err(ReadError::TooLarge(path()));
    }
    Segment::parse(bytes).map_err(|damage| ReadError::Damaged { path: path(), damage })
}

/// Checks that `later` can be the segment behind `earlier`.
///
/// # Errors
///
/// If they are of different servers, or the run of the later one is the earlier one.
pub(crate) fn check_order<S: Storage>(storage: &S, earlier: Header, later: Header) -> Result<(), ReadError> {
    if later.instance == earlier.instance && later.boot >= earlier.boot {
        return Ok(());
    }
    Err(ReadError::Foreign { path: storage.path(&segment_name(later.first)), header: later })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_like_positions_and_nothing_else_is_a_segment() {
        assert_eq!(segment_name(Position(7)), "shares-00000000000000000007.log");
        for position in [0, 7, u64::MAX] {
            assert_eq!(position_in(&segment_name(Position(position))), Some(Position(position)));
        }
        assert!(segment_name(Position(u64::MAX)) > segment_name(Position(99)));
        for name in
            ["lock", "shares-7.log", "shares-00000000000000000007.log.new", "shares-+0000000000000000007.log"]
        {
            assert_eq!(position_in(name), None, "{name}");
        }
    }
}

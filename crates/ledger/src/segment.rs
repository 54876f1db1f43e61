//! The bytes of one segment file; `docs/share-log.md` shows them as tables.
//!
//! A segment is a header and then commits. A commit is what one sync made durable: a header with its own checksum and a row
//! of records, each with its checksum. One commit is written only after the one before it has been synced, so at most the last
//! commit of the last segment can be unfinished; damage anywhere else is damage to what was durable.

mod record;

use core::fmt;

use adit_channel::ShareRecord;
use adit_units::UnixTime;

pub use self::record::EncodedRecords;
use self::record::frames;
use crate::fields::Fields;

/// The number of a record in the log: how many records stand before it, over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position behind that many further records, or `None` if there is no such number.
    #[must_use]
    pub fn checked_add(self, records: u64) -> Option<Self> {
        self.0.checked_add(records).map(Self)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The version of the layout that this module reads and writes.
pub const FORMAT_VERSION: u16 = 1;

/// The most bytes of records that one commit carries: the size at which gathering stops, and one append on top.
pub const COMMIT_BODY_MAX: usize = COMMIT_GATHER_BYTES + EncodedRecords::LEN_MAX;

/// A commit that has gathered this many bytes takes no further append.
pub(crate) const COMMIT_GATHER_BYTES: usize = 1 << 20;

/// The most bytes that a segment file may have; a reader holds one segment in memory.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Starts every segment file; the first byte shows that it is not text.
const SEGMENT_MAGIC: [u8; 8] = *b"\x8aADITLOG";

/// Starts every commit. The zero and the byte that is not UTF-8 cannot stand in a name, so no miner can make a name look like one.
const COMMIT_MAGIC: [u8; 4] = [0xc1, 0x00, 0xad, 0x17];

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The server that writes the log.
    pub instance: u16,
    /// How many times that server had started before.
    pub boot: u32,
    /// The position of the first record in this file.
    pub first: Position,
    /// When the server started, or for a later segment of the same run, when its first record was received.
    pub created: UnixTime,
}

impl Header {
    /// Length of [`Self::to_bytes`], in bytes.
    pub const LEN: usize = 36;

    /// The header as it stands in the file.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = SEGMENT_MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.instance.to_le_bytes());
        bytes.extend_from_slice(&self.boot.to_le_bytes());
        bytes.extend_from_slice(&self.first.0.to_le_bytes());
        bytes.extend_from_slice(&self.created.to_millis().to_le_bytes());
        with_checksum(bytes)
    }

    /// Reads the header at the start of a file.
    ///
    /// # Errors
    ///
    /// If the file is not a segment, was written in another version of the format, or is damaged here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields(bytes);
        let magic = fields.array();
        if magic != Some(SEGMENT_MAGIC) {
            return Err(Damage { offset: 0, fault: Fault::NotASegment });
        }
        let checksum = Damage { offset: 0, fault: Fault::HeaderChecksum };
        let version = fields.array().map(u16::from_le_bytes).ok_or(checksum)?;
        if version != FORMAT_VERSION {
            return Err(Damage { offset: 8, fault: Fault::Version(version) });
        }
        let header = Self::after_version(&mut fields).ok_or(checksum)?;
        // One layout, one reading: the header is good exactly if these bytes are what it would be written as.
        if bytes.first_chunk() == Some(&header.to_bytes()) { Ok(header) } else { Err(checksum) }
    }

    /// Reads the fields behind the version.
    fn after_version(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            instance: u16::from_le_bytes(fields.array()?),
            boot: u32::from_le_bytes(fields.array()?),
            first: Position(u64::from_le_bytes(fields.array()?)),
            created: UnixTime::from_millis(u64::from_le_bytes(fields.array()?)),
        })
    }
}

/// What stands before the records of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CommitHeader {
    /// Bytes of all its records.
    body_len: u32,
    /// The position of its first record.
    first: Position,
    /// How many records it has; none at all marks the orderly end of a run.
    records: u32,
}

impl CommitHeader {
    const LEN: usize = 24;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = COMMIT_MAGIC.to_vec();
        bytes.extend_from_slice(&self.body_len.to_le_bytes());
        bytes.extend_from_slice(&self.first.0.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        with_checksum(bytes)
    }

    /// The header at the start of `bytes`, if there is one and its checksum matches.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.array() != Some(COMMIT_MAGIC) {
            return None;
        }
        let header = Self {
            body_len: u32::from_le_bytes(fields.array()?),
            first: Position(u64::from_le_bytes(fields.array()?)),
            records: u32::from_le_bytes(fields.array()?),
        };
        (bytes.first_chunk() == Some(&header.to_bytes())).then_some(header)
    }
}

/// The fields of a header and behind them the checksum that covers them.
fn with_checksum<const LEN: usize>(mut fields: Vec<u8>) -> [u8; LEN] {
    fields.extend_from_slice(&crc32c::crc32c(&fields).to_le_bytes());
    fields.try_into().expect("LEN is the length of all fields and the checksum")
}

/// A commit in the making: records are gathered, then it is sealed with its position and written in one piece.
#[derive(Debug)]
pub struct CommitFrame {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    records: u32,
}

impl Default for CommitFrame {
    fn default() -> Self {
        Self { bytes: vec![0; CommitHeader::LEN], records: 0 }
    }
}

impl CommitFrame {
    /// Adds the records of one append.
    ///
    /// # Panics
    ///
    /// If it holds more than 2^32 records; callers stop when it [is full](Self::is_full).
    pub fn push(&mut self, records: &EncodedRecords) {
        self.bytes.extend_from_slice(records.bytes());
        self.records += records.count();
    }

    /// Whether no further append is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= COMMIT_GATHER_BYTES
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes in the file, header and all.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Fills in the header and gives the bytes to write; a frame without records becomes the mark of an orderly end.
    ///
    /// # Panics
    ///
    /// If it holds more than 2^32 bytes; callers stop when it [is full](Self::is_full).
    pub fn seal(&mut self, first: Position) -> &[u8] {
        let body_len =
            u32::try_from(self.bytes.len() - CommitHeader::LEN).expect("a commit is never so large");
        let header = CommitHeader { body_len, first, records: self.records };
        if let Some(start) = self.bytes.first_chunk_mut() {
            *start = header.to_bytes();
        }
        &self.bytes
    }

    /// Drops the records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(CommitHeader::LEN);
        self.records = 0;
    }
}

/// Something that cannot be in a file which was written and kept as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {fault}")]
pub struct Damage {
    /// Where it starts, in bytes from the start of the file.
    pub offset: u64,
    /// What it is.
    pub fault: Fault,
}

/// The ways in which a segment file can be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first bytes are not those of a segment.
    #[error("the file does not start like a segment of a share log")]
    NotASegment,
    /// The layout is not the one known here.
    #[error("format version {0} is unknown here; use the version of the program that wrote it")]
    Version(u16),
    /// The segment header is damaged.
    #[error("the segment header is damaged")]
    HeaderChecksum,
    /// A commit header is damaged, and more follows than could be the rest of one unfinished commit.
    #[error("a commit header is damaged and later commits follow it")]
    CommitHeader,
    /// A commit does not continue where the one before it ended.
    #[error("a commit starts at position {found} where {expected} was due")]
    CommitPosition {
        /// The position in the commit header.
        found: Position,
        /// The position behind the last record before it.
        expected: Position,
    },
    /// The numbers in a commit header do not fit its records, or any commit.
    #[error("the size or count in a commit header does not fit its records")]
    CommitExtent,
    /// A record is damaged, and later commits follow.
    #[error("a record is damaged and later commits follow it")]
    RecordChecksum,
    /// A record has a good checksum and cannot be understood all the same.
    #[error("a record has a good checksum and makes no sense")]
    Record,
    /// Something stands behind the mark of an orderly end.
    #[error("bytes follow the mark of an orderly end")]
    AfterEnd,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the mark of an orderly end.
    Closed,
    /// With a whole commit, or with the header.
    Whole,
    /// With a commit that was not finished.
    Unfinished {
        /// Where that commit starts, in bytes from the start of the file.
        offset: u64,
        /// How many bytes of it there are.
        bytes: u64,
    },
}

/// The next thing in a segment.
#[derive(Debug)]
pub enum Next<'a> {
    /// A commit whose checksums all match.
    Commit(Commit<'a>),
    /// Nothing more.
    End(Ending),
}

/// A commit whose checksums all match.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    first: Position,
    offset: u64,
    body: &'a [u8],
}

impl<'a> Commit<'a> {
    /// Where it starts, in bytes from the start of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its records with their positions.
    pub fn records(&self) -> impl Iterator<Item = Result<(Position, ShareRecord), Damage>> + use<'a> {
        let (first, start) = (self.first.0, self.offset + CommitHeader::LEN as u64);
        frames(self.body).zip(0_u64..).map(move |((offset, payload), index)| {
            let damage = Damage { offset: start + offset as u64, fault: Fault::Record };
            let record = payload.and_then(record::decode).ok_or(damage)?;
            let position = Position(first).checked_add(index).ok_or(damage)?;
            Ok((position, record))
        })
    }
}

/// Walks over the commits of one segment file that lies in memory.
#[derive(Debug)]
pub struct Segment<B> {
    bytes: B,
    header: Header,
    /// Where the next commit starts.
    offset: usize,
    /// The position of the next record.
    next: Position,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// As [`Header::from_bytes`].
    pub fn parse(bytes: B) -> Result<Self, Damage> {
        let header = Header::from_bytes(bytes.as_ref())?;
        Ok(Self { bytes, header, offset: Header::LEN, next: header.first })
    }

    /// What the segment says about itself.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The position of the record that would come next.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.next
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Steps over the next commit; at the end every further call gives the same end.
    ///
    /// # Errors
    ///
    /// If something is damaged that cannot be the rest of an unfinished commit. Every further call gives the same error.
    pub fn next_commit(&mut self) -> Result<Next<'_>, Damage> {
        let rest = self.bytes.as_ref().get(self.offset..).unwrap_or_default();
        let header = match look(rest, self.next, self.offset)? {
            Look::Commit(header) => header,
            Look::End(ending) => return Ok(Next::End(ending)),
        };
        let commit_extent = Damage { offset: self.offset as u64, fault: Fault::CommitExtent };
        let next = self.next.checked_add(header.records.into()).ok_or(commit_extent)?;
        let body = rest.get(CommitHeader::LEN..commit_len(header)).ok_or(commit_extent)?;
        let commit = Commit { first: self.next, offset: self.offset as u64, body };
        self.offset += commit_len(header);
        self.next = next;
        Ok(Next::Commit(commit))
    }
}

/// What stands at a place where a commit may start.
enum Look {
    Commit(CommitHeader),
    End(Ending),
}

/// Finds out what stands at the start of `rest`, which lies `offset` bytes into the file, where position `next` is due.
fn look(rest: &[u8], next: Position, offset: usize) -> Result<Look, Damage> {
    let damage = |at: usize, fault| Err(Damage { offset: (offset + at) as u64, fault });
    let unfinished = Look::End(Ending::Unfinished { offset: offset as u64, bytes: rest.len() as u64 });
    if rest.is_empty() {
        return Ok(Look::End(Ending::Whole));
    }
    let Some(header) = CommitHeader::from_bytes(rest) else {
        let followed = rest.len() > CommitHeader::LEN + COMMIT_BODY_MAX || holds_commit(rest, next);
        return if followed { damage(0, Fault::CommitHeader) } else { Ok(unfinished) };
    };
    if header.first != next {
        return damage(0, Fault::CommitPosition { found: header.first, expected: next });
    }
    if header.body_len as usize > COMMIT_BODY_MAX || (header.records == 0) != (header.body_len == 0) {
        return damage(0, Fault::CommitExtent);
    }
    let Some((body, behind)) =
        rest.get(CommitHeader::LEN..).and_then(|r| r.split_at_checked(header.body_len as usize))
    else {
        return Ok(unfinished);
    };
    match (header.records, check_body(body)) {
        (0, _) if behind.is_empty() => Ok(Look::End(Ending::Closed)),
        (0, _) => damage(CommitHeader::LEN, Fault::AfterEnd),
        (expected, Ok(found)) if found == expected => Ok(Look::Commit(header)),
        (_, Ok(_)) => damage(0, Fault::CommitExtent),
        (_, Err(_)) if behind.is_empty() => Ok(unfinished),
        (_, Err(at)) => damage(CommitHeader::LEN + at, Fault::RecordChecksum),
    }
}

/// The number of records in a commit's body, or where the first one starts whose checksum does not match.
fn check_body(body: &[u8]) -> Result<u32, usize> {
    frames(body).try_fold(0, |count, (at, fields)| fields.map(|_| count + 1).ok_or(at))
}

/// Bytes of a whole commit.
fn commit_len(header: CommitHeader) -> usize {
    CommitHeader::LEN + header.body_len as usize
}

/// Whether a commit of a later position starts anywhere behind the first byte.
///
/// One commit is written only after the one before it was synced: if there is a later one, what stands before it was durable.
fn holds_commit(bytes: &[u8], next: Position) -> bool {
    let later = |window: &[u8]| CommitHeader::from_bytes(window).is_some_and(|header| header.first >= next);
    bytes.windows(CommitHeader::LEN).skip(1).any(later)
}

#[cfg(test)]
mod tests;

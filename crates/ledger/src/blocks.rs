//! Found blocks, kept on disk until it is known what became of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use adit_units::Height;

use crate::fields::Fields;
use crate::storage::{self, Directory, DirectoryError, Storage};

/// The most bytes of a serialised block: consensus allows a weight of four million, and a byte weighs at least one.
const BLOCK_BYTES_MAX: usize = 4_000_000;

/// Bytes around the block in its file.
const WRAPPING_LEN: usize = 8 + 2 + 4 + 32 + 4 + 4;

/// Starts every block file; the first byte shows that it is not text.
const MAGIC: [u8; 8] = *b"\x8aADITBLK";

/// The version of the layout that this module reads and writes.
const FORMAT_VERSION: u16 = 1;

/// Ends the name of a block whose fate is not known.
const PENDING: &str = "pending";

/// The store of found blocks in one directory; the layout is described in `docs/share-log.md`.
///
/// A block is saved before or while it is handed to the nodes, handed to them again at every start while it is [pending](Self::pending),
/// and [settled](Self::settle) once it is known what became of it. No file is ever deleted. All methods block on the disk.
#[derive(Debug)]
pub struct BlockStore<S = Directory> {
    storage: S,
    /// One file is put in place at a time.
    placing: Mutex<()>,
}

/// A found block.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedBlock {
    /// The header's SHA-256d, in the order of the hash function's output.
    pub hash: [u8; 32],
    /// The block's height.
    pub height: Height,
    /// The whole block, as consensus serialises it.
    pub bytes: Vec<u8>,
}

/// What became of a block, once nothing more is to be done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFate {
    /// It is buried in the best chain.
    InChain,
    /// Another block of its height is buried in the best chain.
    Stale,
    /// Every node that has decided says that it is not valid.
    Refused,
    /// No node could tell, and so many blocks have come since that asking on is of no use.
    Unknown,
}

/// The blocks whose fate is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// To be handed to the nodes again, lowest first.
    pub blocks: Vec<SavedBlock>,
    /// Cannot be read; an operator must look.
    pub damaged: Vec<DamagedBlock>,
}

/// A block file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found block {} cannot be read: {reason}; if it is not in the chain, restore this file from a copy", path.display())]
pub struct DamagedBlock {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockStoreError {
    /// The directory cannot be used, or is in use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file system refused. A block that was to be saved may not be there after a restart.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The caller's bytes are not a block.
    #[error("a block has at most {BLOCK_BYTES_MAX} bytes, this has {0}")]
    TooLarge(usize),
    /// The caller settles a block that is not pending.
    #[error("no block {0} is pending; it was settled before, or never saved")]
    NotPending(String),
}

impl BlockStore {
    /// Opens the store in a directory of the local file system, creating it if it is missing.
    ///
    /// # Errors
    ///
    /// If the directory is in use or cannot be written.
    pub fn open(dir: &Path) -> Result<Self, BlockStoreError> {
        Self::open_in(Directory::open(dir)?)
    }
}

impl<S: Storage> BlockStore<S> {
    /// Opens the store in any kind of storage.
    ///
    /// # Errors
    ///
    /// If what an interrupted save left behind cannot be removed.
    pub fn open_in(storage: S) -> Result<Self, BlockStoreError> {
        let failed = |source| BlockStoreError::Io { doing: "clean up", path: storage.path(""), source };
        storage::remove_leftovers(&storage).map_err(failed)?;
        Ok(Self { storage, placing: Mutex::new(()) })
    }

    /// Writes a block down, and returns once it is on stable storage and pending.
    ///
    /// `hash` is in the order of the hash function's output. Saving a block once more does no harm.
    ///
    /// # Errors
    ///
    /// If the disk fails or is full, or if `bytes` is larger than any block. The block must go out all the same.
    pub fn save(&self, hash: [u8; 32], height: Height, bytes: &[u8]) -> Result<(), BlockStoreError> {
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(BlockStoreError::TooLarge(bytes.len()));
        }
        let name = file_name(height, hash, PENDING);
        let _placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        match storage::place_file(&self.storage, &name, &wrap(hash, height, bytes)) {
            Ok(_) => Ok(()),
            Err(source) => Err(self.failed("save found block", &name, source)),
        }
    }

    /// The blocks whose fate is not known. One that cannot be read does not keep the others back.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed.
    pub fn pending(&self) -> Result<Pending, BlockStoreError> {
        let mut pending = Pending::default();
        for name in self.names("")? {
            let read = self.storage.read(&name, (BLOCK_BYTES_MAX + WRAPPING_LEN + 1) as u64);
            let block = read.map_err(|error| error.to_string()).and_then(|bytes| {
                unwrap(&bytes).ok_or_else(|| {
                    "its checksum does not match, or it was written by a newer version".to_owned()
                })
            });
            match block {
                Ok(block) => pending.blocks.push(block),
                Err(reason) => pending.damaged.push(DamagedBlock { path: self.storage.path(&name), reason }),
            }
        }
        Ok(pending)
    }

    /// Notes what became of a pending block, and returns once that is on stable storage. It is not pending any more.
    ///
    /// # Errors
    ///
    /// If no such block is pending, or if the disk fails; then it may be pending still after a restart.
    pub fn settle(&self, hash: [u8; 32], fate: BlockFate) -> Result<(), BlockStoreError> {
        let names = self.names(&hex(hash))?;
        let Some(name) = names.first() else { return Err(BlockStoreError::NotPending(hex(hash))) };
        let settled = format!("{}{}", name.trim_end_matches(PENDING), fate.suffix());
        let renamed = self.storage.rename(name, &settled).and_then(|()| self.storage.sync_directory());
        renamed.map_err(|source| self.failed("settle found block", name, source))
    }

    /// The names of the pending blocks that contain `part`, lowest height first.
    fn names(&self, part: &str) -> Result<Vec<String>, BlockStoreError> {
        let mut names = self.storage.list().map_err(|source| self.failed("list", "", source))?;
        names.retain(|name| name.ends_with(&format!(".{PENDING}")) && name.contains(part));
        names.sort_unstable();
        Ok(names)
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> BlockStoreError {
        BlockStoreError::Io { doing, path: self.storage.path(name), source }
    }
}

impl BlockFate {
    /// What the name of such a block's file ends with.
    fn suffix(self) -> &'static str {
        match self {
            Self::InChain => "in-chain",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl core::fmt::Debug for SavedBlock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SavedBlock({} at height {}, {} bytes)", hex(self.hash), self.height, self.bytes.len())
    }
}

/// Sorts by height, and names the block as explorers do.
fn file_name(height: Height, hash: [u8; 32], state: &str) -> String {
    format!("{:010}-{}.{state}", height.0, hex(hash))
}

/// A block's hash as nodes print it: the last byte first.
fn hex(hash: [u8; 32]) -> String {
    hash.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of a block's file.
fn wrap(hash: [u8; 32], height: Height, block: &[u8]) -> Vec<u8> {
    let len = u32::try_from(block.len()).expect("a block has at most four million bytes");
    let mut file = Vec::with_capacity(block.len() + WRAPPING_LEN);
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    file.extend_from_slice(&height.0.to_le_bytes());
    file.extend_from_slice(&hash);
    file.extend_from_slice(&len.to_le_bytes());
    file.extend_from_slice(block);
    file.extend_from_slice(&crc32c::crc32c(&file).to_le_bytes());
    file
}

/// The block in a file, if it is what [`wrap`] writes.
fn unwrap(file: &[u8]) -> Option<SavedBlock> {
    let (content, checksum) = file.split_last_chunk()?;
    let mut fields = Fields(content);
    let intact = *checksum == crc32c::crc32c(content).to_le_bytes()
        && fields.array()? == MAGIC
        && fields.array()? == FORMAT_VERSION.to_le_bytes();
    if !intact {
        return None;
    }
    let (height, hash) = (Height(u32::from_le_bytes(fields.array()?)), fields.array()?);
    let len = u32::from_le_bytes(fields.array()?);
    let bytes = fields.rest();
    (bytes.len() == len as usize).then(|| SavedBlock { hash, height, bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests;

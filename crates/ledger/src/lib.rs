//! The durable share log, and the store of found blocks: what a pool must never lose.
//!
//! [`open`] recovers the log in a directory and starts its one writer thread. Roles hand records to a [`ShareLog`] together with
//! a [`Durable`]; once one `fdatasync` has put the records of many connections on stable storage, exactly those connections
//! wake through their [`DurableWatch`] and acknowledge. [`read`] gives the records back in order. The bytes on disk are described in
//! `docs/share-log.md`.
//!
//! What holds, whatever the moment of a crash or a power cut, on a disk that does what a sync promises:
//!
//! * a record is counted durable only after a sync of the bytes that hold it has succeeded;
//! * a durable record is found again, at the same position, once;
//! * nothing is found that was not appended, and per caller the order is kept;
//! * after a write or a sync has failed, nothing is acknowledged any more, and no sync is tried again.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod blocks;
mod catalog;
mod completion;
mod fields;
mod log;
mod reader;
pub mod segment;
pub mod storage;
#[cfg(test)]
mod test_records;
mod unlogged;
mod writer;

pub use blocks::{BlockFate, BlockStore, BlockStoreError, DamagedBlock, Pending, SavedBlock};
pub use catalog::ReadError;
pub use completion::{Durable, DurableWatch, completion};
pub use log::{
    LogClosed, LogConfig, LogFailure, LogOutcome, LogProgress, Opened, ShareLog, ShareSink, open, open_in,
};
pub use reader::{Records, read, read_from, read_in};
pub use segment::Position;
pub use unlogged::Unlogged;
pub use writer::{OpenError, Recovery, WriteError};

//! From template to coinbase to job, and the judge of one share.
//!
//! A [`Template`] is what a node offers for the next block. With a [`CoinbaseSpec`] it makes one immutable [`Job`], which any
//! number of channels share. A channel holds an [`Assignment`] for each job (its target and its part of the extranonce) and a
//! [`Seen`] set; [`judge()`] weighs a [`Submission`], read straight from the frame's payload, against them and answers with a
//! [`Verdict`]. A share that is a block becomes a [`Block`], ready for every node.
//!
//! Shares that came together are better judged two at a time: [`check()`] each, hash both with [`Unhashed::hash_two`], and give
//! each with its hash to [`judge_hashed()`], in their order.
//!
//! Two promises hold on the path of a share: [`judge()`] never allocates, and nothing is hashed before every cheap check has
//! passed. Hashes are in their raw byte order everywhere, as headers carry them; only [`bitcoin::BlockHash`] prints them reversed.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

#[cfg(test)]
extern crate self as adit_share; // the fixture speaks of this crate from outside

mod assignment;
mod block;
mod coinbase;
mod declaration;
mod header;
mod job;
mod judge;
mod merkle;
mod reject;
mod seen;
mod seen_hashes;
mod sha256;
mod submission;
mod template;
mod transaction;

#[cfg(test)]
#[path = "../tests/judge/fixture.rs"]
mod fixture;

pub use assignment::{Assignment, Extranonce, ExtranonceLengthError};
pub use block::{Block, BlockError, HEADER_LEN};
pub use coinbase::{
    CoinbaseSpec, FULL_EXTRANONCE_LEN, MAX_COINBASE_PART_LEN, MAX_EXTRANONCE_LEN, MAX_SCRIPT_SIG_LEN,
    MAX_SIGNATURE_LEN, MIN_SCRIPT_SIG_LEN,
};
pub use declaration::{CoinbaseFields, Declaration, DeclarationError, DeclaredCoinbase};
pub use job::{Job, JobError, JobParts, MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT, MAX_MERKLE_PATH_LEN};
pub use judge::{
    Checked, MAX_FUTURE_NTIME_SECS, NETWORK_TIME_MARGIN_SECS, Unhashed, VERSION_ROLLING_MASK, Verdict, block,
    check, judge, judge_by_hash, judge_hashed,
};
pub use merkle::path as merkle_path;
pub use reject::Reject;
pub use seen::{BLOCK_ROOM, SEEN_MAX, Seen, SeenFull};
pub use seen_hashes::{SEEN_TIPS, SeenHashes};
pub use submission::{Submission, SubmissionError};
pub use template::{CoinbaseForm, Template, TemplateError, TemplateParts, Tip, witness_commitment};
pub use transaction::{RawTransaction, TransactionError};

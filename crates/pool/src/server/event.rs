//! What happens in a running pool that people want to see at once.

use adit_channel::{UserIdentity, WorkerName};
use adit_units::Height;
use bitcoin::BlockHash;

/// News for a live view; whoever reads too slowly misses the oldest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// There is work on a new tip.
    NewTip {
        /// Height of the block that is mined now.
        height: Height,
        /// The block it will stand on.
        prev_hash: BlockHash,
    },
    /// A miner found a block; it is on its way to the node.
    BlockFound {
        /// The block.
        hash: BlockHash,
        /// Its height.
        height: Height,
        /// Who found it.
        user: UserIdentity,
        /// The device that found it, where the miner names one.
        worker: Option<WorkerName>,
    },
    /// It is known what became of a found block.
    BlockSettled {
        /// The block.
        hash: BlockHash,
        /// Its height.
        height: Height,
        /// What became of it.
        outcome: BlockOutcome,
    },
}

/// What became of a found block, as far as a live view is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockOutcome {
    /// The node has put it into the best chain. A reorganisation may still take it out, which would be told as [`Self::Stale`].
    Accepted,
    /// Another block of its height won.
    Stale,
    /// The node says that it breaks a rule; with its words.
    Refused(String),
}

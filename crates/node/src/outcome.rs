//! What a node answers, whichever kind of node it is.

use std::sync::Arc;

use adit_units::Height;
use bitcoin::{BlockHash, Network};

use crate::NodeError;

/// What became of a block that was handed to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is the new end of the node's best chain.
    Accepted,
    /// The node had it already.
    AlreadyKnown,
    /// The node has not decided: it may keep the block beside the best chain, or it cannot judge it yet, because it is behind, and does not
    /// keep it. [`crate::Node::fate`] tells which; where that is [`Fate::Unknown`], hand it over again. With the node's word.
    Undecided(String),
    /// Of several nodes, some refuse the block and the others have not decided. To be treated as undecided, but a person should hear of it.
    Disputed {
        /// The words of those that have not decided.
        word: String,
        /// The reasons of those that refuse it.
        refused: String,
    },
    /// The block breaks a rule, or came too late. With the node's reason.
    Refused(String),
    /// The node could not be asked; it may have the block or not. With what to do about it.
    Unreachable(String),
}

/// What a node says of a block that nobody has solved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Solved, it would be accepted.
    Valid,
    /// It breaks a rule. With the node's reason.
    Refused(String),
    /// It does not stand on the node's last block, so the node cannot tell. With the node's word.
    Undecided(String),
    /// The node could not be asked. With what to do about it.
    Unreachable(String),
}

impl Checked {
    /// What the node's word on a proposal means (BIP 23); no word is a good one.
    pub(crate) fn from_word(word: Option<String>) -> Self {
        match word {
            None => Self::Valid,
            Some(word) if word.starts_with("inconclusive") => Self::Undecided(word),
            Some(word) => Self::Refused(word),
        }
    }
}

/// Where a block is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In the best chain.
    InChain {
        /// How many blocks stand for it, itself included; at least one.
        confirmations: u32,
    },
    /// Known, but not in the best chain: another block won, or it breaks a rule. A reorganisation may bring it back.
    Stale,
    /// The node has never had it; submit it again.
    Unknown,
    /// The node could not be asked. With what to do about it.
    Unreachable(String),
}

/// Whether templates come.
#[derive(Clone, Debug)]
pub enum Health {
    /// Not asked yet.
    Starting,
    /// The last question was answered with a good template or the news that there is none.
    Up,
    /// No template comes; the last one stays in force, and may be outdated.
    Down(Arc<NodeError>),
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The network that it is on; of a template provider, the configured one, as it cannot be asked.
    pub network: Network,
    /// The height of its last block.
    pub height: Height,
    /// The hash of its last block.
    pub best_block: BlockHash,
    /// Whether it is still downloading the chain, so that its last block may be old.
    pub initial_block_download: bool,
    /// Its name and version, as it tells its peers.
    pub user_agent: String,
    /// How many peers it has, where it tells.
    pub peers: Option<u32>,
    /// Why its templates cannot be used, if they cannot.
    pub trouble: Option<Arc<NodeError>>,
}

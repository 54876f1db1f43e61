//! The templates that the node keeps for us, so that it can be told of a solution by the coinbase alone.

use std::collections::VecDeque;

use adit_share::{Block, Template, merkle_path};
use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin_capnp_types::mining_capnp::block_template;

use super::link::Solution;

/// Most templates that the node keeps for us. They share their transactions with its mempool, and a refresh comes every half minute
/// at most, so this reaches well past the blocks that may still win.
const HELD_MAX: usize = 32;

/// What tells a template's blocks apart from those of others, whatever their coinbase and header are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    prev_hash: BlockHash,
    /// The coinbase's neighbours up the merkle tree, which stand for all other transactions.
    merkle_path: Vec<[u8; 32]>,
}

impl Content {
    /// The content of a template's blocks.
    pub(super) fn of(template: &Template) -> Self {
        Self { prev_hash: template.tip.prev_hash, merkle_path: template.merkle_path.clone() }
    }

    /// The content of a block with nothing but a coinbase.
    pub(super) const fn empty(prev_hash: BlockHash) -> Self {
        Self { prev_hash, merkle_path: Vec::new() }
    }
}

/// Templates in the node, the oldest first. One that is forgotten here is destroyed there once nothing waits for it.
#[derive(Default)]
pub(super) struct Held {
    templates: VecDeque<(Content, block_template::Client)>,
}

impl Held {
    /// Keeps a template, and forgets the oldest if there are too many.
    pub(super) fn keep(&mut self, content: Content, template: block_template::Client) {
        if self.templates.len() == HELD_MAX {
            self.templates.pop_front();
        }
        self.templates.push_back((content, template));
    }

    /// The newest template whose blocks have that content.
    pub(super) fn find(&self, content: &Content) -> Option<block_template::Client> {
        self.templates.iter().rev().find(|(known, _)| known == content).map(|(_, template)| template.clone())
    }
}

/// A solved block in the parts that a template is completed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    content: Content,
    header: Header,
    /// The whole coinbase, with its witness.
    coinbase: Vec<u8>,
}

impl Found {
    /// The parts of a block that was made of one of our templates.
    pub(crate) fn of(block: &Block) -> Option<Self> {
        let header = deserialize(block.header()).ok()?;
        Some(Self { content: Content::of(block.template()), header, coinbase: block.coinbase().to_vec() })
    }

    /// The parts of a block that is there as bytes; `None` if they are no block.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let block: bitcoin::Block = deserialize(bytes).ok()?;
        let (coinbase, others) = block.txdata.split_first()?;
        let txids = others.iter().map(|transaction| transaction.compute_txid().to_byte_array());
        let content = Content { prev_hash: block.header.prev_blockhash, merkle_path: merkle_path(txids) };
        Some(Self { content, header: block.header, coinbase: serialize(coinbase) })
    }

    pub(super) const fn content(&self) -> &Content {
        &self.content
    }

    pub(super) fn hash(&self) -> BlockHash {
        self.header.block_hash()
    }

    pub(super) fn solution(&self) -> Solution<'_> {
        Solution {
            version: self.header.version.to_consensus().cast_unsigned(),
            time: self.header.time,
            nonce: self.header.nonce,
            coinbase: &self.coinbase,
        }
    }
}

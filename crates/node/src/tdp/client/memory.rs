//! What one provider has told, for as long as a block may refer to it: templates, blocks that were handed over, and tips.

use std::collections::VecDeque;

use adit_share::{HEADER_LEN, Tip};
use adit_units::{Height, TemplateId};
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, deserialize_partial};
use bitcoin::{BlockHash, Transaction, TxMerkleNode, VarInt};

use super::super::solution::merkle_root;
use crate::Fate;

/// Most templates that are remembered, with which a found block is told to its provider.
pub const OFFERED_KEPT: usize = 128;
/// Most tips that are remembered: a block is in the chain for good long before as many have come.
pub const TIPS_KEPT: usize = 256;
/// Most blocks that are remembered as handed over.
pub const HANDED_KEPT: usize = 256;

/// A template that blocks can be made of, as far as that is needed to recognise one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The provider's number for it.
    pub id: TemplateId,
    /// The block that it stands on.
    pub prev_hash: BlockHash,
    /// The coinbase's neighbours up the merkle tree.
    pub merkle_path: Vec<[u8; 32]>,
}

/// A block in the parts that a solution names.
#[derive(Clone, Debug)]
pub(super) struct Solved<'a> {
    pub(super) header: Header,
    pub(super) hash: BlockHash,
    /// The whole coinbase, serialised with its witness.
    pub(super) coinbase: &'a [u8],
    transaction: Transaction,
}

impl<'a> Solved<'a> {
    /// Takes a serialised block apart; `None` if it is not one.
    pub(super) fn read(block: &'a [u8]) -> Option<Self> {
        let (header, body) = block.split_at_checked(HEADER_LEN)?;
        let header: Header = deserialize(header).ok()?;
        let (count, used) = deserialize_partial::<VarInt>(body).ok()?;
        let rest = body.get(used..).filter(|_| count.0 > 0)?;
        let (transaction, used) = deserialize_partial::<Transaction>(rest).ok()?;
        Some(Self { hash: header.block_hash(), header, coinbase: rest.get(..used)?, transaction })
    }

    fn is_of(&self, offered: &Offered) -> bool {
        let root: TxMerkleNode = merkle_root(&self.transaction, &offered.merkle_path);
        self.header.prev_blockhash == offered.prev_hash && self.header.merkle_root == root
    }
}

/// A block that the chain ended with, or that was handed over.
#[derive(Clone, Copy, Debug)]
struct Known {
    hash: BlockHash,
    height: Height,
}

/// What one provider has told, over all connections to it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    offered: VecDeque<Offered>,
    tips: VecDeque<Known>,
    handed: VecDeque<Known>,
}

impl Memory {
    /// Remembers a template.
    pub(super) fn note_offered(&mut self, offered: Offered) {
        push(&mut self.offered, offered, OFFERED_KEPT);
    }

    /// Remembers where the chain ends.
    pub(super) fn note_tip(&mut self, tip: &Tip) {
        let known = Known { hash: tip.prev_hash, height: Height(tip.height.0.saturating_sub(1)) };
        if self.tips.back().is_none_or(|last| last.hash != known.hash) {
            push(&mut self.tips, known, TIPS_KEPT);
        }
    }

    /// Remembers a block that was handed over, whose template stood on the tip of that time.
    pub(super) fn note_handed(&mut self, hash: BlockHash, height: Height) {
        if self.handed.iter().all(|known| known.hash != hash) {
            push(&mut self.handed, Known { hash, height }, HANDED_KEPT);
        }
    }

    /// The newest template that the block was made of, and the block's height if that is known.
    pub(super) fn find(&self, solved: &Solved<'_>) -> Option<TemplateId> {
        self.offered.iter().rev().find(|offered| solved.is_of(offered)).map(|offered| offered.id)
    }

    /// The height of a block on this one, if it was a tip.
    pub(super) fn height_on(&self, prev_hash: BlockHash) -> Option<Height> {
        let below = self.tips.iter().rev().find(|tip| tip.hash == prev_hash)?;
        Some(Height(below.height.0.saturating_add(1)))
    }

    /// Whether the provider has told of this block.
    pub(super) fn was_tip(&self, hash: BlockHash) -> bool {
        self.tips.iter().any(|tip| tip.hash == hash)
    }

    /// Where a block is, as far as the tips tell.
    ///
    /// A tip comes without the block that it stands on, and a node changes chains when the other one is a block longer. So once there is a
    /// higher tip, nobody can tell which of two blocks below is under it.
    pub(super) fn fate(&self, hash: BlockHash) -> Fate {
        let Some(newest) = self.tips.back() else {
            return Fate::Unreachable("the template provider has told of no block yet".to_owned());
        };
        if let Some(at) = self.tips.iter().rposition(|tip| tip.hash == hash) {
            let height = self.tips.get(at).map_or(0, |tip| tip.height.0);
            let mut later = self.tips.iter().skip(at + 1);
            return if newest.hash == hash {
                Fate::InChain { confirmations: 1 }
            } else if later.any(|tip| tip.height.0 <= height) {
                Fate::Stale
            } else {
                Fate::Unreachable("this protocol does not tell what later blocks stand on".to_owned())
            };
        }
        match self.handed.iter().find(|known| known.hash == hash) {
            Some(known) if newest.height < known.height => Fate::Unknown,
            Some(_) | None => {
                let reason =
                    "the template provider has not told of it; over this protocol it cannot be asked";
                Fate::Unreachable(reason.to_owned())
            }
        }
    }
}

/// Appends, and forgets the oldest beyond `most`.
fn push<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests;

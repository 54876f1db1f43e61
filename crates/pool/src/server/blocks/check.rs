//! A last look at a found block of which only the bytes are known.

use adit_ledger::SavedBlock;
use adit_share::MAX_BLOCK_WEIGHT;
use bitcoin::consensus;
use bitcoin::hashes::Hash as _;

/// What is wrong with a block that was put together elsewhere, or by an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlockFault {
    #[error("the block's bytes cannot be decoded: {0}")]
    Encoding(String),
    #[error("the block is not the one that it is kept as")]
    Hash,
    #[error("the block's hash does not meet the target in its header")]
    Work,
    #[error("the block does not have exactly one coinbase, in first place")]
    Coinbase,
    #[error("the block's coinbase does not carry the height that the block is for")]
    Height,
    #[error("the block's merkle root is not that of its transactions")]
    MerkleRoot,
    #[error("the block's witness commitment is not that of its transactions")]
    Commitment,
    #[error("the block weighs {0}, more than consensus allows")]
    Weight(u64),
}

/// Checks what can be checked without the chain and without the template. The bytes are decoded by another library than the one that put them
/// together.
pub(super) fn check(saved: &SavedBlock) -> Result<(), BlockFault> {
    let block: bitcoin::Block =
        consensus::deserialize(&saved.bytes).map_err(|error| BlockFault::Encoding(error.to_string()))?;
    let hash = block.block_hash();
    if hash.to_byte_array() != saved.hash {
        return Err(BlockFault::Hash);
    }
    if !block.header.target().is_met_by(hash) {
        return Err(BlockFault::Work);
    }
    let is_coinbase = bitcoin::Transaction::is_coinbase;
    let is_right = block
        .txdata
        .split_first()
        .is_some_and(|(first, others)| is_coinbase(first) && !others.iter().any(is_coinbase));
    if !is_right {
        return Err(BlockFault::Coinbase);
    }
    // Below height 17 the height is one opcode, which the library does not read.
    if saved.height.0 > 16 && block.bip34_block_height().ok() != Some(u64::from(saved.height.0)) {
        return Err(BlockFault::Height);
    }
    if !block.check_merkle_root() {
        return Err(BlockFault::MerkleRoot);
    }
    if !block.check_witness_commitment() {
        return Err(BlockFault::Commitment);
    }
    match block.weight().to_wu() {
        weight if weight > MAX_BLOCK_WEIGHT => Err(BlockFault::Weight(weight)),
        _ => Ok(()),
    }
}

//! A found block: its bytes for the nodes, and a last look at it by other eyes.

use core::fmt;
use std::sync::Arc;

use adit_units::{Height, Sats};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::hex::DisplayHex as _;
use bitcoin::{BlockHash, consensus};

use crate::coinbase::{self, height_push};
use crate::{MAX_BLOCK_WEIGHT, MAX_SCRIPT_SIG_LEN, MIN_SCRIPT_SIG_LEN, Template};

/// Length of a block's header, in bytes.
pub const HEADER_LEN: usize = 80;

/// A found block that the network would refuse; this program is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The bytes are not a block.
    #[error("the block's bytes cannot be decoded: {0}")]
    Encoding(String),
    /// The header's hash does not meet the target.
    #[error("the block's hash does not meet the target of its height")]
    Work,
    /// The header does not stand on the template's tip, or carries another difficulty.
    #[error("the block's header does not stand on the tip of its template")]
    Tip,
    /// The header's time is before the smallest that the tip allows.
    #[error("the block's time is not after the median of the blocks before it")]
    Time,
    /// The header does not commit to the transactions.
    #[error("the block's merkle root is not that of its transactions")]
    MerkleRoot,
    /// The coinbase does not commit to the witnesses.
    #[error("the block's witness commitment is not that of its transactions")]
    Commitment,
    /// The first transaction is no coinbase, or another one is.
    #[error("the block does not have exactly one coinbase, in first place")]
    Coinbase,
    /// The coinbase's input script does not begin with the height, or has not 2 to 100 bytes.
    #[error("the block's coinbase does not carry the height as consensus wants it")]
    Height,
    /// The coinbase does not create exactly what the template allows.
    #[error("the block's coinbase creates {0}, not what its template allows")]
    Value(Sats),
    /// The block is heavier than consensus allows.
    #[error("the block weighs {0}, more than consensus allows")]
    Weight(u64),
}

/// A found block.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// The header's hash.
    pub hash: BlockHash,
    /// The height that it will have in the chain.
    pub height: Height,
    header: [u8; HEADER_LEN],
    coinbase: Vec<u8>,
    template: Arc<Template>,
}

impl Block {
    /// The block of a header and a coinbase that somebody else has put together, on what `template` offers.
    ///
    /// `coinbase` is the whole transaction, with its witness where the template commits to witnesses. Nothing is checked here; see [`Self::check`].
    #[must_use]
    pub fn from_coinbase(header: [u8; HEADER_LEN], coinbase: Vec<u8>, template: Arc<Template>) -> Self {
        Self::new(header, coinbase, template)
    }

    pub(crate) fn new(header: [u8; HEADER_LEN], coinbase: Vec<u8>, template: Arc<Template>) -> Self {
        let hash = BlockHash::from_raw_hash(sha256d::Hash::hash(&header));
        Self { hash, height: template.tip.height, header, coinbase, template }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &[u8; HEADER_LEN] {
        &self.header
    }

    /// The coinbase transaction, with its witness if it has one.
    #[must_use]
    pub fn coinbase(&self) -> &[u8] {
        &self.coinbase
    }

    /// The template that it was mined from.
    #[must_use]
    pub const fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// The whole block, consensus-serialised.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let transactions = &self.template.transactions;
        let count = consensus::serialize(&bitcoin::VarInt::from(transactions.len() + 1));
        let others: usize = transactions.iter().map(|tx| tx.as_bytes().len()).sum();
        let mut bytes = Vec::with_capacity(HEADER_LEN + count.len() + self.coinbase.len() + others);
        bytes.extend_from_slice(&self.header);
        bytes.extend_from_slice(&count);
        bytes.extend_from_slice(&self.coinbase);
        for transaction in transactions {
            bytes.extend_from_slice(transaction.as_bytes());
        }
        bytes
    }

    /// The whole block in hexadecimal, as `submitblock` takes it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.to_bytes().to_lower_hex_string()
    }

    /// Decodes the block from its bytes and checks what can be checked without the chain.
    ///
    /// A block that fails is still worth sending, as the nodes have the last word; but it means that this program is wrong.
    ///
    /// # Errors
    ///
    /// The first rule that the block breaks.
    pub fn check(&self) -> Result<(), BlockError> {
        let block: bitcoin::Block = consensus::deserialize(&self.to_bytes())
            .map_err(|error| BlockError::Encoding(error.to_string()))?;
        self.check_header(&block.header)?;
        self.check_coinbase(&block)?;
        if !block.check_merkle_root() {
            return Err(BlockError::MerkleRoot);
        }
        if !block.check_witness_commitment() {
            return Err(BlockError::Commitment);
        }
        let weight = block.weight().to_wu();
        if weight > MAX_BLOCK_WEIGHT {
            return Err(BlockError::Weight(weight));
        }
        Ok(())
    }

    fn check_header(&self, header: &bitcoin::block::Header) -> Result<(), BlockError> {
        let tip = &self.template.tip;
        if header.prev_blockhash != tip.prev_hash || header.bits != tip.nbits {
            return Err(BlockError::Tip);
        }
        if header.time < tip.min_ntime {
            return Err(BlockError::Time);
        }
        if !header.target().is_met_by(header.block_hash()) {
            return Err(BlockError::Work);
        }
        Ok(())
    }

    fn check_coinbase(&self, block: &bitcoin::Block) -> Result<(), BlockError> {
        let Some((coinbase, others)) = block.txdata.split_first() else {
            return Err(BlockError::Coinbase);
        };
        if !coinbase.is_coinbase() || others.iter().any(bitcoin::Transaction::is_coinbase) {
            return Err(BlockError::Coinbase);
        }
        let script_sig = coinbase.input.first().map(|input| input.script_sig.as_bytes()).unwrap_or_default();
        let length = MIN_SCRIPT_SIG_LEN..=MAX_SCRIPT_SIG_LEN;
        if !length.contains(&script_sig.len()) || !script_sig.starts_with(height_push(self.height).as_bytes())
        {
            return Err(BlockError::Height);
        }
        let value = coinbase::value(&coinbase.output).map_or(u64::MAX, bitcoin::Amount::to_sat);
        if value != self.template.coinbase_value.to_sats() {
            return Err(BlockError::Value(Sats::from_sats(value)));
        }
        Ok(())
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("hash", &self.hash)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

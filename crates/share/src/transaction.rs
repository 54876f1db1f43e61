//! One transaction of a template: its bytes, shared, and what a block needs to know of it.

use core::fmt;
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid, consensus};

/// Bytes that are not a transaction; the template source sent garbage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "a template's transaction cannot be decoded ({reason}); leave this template and ask its source again"
)]
pub struct TransactionError {
    reason: String,
}

/// A transaction with its witness, as blocks carry it; cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RawTransaction {
    bytes: Arc<[u8]>,
    txid: Txid,
    wtxid: Wtxid,
    weight: u32,
}

impl RawTransaction {
    /// Decodes the transaction once, to know its ids and its weight, and keeps the bytes.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly one transaction.
    pub fn parse(bytes: impl Into<Arc<[u8]>>) -> Result<Self, TransactionError> {
        let bytes = bytes.into();
        let transaction: Transaction =
            consensus::deserialize(&bytes).map_err(|error| TransactionError { reason: error.to_string() })?;
        let weight = u32::try_from(transaction.weight().to_wu())
            .map_err(|_| TransactionError { reason: "it is heavier than any block".to_owned() })?;
        Ok(Self { txid: transaction.compute_txid(), wtxid: transaction.compute_wtxid(), weight, bytes })
    }

    /// The transaction with its witness, consensus-serialised.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash without the witness, a leaf of the block's merkle tree.
    #[must_use]
    pub const fn txid(&self) -> Txid {
        self.txid
    }

    /// The hash with the witness, a leaf of the tree under the witness commitment.
    #[must_use]
    pub const fn wtxid(&self) -> Wtxid {
        self.wtxid
    }

    /// The weight in weight units (BIP 141).
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether the transaction has a witness; then the block needs a witness commitment (BIP 141).
    #[must_use]
    pub fn has_witness(&self) -> bool {
        *self.txid.as_raw_hash() != *self.wtxid.as_raw_hash()
    }
}

impl fmt::Debug for RawTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawTransaction").field("txid", &self.txid).field("bytes", &self.bytes.len()).finish()
    }
}

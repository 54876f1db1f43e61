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
    /// If `bytes` are not exactly one transaction with an input: nodes cannot decode one without.
    pub fn parse(bytes: impl Into<Arc<[u8]>>) -> Result<Self, TransactionError> {
        let bytes = bytes.into();
        let transaction: Transaction =
            consensus::deserialize(&bytes).map_err(|error| TransactionError { reason: error.to_string() })?;
        if transaction.input.is_empty() {
            return Err(TransactionError { reason: "it has no input".to_owned() });
        }
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

#[cfg(test)]
mod tests {
    use bitcoin::hex::FromHex as _;

    use super::*;

    /// The first payment from one person to another (main network, block 170); no witness.
    const FIRST_PAYMENT: &str = "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd3704000000004847304402204e45e1\
        6932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de4860a4acdd12909d831cc56cbbac4622082221a8768d\
        1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab37397f554a7df5f\
        142c21c1b7303b8a0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb68a382e97b1482ecad7b1\
        48a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac00000000";

    fn first_payment() -> Vec<u8> {
        Vec::from_hex(FIRST_PAYMENT).unwrap()
    }

    #[test]
    fn a_transaction_knows_its_ids_and_its_weight() {
        let transaction = RawTransaction::parse(first_payment()).unwrap();
        let id = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
        assert_eq!(transaction.txid().to_string(), id);
        assert_eq!(transaction.wtxid().to_string(), id);
        assert!(!transaction.has_witness());
        assert_eq!(transaction.weight() as usize, first_payment().len() * 4);
        assert_eq!(transaction.as_bytes(), first_payment());
        assert!(transaction.clone().bytes.as_ptr() == transaction.bytes.as_ptr(), "clones share the bytes");
    }

    #[test]
    fn bytes_that_are_not_exactly_a_transaction_are_refused() {
        let good = first_payment();
        for len in 0..good.len() {
            assert!(RawTransaction::parse(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(RawTransaction::parse([&good[..], &[0]].concat()).is_err());
    }
}

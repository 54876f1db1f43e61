//! Why a devnet does not take a block.

use adit_units::{Height, Sats};
use bitcoin::Txid;

/// Why a block was not taken; each begins with the word that Bitcoin nodes use, where they have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockRefused {
    /// The bytes are not one block.
    #[error("decode-failed: {0}")]
    Encoding(String),
    /// The block is in the chain.
    #[error("duplicate: the block is in the chain, at height {0}")]
    AlreadyKnown(Height),
    /// The block stands on one that is not known.
    #[error("prev-blk-not-found: the block stands on an unknown one")]
    UnknownParent,
    /// Another block has that height already.
    #[error("stale: another block has height {0}")]
    Stale(Height),
    /// The header carries another difficulty.
    #[error("bad-diffbits: the header's difficulty is not that of its height")]
    Difficulty,
    /// The hash does not meet the target.
    #[error("high-hash: the header's hash does not meet its target")]
    Work,
    /// The header's time is not after the median of the blocks before it.
    #[error("time-too-old: the header's time must be at least {min}, in seconds since 1970")]
    TimeTooOld {
        /// The least time.
        min: u32,
    },
    /// The header's time is too far ahead of the clock.
    #[error("time-too-new: the header's time must be at most {max}, in seconds since 1970")]
    TimeTooNew {
        /// The greatest time.
        max: u32,
    },
    /// The header's version is one of before a soft fork.
    #[error("bad-version: version {0:#010x} is outdated")]
    Version(i32),
    /// The first transaction is not a coinbase.
    #[error("bad-cb-missing: the first transaction is not a coinbase")]
    NoCoinbase,
    /// A later transaction is a coinbase.
    #[error("bad-cb-multiple: more than one transaction is a coinbase")]
    ManyCoinbases,
    /// The coinbase's input script is too short or too long.
    #[error("bad-cb-length: the coinbase's input script has {0} bytes, not 2 to 100")]
    CoinbaseLength(usize),
    /// The coinbase does not begin with the height.
    #[error("bad-cb-height: the coinbase's input script does not begin with height {0} (BIP 34)")]
    CoinbaseHeight(Height),
    /// The coinbase cannot be mined yet.
    #[error("bad-txns-nonfinal: the coinbase's locktime is not reached")]
    NotFinal,
    /// The header does not commit to the transactions.
    #[error("bad-txnmrklroot: the header's merkle root is not that of the transactions")]
    MerkleRoot,
    /// The coinbase's witness is not one item of 32 bytes.
    #[error("bad-witness-nonce-size: the coinbase's witness is not one item of 32 bytes")]
    WitnessReservedValue,
    /// The coinbase does not commit to the witnesses that are there.
    #[error("bad-witness-merkle-match: the witness commitment is not that of the transactions")]
    WitnessCommitment,
    /// There are witnesses, and no commitment.
    #[error("unexpected-witness: there are witnesses but no commitment to them")]
    UnexpectedWitness,
    /// A transaction is not one that was offered.
    #[error("bad-txns-inputs-missingorspent: transaction {0} is not one of a template")]
    UnknownTransaction(Txid),
    /// A transaction is there twice.
    #[error("bad-txns-duplicate: transaction {0} is there twice")]
    RepeatedTransaction(Txid),
    /// The coinbase creates more than it may.
    #[error("bad-cb-amount: the coinbase creates more than {allowed}")]
    CoinbaseValue {
        /// The subsidy and the fees of the block.
        allowed: Sats,
    },
    /// The block is too heavy.
    #[error("bad-blk-weight: the block weighs {0}")]
    Weight(u64),
    /// The block has too many signature operations.
    #[error("bad-blk-sigops: the block's signature operations cost {0}")]
    Sigops(u64),
}

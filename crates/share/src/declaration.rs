//! Jobs that miners declare: what a coinbase made by somebody else says, and whether it can be trusted.

mod coinbase;

use std::sync::Arc;

use adit_units::{Height, JobId, Sats};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::{BlockHash, CompactTarget, TxOut, VarInt, consensus};

pub use self::coinbase::{CoinbaseFields, DeclaredCoinbase};
use crate::template::commitment_hash;
use crate::{
    HEADER_LEN, Job, JobError, MAX_BLOCK_WEIGHT, MAX_EXTRANONCE_LEN, MAX_MERKLE_PATH_LEN, RawTransaction,
    Tip, merkle,
};

/// What the hash of a declaration begins with, hashed twice (as BIP 340 tags its hashes).
const ID_TAG: &[u8] = b"adit/declaration/1";

/// A declared job that cannot be taken; the miner who declares it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclarationError {
    /// The extranonce is longer than the wire can carry.
    #[error("an extranonce of {len} bytes is too long; at most 32 are allowed")]
    ExtranonceTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The parts around the extranonce are no transaction.
    #[error("the coinbase's parts do not make a transaction ({reason})")]
    Transaction {
        /// What is wrong.
        reason: String,
    },
    /// The outputs are no list of outputs.
    #[error("the coinbase's outputs cannot be read ({reason})")]
    Outputs {
        /// What is wrong.
        reason: String,
    },
    /// A coinbase has one input.
    #[error("the coinbase has {0} inputs and must have one")]
    Inputs(usize),
    /// The input spends something.
    #[error("the coinbase spends an output; its input must spend nothing")]
    NotNull,
    /// The input script is longer or shorter than consensus allows.
    #[error("the coinbase's input script has {len} bytes; consensus allows 2 to 100")]
    ScriptSigLength {
        /// Its length in bytes.
        len: usize,
    },
    /// The extranonce is not where the miner's parts leave room for it, or something stands behind it in the input script.
    #[error(
        "the parts of the coinbase do not meet at an extranonce of {len} bytes at the end of its input script"
    )]
    ExtranoncePlace {
        /// The length of the extranonce, in bytes.
        len: usize,
    },
    /// The input script does not begin with a height as consensus wants it (BIP 34).
    #[error("the coinbase's input script does not begin with its block's height in the shortest form")]
    Height,
    /// The outputs pay more than can be.
    #[error("the coinbase's outputs add up to more than there can be")]
    Value,
    /// The witness is neither the one that a commitment is made with nor absent.
    #[error("the coinbase's witness must be 32 zero bytes, and there only with a witness commitment")]
    Witness,
    /// The lock time would keep the coinbase out of its block.
    #[error("the coinbase's lock time lies behind its block; use none")]
    LockTime,
    /// The merkle path is longer than the wire can carry.
    #[error("a merkle path of {len} steps is too long; at most 255 are allowed")]
    PathTooLong {
        /// The number of steps.
        len: usize,
    },
    /// The job stands on another block.
    #[error("the job does not stand on the present tip")]
    Tip,
    /// The job carries another difficulty than its tip asks for.
    #[error("the job's nbits are not those of its tip")]
    Nbits,
    /// The merkle path is not that of the transactions.
    #[error("the merkle path is not that of the declared transactions")]
    MerklePath,
    /// A transaction has a witness and the coinbase does not commit to it.
    #[error("the coinbase carries no witness commitment, and some of the transactions have a witness")]
    NoCommitment,
    /// The witness commitment is not that of the transactions.
    #[error("the witness commitment is not that of the declared transactions")]
    Commitment,
    /// The block would be heavier than consensus allows.
    #[error("the block would weigh {weight}, more than 4000000")]
    TooHeavy {
        /// Its weight in weight units.
        weight: u64,
    },
    /// The parts do not make a job.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// A job that a miner declares: all that decides which headers it has, but the time that they begin with.
///
/// The same job comes in two messages. `DeclareMiningJob` (spec 6.4.4) carries the coinbase in two parts and the transactions, and goes
/// to the declarator; `SetCustomMiningJob` (spec 5.3.18) carries the coinbase in fields and the merkle path, and goes to the pool. What
/// is made from either is the same value with the same [`Self::id`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    version: u32,
    prev_hash: BlockHash,
    nbits: CompactTarget,
    coinbase: DeclaredCoinbase,
    merkle_path: Arc<[[u8; 32]]>,
}

impl Declaration {
    /// A job of that version with that coinbase, beside which stands `merkle_path` (deepest first, in raw byte order; [`merkle::path`] of
    /// the transactions' ids), on the tip with that hash and `nbits`.
    ///
    /// [`merkle::path`]: crate::merkle_path
    ///
    /// # Errors
    ///
    /// If the path is longer than the wire could carry.
    pub fn new(
        version: u32,
        (prev_hash, nbits): (BlockHash, CompactTarget),
        coinbase: DeclaredCoinbase,
        merkle_path: Vec<[u8; 32]>,
    ) -> Result<Self, DeclarationError> {
        if merkle_path.len() > MAX_MERKLE_PATH_LEN {
            return Err(DeclarationError::PathTooLong { len: merkle_path.len() });
        }
        Ok(Self { version, prev_hash, nbits, coinbase, merkle_path: merkle_path.into() })
    }

    /// The same over these transactions, in the block's order and without the coinbase; they are checked too.
    ///
    /// # Errors
    ///
    /// As [`Self::check_transactions`].
    pub fn over(
        version: u32,
        on: (BlockHash, CompactTarget),
        coinbase: DeclaredCoinbase,
        transactions: &[RawTransaction],
    ) -> Result<Self, DeclarationError> {
        let path = merkle::path(transactions.iter().map(|tx| tx.txid().to_byte_array()));
        let declaration = Self::new(version, on, coinbase, path)?;
        declaration.check_transactions(transactions)?;
        Ok(declaration)
    }

    /// A hash of all that is in the job: two jobs have the same exactly if they have the same headers to search, but for the time that
    /// these begin with.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        let tag = sha256::Hash::hash(ID_TAG);
        let mut engine = sha256::Hash::engine();
        engine.input(tag.as_ref());
        engine.input(tag.as_ref());
        engine.input(&self.version.to_le_bytes());
        engine.input(self.prev_hash.as_ref());
        engine.input(&self.nbits.to_consensus().to_le_bytes());
        engine.input(&(self.coinbase.extranonce_len() as u64).to_le_bytes());
        for part in [self.coinbase.prefix(), self.coinbase.suffix()] {
            engine.input(&(part.len() as u64).to_le_bytes());
            engine.input(part);
        }
        engine.input(self.merkle_path.as_flattened());
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    /// The block's version, before miners roll its free bits.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The hash of the block that the job stands on.
    #[must_use]
    pub const fn prev_hash(&self) -> BlockHash {
        self.prev_hash
    }

    /// The difficulty of the block, as its header carries it.
    #[must_use]
    pub const fn nbits(&self) -> CompactTarget {
        self.nbits
    }

    /// The coinbase.
    #[must_use]
    pub const fn coinbase(&self) -> &DeclaredCoinbase {
        &self.coinbase
    }

    /// The coinbase's neighbours up the merkle tree, deepest first, in raw byte order.
    #[must_use]
    pub fn merkle_path(&self) -> &[[u8; 32]] {
        &self.merkle_path
    }

    /// The height of the block, as the coinbase says it.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.coinbase.height()
    }

    /// What the coinbase pays out in all.
    #[must_use]
    pub const fn value(&self) -> Sats {
        self.coinbase.value()
    }

    /// What the coinbase pays; decoded anew each time.
    #[must_use]
    pub fn outputs(&self) -> Vec<TxOut> {
        self.coinbase.outputs()
    }

    /// That the job stands on `tip` and mines the block that comes next.
    ///
    /// # Errors
    ///
    /// What of it belongs to another tip.
    pub fn check_tip(&self, tip: &Tip) -> Result<(), DeclarationError> {
        if self.prev_hash != tip.prev_hash {
            return Err(DeclarationError::Tip);
        }
        if self.height() != tip.height {
            return Err(DeclarationError::Height);
        }
        if self.nbits == tip.nbits { Ok(()) } else { Err(DeclarationError::Nbits) }
    }

    /// The job that shares are judged by, on the tip that it was declared for; without a tag. It shares the declaration's bytes.
    ///
    /// # Errors
    ///
    /// If `tip` is another one.
    pub fn job(&self, id: JobId, tip: Tip, min_ntime: u32) -> Result<Job, DeclarationError> {
        self.check_tip(&tip)?;
        let path = Arc::clone(&self.merkle_path);
        Ok(Job::declared((id, self.version), (tip, min_ntime), self.coinbase.as_coinbase().clone(), path)?)
    }

    /// That the job is over these transactions, in the block's order and without the coinbase, and that they fit into a block.
    ///
    /// Whether they are valid is for a node to say.
    ///
    /// # Errors
    ///
    /// If they have another merkle path, if the coinbase does not commit to their witnesses, or if the block is too heavy.
    pub fn check_transactions(&self, transactions: &[RawTransaction]) -> Result<(), DeclarationError> {
        let path = merkle::path(transactions.iter().map(|tx| tx.txid().to_byte_array()));
        if *path != *self.merkle_path {
            return Err(DeclarationError::MerklePath);
        }
        match self.coinbase.commitment() {
            Some(hash) if *hash != commitment_hash(transactions) => return Err(DeclarationError::Commitment),
            None if transactions.iter().any(RawTransaction::has_witness) => {
                return Err(DeclarationError::NoCommitment);
            }
            Some(_) | None => {}
        }
        let count = VarInt::from(transactions.len() + 1);
        let base = (HEADER_LEN + count.size()) as u64 * 4;
        let others: u64 = transactions.iter().map(|tx| u64::from(tx.weight())).sum();
        let weight = base + self.coinbase.weight() + others;
        if weight > MAX_BLOCK_WEIGHT { Err(DeclarationError::TooHeavy { weight }) } else { Ok(()) }
    }

    /// The block of that header, consensus-serialised: the coinbase with this whole extranonce and its witness, and these transactions.
    ///
    /// An extranonce of another length than the job's makes a block that no node takes.
    #[must_use]
    pub fn block(
        &self,
        header: &[u8; HEADER_LEN],
        extranonce: &[u8],
        transactions: &[RawTransaction],
    ) -> Vec<u8> {
        let count = consensus::serialize(&VarInt::from(transactions.len() + 1));
        let coinbase = self.coinbase.to_bytes(extranonce);
        let others: usize = transactions.iter().map(|tx| tx.as_bytes().len()).sum();
        let mut bytes = Vec::with_capacity(HEADER_LEN + count.len() + coinbase.len() + others);
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&count);
        bytes.extend_from_slice(&coinbase);
        for transaction in transactions {
            bytes.extend_from_slice(transaction.as_bytes());
        }
        bytes
    }
}

const _: () =
    assert!(MAX_EXTRANONCE_LEN < crate::MAX_SCRIPT_SIG_LEN, "the height has room beside the extranonce");

#[cfg(test)]
mod tests;

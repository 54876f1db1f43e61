//! A declared job: its coinbase read, its block put together, its solutions judged.

use std::sync::Arc;

use adit_channel::{DeclarationId, Token, UserIdentity};
use adit_messages::job_declaration::PushSolution;
use adit_share::{Declaration, DeclarationError, DeclaredCoinbase, HEADER_LEN, Job, RawTransaction, Tip};
use adit_units::{Height, JobId, UnixTime};
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::{CompactTarget, TxMerkleNode, consensus};

use super::Solved;
use crate::server::Refusal;
use crate::server::limits::Hold;

/// The number of declared jobs, which have none in this protocol.
const NO_NUMBER: JobId = JobId(0);

/// A coinbase that was declared, before its transactions are known.
#[derive(Debug)]
pub(super) struct Draft {
    version: u32,
    coinbase: DeclaredCoinbase,
}

/// A job that a client has declared and a node has found good.
#[derive(Debug)]
pub struct DeclaredJob {
    declaration: Declaration,
    job: Job,
    transactions: Arc<[RawTransaction]>,
    user: UserIdentity,
    /// What it is counted with for as long as it is there.
    hold: Option<Hold>,
}

impl Draft {
    /// Reads the two parts of a coinbase, between which is room for an extranonce.
    pub(super) fn read(
        version: u32,
        prefix: &[u8],
        suffix: &[u8],
        extranonce_len: usize,
    ) -> Result<Self, Refusal> {
        let coinbase = DeclaredCoinbase::parse(prefix, suffix, extranonce_len).map_err(refusal)?;
        Ok(Self { version, coinbase })
    }

    /// That enough goes to the script which the token names.
    pub(super) fn check_payout(&self, token: &Token, least: u8) -> Result<(), Refusal> {
        let (pays, value) = (token.pays(&self.coinbase.outputs()).to_sats(), self.coinbase.value().to_sats());
        let is_enough = u128::from(pays) * 100 >= u128::from(value) * u128::from(least);
        if pays > 0 && is_enough { Ok(()) } else { Err(Refusal::Payout { pays, value, least }) }
    }

    /// The height of its block.
    pub(super) const fn height(&self) -> Height {
        self.coinbase.height()
    }

    /// The job on `tip` with these transactions, and its block with zeros for an extranonce, as a node can judge it.
    pub(super) fn assemble(
        &self,
        tip: Tip,
        transactions: Arc<[RawTransaction]>,
        user: UserIdentity,
        now: UnixTime,
    ) -> Result<(DeclaredJob, Vec<u8>), Refusal> {
        let (on, coinbase) = ((tip.prev_hash, tip.nbits), self.coinbase.clone());
        let declaration = Declaration::over(self.version, on, coinbase, &transactions).map_err(refusal)?;
        let job = declaration.job(NO_NUMBER, tip, tip.min_ntime).map_err(refusal)?;
        let declared = DeclaredJob { declaration, job, transactions, user, hold: None };
        let extranonce = vec![0; self.coinbase.extranonce_len()];
        let time = now.to_secs().max(tip.min_ntime);
        let header = declared.header(&extranonce, [self.version, time, 0]);
        let header =
            header.ok_or_else(|| Refusal::Coinbase("it has no room for the extranonce".to_owned()))?;
        let block = declared.declaration.block(&header, &extranonce, &declared.transactions);
        Ok((declared, block))
    }
}

impl DeclaredJob {
    /// What the pool knows the job by.
    #[must_use]
    pub fn id(&self) -> DeclarationId {
        DeclarationId(self.declaration.id())
    }

    /// What it says.
    #[must_use]
    pub const fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// What its block stands on.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        self.job.tip()
    }

    /// Its transactions but the coinbase, in the block's order.
    #[must_use]
    pub const fn transactions(&self) -> &Arc<[RawTransaction]> {
        &self.transactions
    }

    /// Who declared it.
    #[must_use]
    pub const fn user(&self) -> &UserIdentity {
        &self.user
    }

    /// The same, counted with what is held.
    pub(super) fn held_by(self, hold: Hold) -> Self {
        Self { hold: Some(hold), ..self }
    }

    /// Bytes that it is counted with.
    #[must_use]
    pub fn held(&self) -> usize {
        self.hold.as_ref().map_or(0, Hold::bytes)
    }

    /// The header with this whole extranonce, and with version, time and nonce as given; `None` if the extranonce has another length.
    fn header(&self, extranonce: &[u8], [version, time, nonce]: [u32; 3]) -> Option<[u8; HEADER_LEN]> {
        let merkle_root = self.job.merkle_root(extranonce).ok()?;
        let header = Header {
            version: Version::from_consensus(version.cast_signed()),
            prev_blockhash: self.declaration.prev_hash(),
            merkle_root: TxMerkleNode::from_byte_array(merkle_root),
            time,
            bits: self.declaration.nbits(),
            nonce,
        };
        consensus::serialize(&header).try_into().ok()
    }

    /// The block that a solution makes of the job, if it is one of this job and has the work of a block. Nothing is put together before
    /// that.
    pub(super) fn solve(&self, solution: &PushSolution<'_>) -> Option<Solved> {
        let is_of_tip = solution.prev_hash.as_bytes() == self.declaration.prev_hash().as_byte_array()
            && CompactTarget::from_consensus(solution.nbits) == self.declaration.nbits();
        if !is_of_tip {
            return None;
        }
        let extranonce = solution.extranonce.as_bytes();
        let header = self.header(extranonce, [solution.version, solution.ntime, solution.nonce])?;
        let hash = consensus::deserialize::<Header>(&header).ok()?.block_hash();
        if !self.tip().target.is_met_by(hash.as_byte_array()) {
            return None;
        }
        Some(Solved {
            hash,
            height: self.tip().height,
            bytes: self.declaration.block(&header, extranonce, &self.transactions),
            user: self.user.clone(),
        })
    }
}

/// What is wrong with the coinbase, or with the block that it makes.
fn refusal(error: DeclarationError) -> Refusal {
    match error {
        DeclarationError::Inputs(_)
        | DeclarationError::NotNull
        | DeclarationError::ScriptSigLength { .. }
        | DeclarationError::ExtranoncePlace { .. }
        | DeclarationError::Height => Refusal::CoinbaseInput(error.to_string()),
        DeclarationError::TooHeavy { weight } => Refusal::Weight(weight),
        error => Refusal::Coinbase(error.to_string()),
    }
}

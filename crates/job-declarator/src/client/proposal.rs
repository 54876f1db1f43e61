//! A job of ours in the words in which it is put to a pool.

use std::sync::Arc;

use adit_messages::types::{B064K, B0255, Seq064K, Seq0255, U256};
use adit_messages::{job_declaration, mining};
use adit_share::{Job, Template};
use adit_units::{ChannelId, JobId};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Transaction, TxOut, VarInt, consensus};

/// What a segregated coinbase begins with behind its version, and what stands before its lock time: marker and flag, and
/// one witness of 32 zero bytes (BIP 141).
const MARKER_AND_FLAG: [u8; 2] = [0, 1];
const WITNESS: [u8; 34] = {
    let mut witness = [0; 34];
    (witness[0], witness[1]) = (1, 32);
    witness
};

/// A coinbase that cannot be put to a pool: a pool fills in the extranonce at the end of the input script, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job's coinbase has no input script that ends with its extranonce, so no pool could make it")]
#[non_exhaustive]
pub struct ProposalError;

/// One job with the template that it came from; immutable, and shared while it is declared and while shares come for it.
#[derive(Clone, Debug)]
pub struct Proposal {
    number: JobId,
    prev_hash: BlockHash,
    nbits: u32,
    min_ntime: u32,
    version: u32,
    coinbase: Transaction,
    /// What stands in the input script before the extranonce.
    script_prefix: Box<[u8]>,
    /// The coinbase before and after the extranonce, with its witness if it has one.
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    extranonce_len: usize,
    merkle_path: Box<[[u8; 32]]>,
    /// Those of the template's transactions, in raw byte order.
    wtxids: Box<[[u8; 32]]>,
    template: Arc<Template>,
}

impl Proposal {
    /// What a pool is told of a job that mines `template`.
    ///
    /// # Errors
    ///
    /// If the job's coinbase is not one that a pool could put together.
    pub fn new(job: &Job, template: &Arc<Template>) -> Result<Self, ProposalError> {
        let (before, after) = (job.coinbase_prefix(), job.coinbase_suffix());
        let extranonce_len = job.extranonce_len();
        let whole = [before, &vec![0; extranonce_len], after].concat();
        let coinbase: Transaction = consensus::deserialize(&whole).map_err(|_| ProposalError)?;
        let [input] = &*coinbase.input else { return Err(ProposalError) };
        let script = input.script_sig.as_bytes();
        let script_prefix = script.len().checked_sub(extranonce_len).and_then(|len| script.get(..len));
        let script_prefix = script_prefix.ok_or(ProposalError)?;
        // Version, number of inputs, outpoint, length of the script: what is left of the prefix must be of the script.
        let before_script = 4 + 1 + 36 + VarInt::from(script.len()).size();
        if before.len() != before_script + script_prefix.len() {
            return Err(ProposalError);
        }
        let (prefix, suffix) = if template.has_witness_commitment() {
            segregated(before, after)?
        } else {
            (before.into(), after.into())
        };
        Ok(Self {
            number: job.id(),
            prev_hash: job.tip().prev_hash,
            nbits: job.tip().nbits.to_consensus(),
            min_ntime: job.min_ntime(),
            version: job.version(),
            script_prefix: script_prefix.into(),
            coinbase,
            prefix,
            suffix,
            extranonce_len,
            merkle_path: job.merkle_path().into(),
            wtxids: template
                .transactions
                .iter()
                .map(|transaction| transaction.wtxid().to_byte_array())
                .collect(),
            template: Arc::clone(template),
        })
    }

    /// The job's number among those below.
    #[must_use]
    pub const fn number(&self) -> JobId {
        self.number
    }

    /// The block that the job builds on.
    #[must_use]
    pub const fn prev_hash(&self) -> BlockHash {
        self.prev_hash
    }

    /// The same in raw byte order.
    pub(super) fn prev_hash_bytes(&self) -> &[u8; 32] {
        self.prev_hash.as_byte_array()
    }

    /// The target of the network, as headers carry it.
    pub(super) const fn nbits(&self) -> u32 {
        self.nbits
    }

    /// Length of the whole extranonce, in bytes.
    #[must_use]
    pub const fn extranonce_len(&self) -> usize {
        self.extranonce_len
    }

    /// The template that the job mines.
    #[must_use]
    pub const fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Whether the coinbase has every one of these outputs' scripts, and pays the first of them.
    ///
    /// Those are the outputs that came with a token (spec 6.4.3).
    #[must_use]
    pub fn pays(&self, outputs: &[TxOut]) -> bool {
        let ours = &self.coinbase.output;
        let has = |wanted: &TxOut| ours.iter().any(|output| output.script_pubkey == wanted.script_pubkey);
        let paid = outputs.first().is_some_and(|payout| {
            let of_pool = ours.iter().filter(|output| output.script_pubkey == payout.script_pubkey);
            of_pool.map(|output| output.value.to_sat()).any(|value| value > 0)
        });
        paid && outputs.iter().all(has)
    }

    /// `DeclareMiningJob` (spec 6.4.4).
    pub(super) fn declare<'a>(
        &'a self,
        request: u32,
        token: &'a [u8],
    ) -> job_declaration::DeclareMiningJob<'a> {
        let part = |bytes: &'a [u8]| {
            B064K::try_from(bytes).expect("a job's parts leave room for a witness in this type")
        };
        job_declaration::DeclareMiningJob {
            request_id: request,
            mining_job_token: B0255::try_from(token).expect("a token came in a field of this type"),
            version: self.version,
            coinbase_tx_prefix: part(&self.prefix),
            coinbase_tx_suffix: part(&self.suffix),
            wtxid_list: Seq064K::new(self.wtxids.iter().map(U256::from).collect())
                .expect("a block has fewer than 2^16 transactions"),
            excess_data: part(&[]),
        }
    }

    /// `SetCustomMiningJob` (spec 5.3.18).
    pub(super) fn set<'a>(
        &'a self,
        channel: ChannelId,
        request: u32,
        token: &'a [u8],
        outputs: &'a [u8],
    ) -> mining::SetCustomMiningJob<'a> {
        let [input] = &*self.coinbase.input else { unreachable!("checked when the proposal was made") };
        mining::SetCustomMiningJob {
            channel_id: channel.0,
            request_id: request,
            token: B0255::try_from(token).expect("a token came in a field of this type"),
            version: self.version,
            prev_hash: U256::from(self.prev_hash.as_byte_array()),
            min_ntime: self.min_ntime,
            nbits: self.nbits,
            coinbase_tx_version: self.coinbase.version.0.cast_unsigned(),
            coinbase_prefix: B0255::try_from(&*self.script_prefix)
                .expect("an input script has at most 100 bytes"),
            coinbase_tx_input_n_sequence: input.sequence.to_consensus_u32(),
            coinbase_tx_outputs: B064K::try_from(outputs)
                .expect("the outputs are part of a suffix of this type"),
            coinbase_tx_locktime: self.coinbase.lock_time.to_consensus_u32(),
            merkle_path: Seq0255::new(self.merkle_path.iter().map(U256::from).collect())
                .expect("a job's merkle path is checked to fit this type"),
        }
    }

    /// The outputs as `SetCustomMiningJob` carries them: their number, then each of them.
    pub(super) fn outputs(&self) -> Vec<u8> {
        consensus::serialize(&self.coinbase.output)
    }
}

/// A coinbase before and after its extranonce.
type Parts = (Box<[u8]>, Box<[u8]>);

/// The parts of a coinbase with its witness.
fn segregated(before: &[u8], after: &[u8]) -> Result<Parts, ProposalError> {
    let (version, rest) = before.split_at_checked(4).ok_or(ProposalError)?;
    let body = after.len().checked_sub(4).ok_or(ProposalError)?;
    let (body, lock_time) = after.split_at_checked(body).ok_or(ProposalError)?;
    let prefix = [version, &MARKER_AND_FLAG, rest].concat();
    let suffix = [body, &WITNESS, lock_time].concat();
    Ok((prefix.into(), suffix.into()))
}

#[cfg(test)]
pub(super) mod tests;

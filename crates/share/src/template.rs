//! What a node offers for the next block, checked once when it arrives.

use adit_units::{Height, Sats, Target, TemplateId};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Sequence, TxOut};

use crate::{RawTransaction, merkle};

/// How a witness commitment's script begins: `OP_RETURN`, a push of 36 bytes, and four bytes of mark (BIP 141).
pub(crate) const COMMITMENT_START: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// The coinbase's witness: what the witness commitment hashes beside the witness root (BIP 141).
pub(crate) const WITNESS_RESERVED_VALUE: [u8; 32] = [0; 32];

/// Where a chain ends, and what its next block must satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The hash of the last block.
    pub prev_hash: BlockHash,
    /// The height of the block being mined, one above the last.
    pub height: Height,
    /// The difficulty of the block being mined, as its header carries it.
    pub nbits: CompactTarget,
    /// The same as a number.
    pub target: Target,
    /// The smallest time that the block being mined may carry: the median time past plus one, in seconds since 1970.
    pub min_ntime: u32,
}

impl Tip {
    /// A tip whose target is the one that `nbits` encodes.
    #[must_use]
    pub fn new(prev_hash: BlockHash, height: Height, nbits: CompactTarget, min_ntime: u32) -> Self {
        Self { prev_hash, height, nbits, target: Target::from_compact(nbits), min_ntime }
    }

    /// Whether blocks on the other tip are blocks on this one: nodes may differ in the smallest time alone, since some tell their clock.
    #[must_use]
    pub fn is_same_chain_end(&self, other: &Self) -> bool {
        (self.prev_hash, self.height, self.nbits) == (other.prev_hash, other.height, other.nbits)
    }
}

/// A template as a source gives it, not yet checked.
#[derive(Clone, Debug)]
pub struct TemplateParts {
    /// The source's number for it.
    pub id: TemplateId,
    /// What the block will stand on.
    pub tip: Tip,
    /// The block's version, before miners roll its free bits.
    pub version: u32,
    /// The source's clock, in seconds since 1970.
    pub time: u32,
    /// What the coinbase may create in all: subsidy and fees.
    pub coinbase_value: Sats,
    /// What the chain's rules create at this height, see [`Sats::subsidy`].
    pub subsidy: Sats,
    /// The sum of the transactions' fees.
    pub fees: Sats,
    /// The sum of the transactions' signature operations, by their cost (BIP 141).
    pub sigops: u32,
    /// The transactions after the coinbase, in the block's order.
    pub transactions: Vec<RawTransaction>,
    /// What the coinbase must carry after the payouts, worth nothing: the witness commitment, made with a reserved value of
    /// 32 zero bytes.
    pub required_outputs: Vec<TxOut>,
}

/// What a source wants the coinbase to be like beside its outputs (spec 7.2); as a default, what suits every node that wants nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinbaseForm {
    /// The transaction's version.
    pub version: Version,
    /// The sequence number of its input.
    pub sequence: Sequence,
    /// The transaction's lock time.
    pub lock_time: LockTime,
    /// What stands behind the height in the input script.
    pub after_height: ScriptBuf,
}

impl Default for CoinbaseForm {
    fn default() -> Self {
        Self {
            version: Version::TWO,
            sequence: Sequence::MAX,
            lock_time: LockTime::ZERO,
            after_height: ScriptBuf::new(),
        }
    }
}

/// A template that would make an invalid block or lose money; its source is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Subsidy and fees do not make the coinbase's value.
    #[error(
        "the template's coinbase is worth {value}, but subsidy {subsidy} and fees {fees} do not add up to that"
    )]
    Value {
        /// What the source says the coinbase may create.
        value: Sats,
        /// What the chain's rules create.
        subsidy: Sats,
        /// The fees that the source reports.
        fees: Sats,
    },
    /// A required output is worth something, which nobody accounts for.
    #[error(
        "a required output of the template is worth {0}; outputs worth something are not supported there"
    )]
    RequiredOutputPays(Sats),
    /// Transactions have witnesses, but no required output commits to them.
    #[error("the template has transactions with witnesses but no witness commitment")]
    NoCommitment,
    /// The witness commitment is not that of these transactions in this order.
    #[error("the template's witness commitment does not fit its transactions and their order")]
    Commitment,
}

/// What a node offers for the next block; made only by [`Template::new`], so what it says of itself holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Template {
    /// The source's number for it.
    pub id: TemplateId,
    /// What the block will stand on.
    pub tip: Tip,
    /// The block's version, before miners roll its free bits.
    pub version: u32,
    /// The time that the block's header starts with, in seconds since 1970: the source's clock, but never before the tip allows.
    pub time: u32,
    /// What the coinbase creates in all, and pays out in full.
    pub coinbase_value: Sats,
    /// What the chain's rules create at this height.
    pub subsidy: Sats,
    /// The sum of the transactions' fees.
    pub fees: Sats,
    /// The sum of the transactions' signature operations, by their cost (BIP 141).
    pub sigops: u32,
    /// The sum of the transactions' weights, in weight units (BIP 141).
    pub weight: u64,
    /// What the coinbase must carry after the payouts, worth nothing.
    pub required_outputs: Vec<TxOut>,
    /// What the coinbase is like beside its outputs.
    pub coinbase_form: CoinbaseForm,
    /// The coinbase's neighbours up the merkle tree, deepest first, in raw byte order.
    pub merkle_path: Vec<[u8; 32]>,
    /// The transactions after the coinbase, in the block's order.
    pub transactions: Vec<RawTransaction>,
}

impl Template {
    /// Checks what can be checked without the chain, and computes the merkle path.
    ///
    /// # Errors
    ///
    /// If subsidy and fees do not make the coinbase's value, if a required output is worth something, or if the witness
    /// commitment is missing where one is needed or is not that of the transactions.
    pub fn new(parts: TemplateParts) -> Result<Self, TemplateError> {
        let TemplateParts { coinbase_value: value, subsidy, fees, .. } = parts;
        if subsidy.checked_add(fees) != Some(value) {
            return Err(TemplateError::Value { value, subsidy, fees });
        }
        if let Some(output) = parts.required_outputs.iter().find(|output| output.value != Amount::ZERO) {
            return Err(TemplateError::RequiredOutputPays(Sats::from_sats(output.value.to_sat())));
        }
        check_commitment(&parts.required_outputs, &parts.transactions)?;
        Ok(Self {
            merkle_path: merkle::path(parts.transactions.iter().map(|tx| tx.txid().to_byte_array())),
            weight: parts.transactions.iter().map(|tx| u64::from(tx.weight())).sum(),
            id: parts.id,
            tip: parts.tip,
            version: parts.version,
            time: parts.time.max(parts.tip.min_ntime),
            coinbase_value: value,
            subsidy,
            fees,
            sigops: parts.sigops,
            required_outputs: parts.required_outputs,
            coinbase_form: CoinbaseForm::default(),
            transactions: parts.transactions,
        })
    }

    /// The same with a coinbase of another form.
    #[must_use]
    pub fn with_coinbase_form(self, coinbase_form: CoinbaseForm) -> Self {
        Self { coinbase_form, ..self }
    }

    /// Whether the coinbase commits to the witnesses, and so has a witness itself (BIP 141).
    #[must_use]
    pub fn has_witness_commitment(&self) -> bool {
        commitment(&self.required_outputs).is_some()
    }
}

/// The script that commits to the witnesses of a block with these transactions after its coinbase (BIP 141), with a witness
/// reserved value of 32 zero bytes.
///
/// This is what `getblocktemplate` calls `default_witness_commitment`.
#[must_use]
pub fn witness_commitment(transactions: &[RawTransaction]) -> ScriptBuf {
    let script = [&COMMITMENT_START[..], &commitment_hash(transactions)].concat();
    ScriptBuf::from_bytes(script)
}

/// The hash that a witness commitment carries.
pub(crate) fn commitment_hash(transactions: &[RawTransaction]) -> [u8; 32] {
    // The coinbase stands for itself with zeros, as its witness id would have to contain itself.
    let coinbase = std::iter::once([0; 32]);
    let root = merkle::root(coinbase.chain(transactions.iter().map(|tx| tx.wtxid().to_byte_array())));
    let (mut bytes, reserved) = ([0; 64], WITNESS_RESERVED_VALUE);
    let (left, right) = bytes.split_at_mut(32);
    left.copy_from_slice(&root);
    right.copy_from_slice(&reserved);
    sha256d::Hash::hash(&bytes).to_byte_array()
}

/// The hash in the witness commitment among `outputs`: the last one counts (BIP 141).
pub(crate) fn commitment(outputs: &[TxOut]) -> Option<&[u8]> {
    outputs.iter().rev().find_map(|output| {
        let hash = output.script_pubkey.as_bytes().strip_prefix(&COMMITMENT_START)?;
        hash.get(..32)
    })
}

/// That the outputs commit to the transactions' witnesses, if any has one.
fn check_commitment(outputs: &[TxOut], transactions: &[RawTransaction]) -> Result<(), TemplateError> {
    match commitment(outputs) {
        Some(hash) if hash == commitment_hash(transactions) => Ok(()),
        Some(_) => Err(TemplateError::Commitment),
        None if transactions.iter().any(RawTransaction::has_witness) => Err(TemplateError::NoCommitment),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use adit_units::JobId;
    use bitcoin::hashes::sha256d;

    use super::*;
    use crate::fixture;

    /// What the fixture's template was made of.
    fn parts(transactions: u32) -> TemplateParts {
        let template = fixture::template(1, fixture::tip(900_000, 0x1702_0000), transactions);
        TemplateParts {
            id: template.id,
            tip: template.tip,
            version: template.version,
            time: template.time,
            coinbase_value: template.coinbase_value,
            subsidy: template.subsidy,
            fees: template.fees,
            sigops: template.sigops,
            transactions: template.transactions.clone(),
            required_outputs: template.required_outputs.clone(),
        }
    }

    #[test]
    fn weight_and_path_are_those_of_the_transactions() {
        let template = Template::new(parts(5)).unwrap();
        let weights = template.transactions.iter().map(|tx| u64::from(tx.weight()));
        assert_eq!(template.weight, weights.sum::<u64>());
        let coinbase = [7; 32];
        let leaves =
            [coinbase].into_iter().chain(template.transactions.iter().map(|tx| tx.txid().to_byte_array()));
        let root = bitcoin::merkle_tree::calculate_root(leaves.map(sha256d::Hash::from_byte_array)).unwrap();
        assert_eq!(merkle::fold(coinbase, &template.merkle_path), root.to_byte_array());
    }

    #[test]
    fn the_commitment_is_the_one_that_rust_bitcoin_computes() {
        let template = fixture::template(1, fixture::tip(900_000, 0x1702_0000), 6);
        let spec = fixture::spec(&template, JobId(1), 1);
        let job = crate::Job::new(JobId(1), &template, &spec).unwrap();
        let bytes = job.block(&template, [0; 80], &[0; 20]).to_bytes();
        let block: bitcoin::Block = bitcoin::consensus::deserialize(&bytes).unwrap();
        assert!(block.check_witness_commitment());
        let commitment = bitcoin::Block::compute_witness_commitment(
            &block.witness_root().unwrap(),
            &WITNESS_RESERVED_VALUE,
        );
        let script = witness_commitment(&template.transactions);
        assert_eq!(script.as_bytes()[6..], commitment.to_byte_array());
        assert_eq!(script.as_bytes()[..6], COMMITMENT_START);
        assert_eq!(script.len(), 38);
    }

    #[test]
    fn value_that_is_not_subsidy_and_fees_is_refused() {
        let good = parts(2);
        let off_by_one =
            TemplateParts { fees: good.fees.checked_add(Sats::from_sats(1)).unwrap(), ..good.clone() };
        assert!(matches!(Template::new(off_by_one), Err(TemplateError::Value { .. })));
        let overflow = TemplateParts { fees: Sats::from_sats(u64::MAX), ..good };
        assert!(matches!(Template::new(overflow), Err(TemplateError::Value { .. })));
    }

    #[test]
    fn a_required_output_that_pays_is_refused() {
        let mut bad = parts(2);
        bad.required_outputs.push(TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() });
        assert_eq!(Template::new(bad), Err(TemplateError::RequiredOutputPays(Sats::from_sats(1))));
    }

    #[test]
    fn transactions_that_the_commitment_does_not_fit_are_refused() {
        let mut reordered = parts(3);
        reordered.transactions.swap(0, 1);
        assert_eq!(Template::new(reordered), Err(TemplateError::Commitment));
        let mut missing = parts(3);
        missing.transactions.pop();
        assert_eq!(Template::new(missing), Err(TemplateError::Commitment));
        let mut none = parts(3);
        none.required_outputs.clear();
        assert_eq!(Template::new(none.clone()), Err(TemplateError::NoCommitment));
        // What begins like a commitment but ends before its hash does is none.
        let short = ScriptBuf::from_bytes(COMMITMENT_START.to_vec());
        none.required_outputs.push(TxOut { value: Amount::ZERO, script_pubkey: short });
        assert_eq!(Template::new(none), Err(TemplateError::NoCommitment));
    }

    #[test]
    fn of_several_commitments_the_last_counts() {
        let mut two = parts(3);
        let wrong = ScriptBuf::from_bytes([&COMMITMENT_START[..], &[0; 32]].concat());
        two.required_outputs.insert(0, TxOut { value: Amount::ZERO, script_pubkey: wrong });
        assert!(Template::new(two.clone()).is_ok());
        two.required_outputs.reverse();
        assert_eq!(Template::new(two), Err(TemplateError::Commitment));
    }

    #[test]
    fn a_block_without_witnesses_needs_no_commitment() {
        let empty = TemplateParts { required_outputs: Vec::new(), ..parts(0) };
        let template = Template::new(empty).unwrap();
        assert!(!template.has_witness_commitment());
        assert!(template.merkle_path.is_empty());
        assert!(Template::new(parts(0)).unwrap().has_witness_commitment());
    }

    #[test]
    fn the_header_starts_no_earlier_than_the_tip_allows() {
        let behind = TemplateParts { time: fixture::TIME - 4000, ..parts(0) };
        let min_ntime = behind.tip.min_ntime;
        assert_eq!(Template::new(behind).unwrap().time, min_ntime);
        assert_eq!(Template::new(parts(0)).unwrap().time, fixture::TIME);
    }

    #[test]
    fn a_tip_knows_its_target() {
        assert_eq!(fixture::tip(1, 0x1d00_ffff).target, Target::DIFFICULTY_1);
    }
}

//! A template as a provider tells it (spec 7.2), and what becomes of it once its transactions are there.

use std::collections::HashMap;
use std::sync::Arc;

use adit_messages::template_distribution::NewTemplate;
use adit_share::{
    CoinbaseForm, MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT, RawTransaction, Template, TemplateParts, Tip,
};
use adit_units::{Height, Sats, Target, TemplateId};
use bitcoin::absolute::LockTime;
use bitcoin::params::Params;
use bitcoin::script::Builder;
use bitcoin::{Network, Script, ScriptBuf, Sequence, TxOut, Wtxid, consensus, transaction};

use super::super::FIXED_WEIGHT;
use super::Room;
use crate::rpc::{TemplateRefused, halving_interval};

/// What may stand behind the height in the input script: nothing, or the empty push that nodes add at heights whose push is a single byte.
const AFTER_HEIGHT: [&[u8]; 2] = [&[], &[0]];

/// What `NewTemplate` says, without the block that it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) id: TemplateId,
    pub(super) height: Height,
    pub(super) merkle_path: Vec<[u8; 32]>,
    version: u32,
    value: Sats,
    outputs: Vec<TxOut>,
    form: CoinbaseForm,
}

impl Draft {
    /// Reads the parts that have a form of their own.
    pub(super) fn read(new: &NewTemplate<'_>) -> Result<Self, TemplateRefused> {
        let (height, after_height) = split_prefix(new.coinbase_prefix.as_bytes())?;
        let path = new.merkle_path.iter().map(|node| <[u8; 32]>::try_from(node.as_bytes()));
        Ok(Self {
            id: TemplateId(new.template_id),
            height,
            merkle_path: path.collect::<Result<_, _>>().map_err(|_| TemplateRefused::Path)?,
            version: new.version,
            value: Sats::from_sats(new.coinbase_tx_value_remaining),
            outputs: outputs(new.coinbase_tx_outputs.as_bytes(), new.coinbase_tx_outputs_count)?,
            form: CoinbaseForm {
                version: transaction::Version(new.coinbase_tx_version.cast_signed()),
                sequence: Sequence::from_consensus(new.coinbase_tx_input_sequence),
                lock_time: LockTime::from_consensus(new.coinbase_tx_locktime),
                after_height,
            },
        })
    }
}

/// The height, which a coinbase begins with (BIP 34), and what the provider wants to stand behind it.
pub(crate) fn split_prefix(prefix: &[u8]) -> Result<(Height, ScriptBuf), TemplateRefused> {
    let first = Script::from_bytes(prefix).instructions().next();
    let number = first.and_then(Result::ok).and_then(|instruction| instruction.script_num());
    let height = number.and_then(|number| u32::try_from(number).ok()).filter(|&height| height > 0);
    let height = height.ok_or(TemplateRefused::CoinbasePrefix)?;
    let push = Builder::new().push_int(i64::from(height)).into_bytes();
    let rest = prefix.strip_prefix(&*push).ok_or(TemplateRefused::CoinbasePrefix)?;
    if !AFTER_HEIGHT.contains(&rest) {
        return Err(TemplateRefused::CoinbasePrefix);
    }
    Ok((Height(height), ScriptBuf::from_bytes(rest.to_vec())))
}

/// Outputs that stand one after the other without a count.
fn outputs(bytes: &[u8], count: u32) -> Result<Vec<TxOut>, TemplateRefused> {
    let (mut rest, mut outputs) = (bytes, Vec::new());
    for _ in 0..count {
        // Every output takes bytes, so a count that lies ends here.
        let (output, used) =
            consensus::deserialize_partial(rest).map_err(|_| TemplateRefused::CoinbaseOutputs)?;
        outputs.push(output);
        rest = rest.get(used..).unwrap_or_default();
    }
    if rest.is_empty() { Ok(outputs) } else { Err(TemplateRefused::CoinbaseOutputs) }
}

/// A template with its transactions, which nobody has looked at yet.
///
/// [`Self::check`] takes some milliseconds for a full block; call it where nothing else waits for that.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub(super) draft: Draft,
    pub(super) tip: Tip,
    pub(super) time: u32,
    pub(super) room: Room,
    pub(super) transactions: Vec<Vec<u8>>,
}

impl Candidate {
    /// The provider's number for it.
    #[must_use]
    pub const fn id(&self) -> TemplateId {
        self.draft.id
    }

    /// What it stands on.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The template, if everything in it that can be known agrees. Transactions that are in `before` too are shared with it.
    ///
    /// # Errors
    ///
    /// If it contradicts itself or the rules of `network`, or leaves less room than the provider was asked for.
    pub fn check(self, network: Network, before: Option<&Template>) -> Result<Template, TemplateRefused> {
        let Self { draft, tip, time, room, transactions } = self;
        if tip.target == Target::ZERO || tip.target > easiest(network) {
            return Err(TemplateRefused::NotOn(network));
        }
        let subsidy = Sats::subsidy(tip.height, halving_interval(network));
        let fees = draft.value.checked_sub(subsidy).ok_or(TemplateRefused::Fees)?;
        if transactions.is_empty() && fees > Sats::from_sats(0) {
            return Err(TemplateRefused::Fees);
        }
        let transactions = parse(transactions, before)?;
        // Nobody tells the cost of the signature operations; the provider has promised that this much is left.
        let sigops = if transactions.is_empty() { 0 } else { MAX_BLOCK_SIGOPS - u64::from(room.sigops) };
        let template = Template::new(TemplateParts {
            id: draft.id,
            tip,
            version: draft.version,
            time,
            coinbase_value: draft.value,
            subsidy,
            fees,
            sigops: u32::try_from(sigops).unwrap_or(u32::MAX),
            transactions,
            required_outputs: draft.outputs,
        })?;
        if template.merkle_path != draft.merkle_path {
            return Err(TemplateRefused::Path);
        }
        if template.weight + FIXED_WEIGHT + 4 * u64::from(room.bytes) > MAX_BLOCK_WEIGHT {
            return Err(TemplateRefused::TooHeavy);
        }
        Ok(template.with_coinbase_form(draft.form))
    }
}

/// Reads transactions, and shares the memory of those that are in `before` too.
fn parse(
    transactions: Vec<Vec<u8>>,
    before: Option<&Template>,
) -> Result<Vec<RawTransaction>, TemplateRefused> {
    let read = transactions.into_iter().enumerate().map(|(index, bytes)| {
        RawTransaction::parse(Arc::<[u8]>::from(bytes))
            .map_err(|error| TemplateRefused::Transaction { index, error })
    });
    let mut read = read.collect::<Result<Vec<_>, _>>()?;
    if let Some(before) = before {
        share(&mut read, before);
    }
    Ok(read)
}

/// Takes the bytes of transactions that `before` has too from there, so that they are in memory once.
pub(crate) fn share(transactions: &mut [RawTransaction], before: &Template) {
    let known: HashMap<Wtxid, &RawTransaction> =
        before.transactions.iter().map(|transaction| (transaction.wtxid(), transaction)).collect();
    for transaction in transactions {
        if let Some(&same) = known.get(&transaction.wtxid()) {
            *transaction = same.clone();
        }
    }
}

/// The easiest target that a network has.
fn easiest(network: Network) -> Target {
    Target::from_le_bytes(Params::new(network).max_attainable_target.to_le_bytes())
}

#[cfg(test)]
mod tests;

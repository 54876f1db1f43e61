//! From what a node says of a template over IPC to a template that was checked.

use adit_share::{
    CoinbaseForm, HEADER_LEN, MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT, RawTransaction, Template, TemplateParts,
    Tip,
};
use adit_units::{Height, Sats, Target, TemplateId};
use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::{Decodable as _, deserialize};
use bitcoin::{Network, ScriptBuf, Sequence, Transaction, TxOut, VarInt, transaction};

use crate::rpc::halving_interval;
use crate::tdp::{share_transactions, split_prefix};
use crate::{CoinbaseReserve, TemplateRefused};

/// What a block weighs beside its transactions: the header and the longest count of transactions.
pub(super) const BLOCK_OVERHEAD_WEIGHT: u64 = (HEADER_LEN as u64 + 9) * 4;

/// A template as a node gives it, not yet read.
#[derive(Clone, Debug)]
pub(super) struct RawOffer {
    /// The whole block, with a coinbase that stands in for ours.
    pub(super) block: Vec<u8>,
    /// In satoshis, for each transaction; older nodes begin with one for the coinbase.
    pub(super) fees: Vec<i64>,
    /// By their cost (BIP 141), for each transaction; older nodes begin with one for the coinbase.
    pub(super) sigops: Vec<i64>,
    /// The coinbase's neighbours up the merkle tree, deepest first.
    pub(super) merkle_path: Vec<Vec<u8>>,
    pub(super) coinbase: CoinbaseOffer,
}

/// What the coinbase must be like.
#[derive(Clone, Debug)]
pub(super) enum CoinbaseOffer {
    /// As Bitcoin Core tells it since version 31.
    Parts(CoinbaseParts),
    /// The serialised transaction that Bitcoin Core 30 would use itself.
    Whole(Vec<u8>),
}

/// The parts of a coinbase that the node has a say in.
#[derive(Clone, Debug)]
pub(super) struct CoinbaseParts {
    pub(super) version: u32,
    pub(super) sequence: u32,
    pub(super) lock_time: u32,
    pub(super) script_sig_prefix: Vec<u8>,
    /// The first and only item of its witness; empty where there is none.
    pub(super) witness: Vec<u8>,
    /// Subsidy and fees, without what the required outputs take, in satoshis.
    pub(super) value_remaining: i64,
    pub(super) required_outputs: Vec<Vec<u8>>,
}

/// What we choose about a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) id: TemplateId,
    pub(super) network: Network,
    pub(super) reserve: CoinbaseReserve,
    /// The least time of blocks on this tip, in seconds since 1970.
    pub(super) min_ntime: u32,
}

/// The coinbase's demands, read.
struct Demands {
    height: Height,
    value: Sats,
    required_outputs: Vec<TxOut>,
    form: CoinbaseForm,
}

/// Reads the 80 bytes that a block begins with.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, TemplateRefused> {
    let header = bytes.get(..HEADER_LEN).and_then(|bytes| deserialize(bytes).ok());
    header.ok_or(TemplateRefused::Bytes("header"))
}

impl RawOffer {
    /// The template, checked. Transactions that are in `before` too are shared with it.
    ///
    /// It takes some milliseconds for a full block; call it where nothing else waits for that.
    pub(super) fn check(self, terms: Terms, before: Option<&Template>) -> Result<Template, TemplateRefused> {
        let header = read_header(&self.block)?;
        let mut transactions = self.transactions()?;
        let count = transactions.len();
        let fees = sum(&self.fees, count).ok_or(TemplateRefused::Fees)?;
        let sigops = sum(&self.sigops, count).and_then(|sum| u32::try_from(sum).ok());
        let demands = self.coinbase.read()?;
        let tip = Tip::new(header.prev_blockhash, demands.height, header.bits, terms.min_ntime);
        if tip.target == Target::ZERO {
            return Err(TemplateRefused::Target);
        }
        if let Some(before) = before {
            share_transactions(&mut transactions, before);
        }
        let template = Template::new(TemplateParts {
            id: terms.id,
            tip,
            version: header.version.to_consensus().cast_unsigned(),
            time: header.time,
            coinbase_value: demands.value,
            subsidy: Sats::subsidy(demands.height, halving_interval(terms.network)),
            fees: Sats::from_sats(fees),
            sigops: sigops.ok_or(TemplateRefused::Bytes("cost of signature operations"))?,
            transactions,
            required_outputs: demands.required_outputs,
        })?;
        if !self
            .merkle_path
            .iter()
            .map(Vec::as_slice)
            .eq(template.merkle_path.iter().map(<[u8; 32]>::as_slice))
        {
            return Err(TemplateRefused::Path);
        }
        let taken = template.weight.saturating_add(BLOCK_OVERHEAD_WEIGHT);
        if taken.saturating_add(terms.reserve.weight) > MAX_BLOCK_WEIGHT {
            return Err(TemplateRefused::TooHeavy);
        }
        if u64::from(template.sigops).saturating_add(terms.reserve.sigops) > MAX_BLOCK_SIGOPS {
            return Err(TemplateRefused::TooManySigops);
        }
        Ok(template.with_coinbase_form(demands.form))
    }

    /// The transactions after the coinbase.
    fn transactions(&self) -> Result<Vec<RawTransaction>, TemplateRefused> {
        const UNREADABLE: TemplateRefused = TemplateRefused::Bytes("block");
        let mut rest = self.block.get(HEADER_LEN..).ok_or(UNREADABLE)?;
        let VarInt(count) = VarInt::consensus_decode(&mut rest).map_err(|_| UNREADABLE)?;
        next_transaction(&mut rest).ok_or(UNREADABLE)?;
        let mut transactions = Vec::new();
        for index in 0..usize::try_from(count).map_err(|_| UNREADABLE)?.saturating_sub(1) {
            // Every transaction takes bytes, so a count that lies ends here.
            let bytes = next_transaction(&mut rest).ok_or(UNREADABLE)?;
            let raw = RawTransaction::parse(bytes);
            transactions.push(raw.map_err(|error| TemplateRefused::Transaction { index, error })?);
        }
        if rest.is_empty() { Ok(transactions) } else { Err(UNREADABLE) }
    }
}

/// Takes the bytes of one transaction off the front.
fn next_transaction<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut after = *rest;
    Transaction::consensus_decode(&mut after).ok()?;
    let (bytes, after) = rest.split_at_checked(rest.len() - after.len())?;
    *rest = after;
    Some(bytes)
}

impl CoinbaseOffer {
    fn read(&self) -> Result<Demands, TemplateRefused> {
        match self {
            Self::Parts(parts) => parts.read(),
            Self::Whole(bytes) => read_whole(bytes),
        }
    }
}

impl CoinbaseParts {
    fn read(&self) -> Result<Demands, TemplateRefused> {
        check_witness(&self.witness)?;
        let (height, after_height) = split_prefix(&self.script_sig_prefix)?;
        let outputs = self.required_outputs.iter().map(|bytes| deserialize(bytes));
        let required_outputs: Vec<TxOut> =
            outputs.collect::<Result<_, _>>().map_err(|_| TemplateRefused::CoinbaseOutputs)?;
        // What a required output takes is missing from the remaining value; a template where one takes something is refused later.
        let value = u64::try_from(self.value_remaining).map_err(|_| TemplateRefused::Fees)?;
        Ok(Demands {
            height,
            value: Sats::from_sats(value),
            required_outputs,
            form: CoinbaseForm {
                version: transaction::Version(self.version.cast_signed()),
                sequence: Sequence::from_consensus(self.sequence),
                lock_time: LockTime::from_consensus(self.lock_time),
                after_height,
            },
        })
    }
}

/// Reads the coinbase that an older node would use itself: all it creates goes to one output, beside those that are worth nothing.
fn read_whole(bytes: &[u8]) -> Result<Demands, TemplateRefused> {
    let coinbase: Transaction = deserialize(bytes).map_err(|_| TemplateRefused::Bytes("coinbase"))?;
    let input = coinbase.input.first().ok_or(TemplateRefused::Bytes("coinbase"))?;
    check_witness(input.witness.nth(0).unwrap_or_default())?;
    let (height, _) = split_prefix(input.script_sig.as_bytes())?;
    let (required_outputs, paying): (Vec<TxOut>, Vec<TxOut>) =
        coinbase.output.into_iter().partition(|output| output.value.to_sat() == 0);
    let value = Sats::checked_sum(paying.iter().map(|output| Sats::from_sats(output.value.to_sat())));
    Ok(Demands {
        height,
        value: value.ok_or(TemplateRefused::Fees)?,
        required_outputs,
        form: CoinbaseForm {
            version: coinbase.version,
            sequence: input.sequence,
            lock_time: coinbase.lock_time,
            // That node's empty push stands for an extranonce, which ours has anyway.
            after_height: ScriptBuf::new(),
        },
    })
}

/// The sum of what is told for each of `count` transactions; `None` if there is not one for each, or if it is nothing that adds up.
fn sum(each: &[i64], count: usize) -> Option<u64> {
    let own = match each.len().checked_sub(count)? {
        0 => each,
        1 => each.get(1..)?,
        _ => return None,
    };
    own.iter().try_fold(0_u64, |sum, &one| sum.checked_add(u64::try_from(one).ok()?))
}

/// The reserved value must be the one that our coinbase carries.
fn check_witness(witness: &[u8]) -> Result<(), TemplateRefused> {
    if witness.is_empty() || witness == [0; 32] { Ok(()) } else { Err(TemplateRefused::ReservedValue) }
}

#[cfg(test)]
mod tests;

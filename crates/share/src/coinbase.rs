//! The coinbase transaction: how a job's is written, and how its hash is finished once the extranonce is known.

use std::sync::Arc;

use adit_units::{Height, JobTag, Sats};
use bitcoin::script::Builder;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Transaction, TxIn, TxOut, Witness, consensus};

use crate::sha256::{self, BLOCK_LEN, Pair, State};
use crate::template::WITNESS_RESERVED_VALUE;
use crate::{JobError, Template};

/// Length of the extranonce of a pool's own jobs, prefix and rolled part together, in bytes.
pub const FULL_EXTRANONCE_LEN: usize = 20;
/// Greatest length of an extranonce, prefix and rolled part together, in bytes (the wire type is `B0_32`).
pub const MAX_EXTRANONCE_LEN: usize = 32;
/// Greatest length of a coinbase's input script, in bytes (consensus).
pub const MAX_SCRIPT_SIG_LEN: usize = 100;
/// Least length of a coinbase's input script, in bytes (consensus).
pub const MIN_SCRIPT_SIG_LEN: usize = 2;
/// Greatest length of either part of a coinbase around the extranonce, in bytes (the wire type is `B0_64K`).
pub const MAX_COINBASE_PART_LEN: usize = 0xffff;
/// Greatest length of a signature that fits beside an extranonce of [`FULL_EXTRANONCE_LEN`] at any height, in bytes.
pub const MAX_SIGNATURE_LEN: usize =
    MAX_SCRIPT_SIG_LEN - MAX_HEIGHT_PUSH_LEN - (1 + JobTag::LEN) - 1 - (1 + FULL_EXTRANONCE_LEN);

/// Length of the longest height push: a sign bit makes the highest heights five bytes.
const MAX_HEIGHT_PUSH_LEN: usize = 6;
/// Greatest length of data that a single byte can push.
const MAX_DIRECT_PUSH_LEN: usize = 75;
/// Length of the locktime at the end of every transaction, in bytes.
pub(crate) const LOCKTIME_LEN: usize = 4;

/// What a pool puts into the coinbase of a job.
///
/// The input script is four pushes: the height (BIP 34), the job tag, the signature (left out when empty) and the extranonce; behind the
/// height stands what the template wants there. Being pushes, none of their bytes can count as a signature operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinbaseSpec {
    /// Who is paid; the amounts add up to the template's coinbase value exactly.
    pub payouts: Vec<TxOut>,
    /// The pool's name for all to see, at most [`MAX_SIGNATURE_LEN`] bytes.
    pub signature: String,
    /// The mark that makes this job unlike any other.
    pub tag: JobTag,
    /// Length of the extranonce, prefix and rolled part together, in bytes; [`FULL_EXTRANONCE_LEN`] for a pool.
    pub extranonce_len: usize,
}

impl CoinbaseSpec {
    /// The coinbase for `template`, cut where the extranonce goes.
    pub(crate) fn write(&self, template: &Template) -> Result<Coinbase, JobError> {
        self.check_payouts(template)?;
        let form = &template.coinbase_form;
        let script_sig = self.script_sig(template.tip.height, &form.after_height)?;
        let extranonce_end = SCRIPT_SIG_OFFSET + script_sig.len();
        let transaction = Transaction {
            version: form.version,
            lock_time: form.lock_time,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig,
                sequence: form.sequence,
                witness: Witness::new(),
            }],
            output: self.payouts.iter().chain(&template.required_outputs).cloned().collect(),
        };
        let bytes = consensus::serialize(&transaction);
        let (with_extranonce, suffix) = bytes.split_at(extranonce_end);
        let (prefix, _) = with_extranonce.split_at(extranonce_end - self.extranonce_len);
        Coinbase::new(prefix, suffix, self.extranonce_len)
    }

    /// That every satoshi is paid out, and none that is not there.
    fn check_payouts(&self, template: &Template) -> Result<(), JobError> {
        let amounts = self.payouts.iter().map(|output| Sats::from_sats(output.value.to_sat()));
        let payouts = Sats::checked_sum(amounts);
        if payouts != Some(template.coinbase_value) {
            return Err(JobError::Payouts { payouts, coinbase_value: template.coinbase_value });
        }
        if self.payouts.is_empty() {
            return Err(JobError::NoPayout);
        }
        Ok(())
    }

    /// The input script, with zeros for the extranonce.
    fn script_sig(&self, height: Height, after_height: &Script) -> Result<ScriptBuf, JobError> {
        let mut script = height_push(height).into_bytes();
        script.extend_from_slice(after_height.as_bytes());
        push(&mut script, &self.tag.to_bytes())?;
        if !self.signature.is_empty() {
            push(&mut script, self.signature.as_bytes())?;
        }
        if self.extranonce_len > MAX_EXTRANONCE_LEN {
            return Err(JobError::ExtranonceTooLong { len: self.extranonce_len });
        }
        push(&mut script, &vec![0; self.extranonce_len])?;
        match script.len() {
            MIN_SCRIPT_SIG_LEN..=MAX_SCRIPT_SIG_LEN => Ok(ScriptBuf::from_bytes(script)),
            len => Err(JobError::ScriptSigLength { len }),
        }
    }
}

/// Where the input script begins: after version, input count, outpoint and the script's length, which is one byte up to 252.
pub(crate) const SCRIPT_SIG_OFFSET: usize = 4 + 1 + 36 + 1;

/// The height as the first thing in the input script, pushed as consensus expects it (BIP 34).
pub(crate) fn height_push(height: Height) -> ScriptBuf {
    Builder::new().push_int(i64::from(height.0)).into_script()
}

/// Appends a push of `data` that takes one byte to announce it.
fn push(script: &mut Vec<u8>, data: &[u8]) -> Result<(), JobError> {
    match u8::try_from(data.len()) {
        Ok(len) if data.len() <= MAX_DIRECT_PUSH_LEN => {
            script.push(len);
            script.extend_from_slice(data);
            Ok(())
        }
        Ok(_) | Err(_) => Err(JobError::PushTooLong { len: data.len() }),
    }
}

/// A coinbase without its witness, with a hole for the extranonce, hashed as far as it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coinbase {
    /// All of it with zeros in place of the extranonce, and padded as it is hashed.
    blocks: Arc<[sha256::Block]>,
    prefix_len: usize,
    extranonce_len: usize,
    suffix_len: usize,
    /// The state after the prefix's whole blocks.
    midstate: State,
}

impl Coinbase {
    /// Lays it out, and hashes the prefix.
    pub(crate) fn new(prefix: &[u8], suffix: &[u8], extranonce_len: usize) -> Result<Self, JobError> {
        if extranonce_len > MAX_EXTRANONCE_LEN {
            return Err(JobError::ExtranonceTooLong { len: extranonce_len });
        }
        if let Some(len) = [prefix.len(), suffix.len()].into_iter().find(|&len| len > MAX_COINBASE_PART_LEN) {
            return Err(JobError::CoinbaseTooLong { len });
        }
        let (whole, _) = prefix.as_chunks::<BLOCK_LEN>();
        let mut midstate = State::INITIAL;
        midstate.compress(whole);

        let mut bytes = prefix.to_vec();
        bytes.resize(prefix.len() + extranonce_len, 0);
        bytes.extend_from_slice(suffix);
        let len = bytes.len();
        sha256::pad(&mut bytes, len);
        let (blocks, _) = bytes.as_chunks::<BLOCK_LEN>();
        Ok(Self {
            blocks: blocks.into(),
            prefix_len: prefix.len(),
            extranonce_len,
            suffix_len: suffix.len(),
            midstate,
        })
    }

    /// The same coinbase, which lies where the other one does if that has the same parts.
    pub(crate) fn held_with(self, other: &Self) -> Self {
        if self == *other { other.clone() } else { self }
    }

    /// The transaction's id with the extranonce in its place, of which both parts together are as long as the job says.
    #[inline]
    pub(crate) fn txid(&self, extranonce_prefix: &[u8], rolled: &[u8]) -> [u8; 32] {
        let open = self.fill(extranonce_prefix, rolled);
        let mut state = self.midstate;
        state.compress(self.reached(&open));
        state.compress(self.tail());
        state.hash_again()
    }

    /// The ids of two transactions at once, as [`Self::txid`] makes each of them.
    #[inline]
    pub(crate) fn txid_of_two(
        coinbases: [&Self; 2],
        extranonce_prefixes: [&[u8]; 2],
        rolled: [&[u8]; 2],
    ) -> [[u8; 32]; 2] {
        let [first, second] = coinbases;
        let open =
            [first.fill(extranonce_prefixes[0], rolled[0]), second.fill(extranonce_prefixes[1], rolled[1])];
        let mut pair = Pair([first.midstate, second.midstate]);
        pair.compress([first.reached(&open[0]), second.reached(&open[1])]);
        pair.hash_twice([first.tail(), second.tail()])
    }

    /// The blocks that are not hashed yet; the extranonce begins in the first of them.
    #[inline]
    fn open(&self) -> &[sha256::Block] {
        self.blocks.get(self.prefix_len / BLOCK_LEN..).unwrap_or_default()
    }

    /// Those of them that the extranonce cannot reach into.
    #[inline]
    fn tail(&self) -> &[sha256::Block] {
        self.open().get(2..).unwrap_or_default()
    }

    /// The blocks that the extranonce may reach into, with the extranonce.
    #[inline]
    fn fill(&self, extranonce_prefix: &[u8], rolled: &[u8]) -> [sha256::Block; 2] {
        let mut open = [[0; BLOCK_LEN]; 2];
        for (to, from) in open.iter_mut().zip(self.open()) {
            *to = *from;
        }
        let rolled_at = write_at(open.as_flattened_mut(), self.prefix_len % BLOCK_LEN, extranonce_prefix);
        write_at(open.as_flattened_mut(), rolled_at, rolled);
        open
    }

    /// As many of them as there are: one only if the whole coinbase ends in the block of the extranonce.
    #[inline]
    fn reached<'a>(&self, open: &'a [sha256::Block; 2]) -> &'a [sha256::Block] {
        open.get(..self.open().len()).unwrap_or(open)
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        self.blocks.as_flattened().get(..self.prefix_len).unwrap_or_default()
    }

    pub(crate) fn suffix(&self) -> &[u8] {
        let behind = self.blocks.as_flattened().get(self.prefix_len + self.extranonce_len..);
        behind.and_then(|bytes| bytes.get(..self.suffix_len)).unwrap_or_default()
    }

    pub(crate) fn extranonce_len(&self) -> usize {
        self.extranonce_len
    }

    /// The weight with or without a witness, in weight units.
    pub(crate) fn weight(&self, with_witness: bool) -> u64 {
        let len = self.prefix_len + self.extranonce_len + self.suffix_len;
        // Marker, flag, number of items, length of the item, the item.
        let witness = if with_witness { 2 + 1 + 1 + WITNESS_RESERVED_VALUE.len() } else { 0 };
        len as u64 * 4 + witness as u64
    }

    /// The transaction as the block carries it.
    pub(crate) fn to_bytes(&self, extranonce: &[u8], with_witness: bool) -> Vec<u8> {
        let body = [self.prefix(), extranonce, self.suffix()].concat();
        if !with_witness {
            return body;
        }
        // The marker and flag come after the version, the witness before the locktime (BIP 144).
        let (version, rest) = body.split_at(body.len().min(4));
        let (inputs_and_outputs, locktime) = rest.split_at(rest.len().saturating_sub(LOCKTIME_LEN));
        [version, &[0, 1], inputs_and_outputs, &[1, 32], &WITNESS_RESERVED_VALUE, locktime].concat()
    }
}

/// Writes `field` at offset `at` and gives the offset after it; where there is no room, writes nothing and gives `at`.
#[inline]
pub(crate) fn write_at(bytes: &mut [u8], at: usize, field: &[u8]) -> usize {
    match bytes.get_mut(at..).and_then(|bytes| bytes.get_mut(..field.len())) {
        Some(place) => {
            place.copy_from_slice(field);
            at.saturating_add(field.len())
        }
        None => at,
    }
}

/// The cost of the signature operations in `outputs`, as a block counts them (BIP 141).
pub(crate) fn sigops(outputs: &[TxOut]) -> u64 {
    outputs.iter().map(|output| output.script_pubkey.count_sigops_legacy() as u64 * 4).sum()
}

/// What `outputs` pay in all.
pub(crate) fn value(outputs: &[TxOut]) -> Option<Amount> {
    outputs.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value))
}

#[cfg(test)]
mod tests;

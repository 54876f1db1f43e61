//! A coinbase that somebody else has made, read by the same decoder as any transaction and never by offsets.

use adit_units::{Height, Sats};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, consensus};

use super::DeclarationError;
use crate::coinbase::{self, Coinbase, height_push};
use crate::template::{WITNESS_RESERVED_VALUE, commitment};
use crate::{MAX_EXTRANONCE_LEN, MAX_SCRIPT_SIG_LEN, MIN_SCRIPT_SIG_LEN};

/// A coinbase as the fields of `SetCustomMiningJob` give it (spec 5.3.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoinbaseFields<'a> {
    /// `coinbase_tx_version`.
    pub version: u32,
    /// `coinbase_prefix`: the input script up to the extranonce. The spec says 8 bytes; the miner's own tag may make it longer.
    pub script_prefix: &'a [u8],
    /// `coinbase_tx_input_nSequence`.
    pub sequence: u32,
    /// `coinbase_tx_outputs`: a count, then the outputs, consensus-serialised.
    pub outputs: &'a [u8],
    /// `coinbase_tx_locktime`.
    pub lock_time: u32,
}

/// Length of the input's sequence, which stands between the extranonce and the outputs, in bytes.
const SEQUENCE_LEN: usize = 4;

/// A coinbase with a hole for the extranonce at the end of its input script, checked as far as it goes alone.
///
/// Its bytes are held once, and shared by its copies and by the job that is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredCoinbase {
    height: Height,
    value: Sats,
    /// The hash in the witness commitment.
    commitment: Option<[u8; 32]>,
    /// How it is hashed and written.
    coinbase: Coinbase,
}

impl DeclaredCoinbase {
    /// The coinbase that `prefix`, an extranonce of `extranonce_len` bytes and `suffix` make together (`DeclareMiningJob`, spec 6.4.4),
    /// with its witness or without.
    ///
    /// # Errors
    ///
    /// If that is no coinbase, or one that no block could have.
    pub fn parse(prefix: &[u8], suffix: &[u8], extranonce_len: usize) -> Result<Self, DeclarationError> {
        if extranonce_len > MAX_EXTRANONCE_LEN {
            return Err(DeclarationError::ExtranonceTooLong { len: extranonce_len });
        }
        let bytes = [prefix, &vec![0; extranonce_len], suffix].concat();
        let transaction: Transaction = consensus::deserialize(&bytes)
            .map_err(|error| DeclarationError::Transaction { reason: error.to_string() })?;
        let witness = input_of(&transaction)?.witness.clone();
        let checked = Self::checked(transaction, extranonce_len)?;
        checked.check_witness(&witness)?;
        // Written again and cut at the end of the input script, it must come apart into the parts that the miner gave.
        let whole = checked.coinbase.to_bytes(&vec![0; extranonce_len], !witness.is_empty());
        let hole = prefix.len() + extranonce_len;
        let marks = if witness.is_empty() { 0 } else { 2 };
        if whole != bytes || checked.prefix().len() + marks + extranonce_len != hole {
            return Err(DeclarationError::ExtranoncePlace { len: extranonce_len });
        }
        Ok(checked)
    }

    /// The coinbase that the fields of `SetCustomMiningJob` and an extranonce of `extranonce_len` bytes make together (spec 5.3.18).
    ///
    /// # Errors
    ///
    /// If that is no coinbase, or one that no block could have.
    pub fn from_fields(fields: CoinbaseFields<'_>, extranonce_len: usize) -> Result<Self, DeclarationError> {
        if extranonce_len > MAX_EXTRANONCE_LEN {
            return Err(DeclarationError::ExtranonceTooLong { len: extranonce_len });
        }
        let outputs: Vec<TxOut> = consensus::deserialize(fields.outputs)
            .map_err(|error| DeclarationError::Outputs { reason: error.to_string() })?;
        let script_sig = [fields.script_prefix, &vec![0; extranonce_len]].concat();
        let transaction = Transaction {
            version: Version(fields.version.cast_signed()),
            lock_time: LockTime::from_consensus(fields.lock_time),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::from_bytes(script_sig),
                sequence: Sequence(fields.sequence),
                witness: Witness::new(),
            }],
            output: outputs,
        };
        Self::checked(transaction, extranonce_len)
    }

    /// Checks the transaction, whose witness is looked at elsewhere.
    fn checked(mut transaction: Transaction, extranonce_len: usize) -> Result<Self, DeclarationError> {
        let input = input_of(&transaction)?;
        if !input.previous_output.is_null() {
            return Err(DeclarationError::NotNull);
        }
        let script_sig = input.script_sig.as_bytes();
        if !(MIN_SCRIPT_SIG_LEN..=MAX_SCRIPT_SIG_LEN).contains(&script_sig.len()) {
            return Err(DeclarationError::ScriptSigLength { len: script_sig.len() });
        }
        let before = script_sig.len().checked_sub(extranonce_len).and_then(|len| script_sig.get(..len));
        let before = before.ok_or(DeclarationError::ExtranoncePlace { len: extranonce_len })?;
        let height = height_of(before).ok_or(DeclarationError::Height)?;
        if !is_final(transaction.lock_time, input.sequence, height) {
            return Err(DeclarationError::LockTime);
        }
        let value = coinbase::value(&transaction.output).ok_or(DeclarationError::Value)?;
        let script_sig_end = coinbase::SCRIPT_SIG_OFFSET + script_sig.len();
        // Without a witness it is written in the form that is hashed.
        transaction.input.iter_mut().for_each(|input| input.witness.clear());
        let bytes = consensus::serialize(&transaction);
        let (with_extranonce, suffix) = bytes.split_at(script_sig_end);
        let (prefix, _) = with_extranonce.split_at(script_sig_end - extranonce_len);
        Ok(Self {
            height,
            value: Sats::from_sats(value.to_sat()),
            commitment: commitment(&transaction.output).and_then(|hash| hash.try_into().ok()),
            coinbase: Coinbase::new(prefix, suffix, extranonce_len)?,
        })
    }

    /// That the witness is the one that [`Self::to_bytes`] writes, or left out.
    fn check_witness(&self, witness: &Witness) -> Result<(), DeclarationError> {
        let reserved = witness.len() == 1 && witness.nth(0) == Some(&WITNESS_RESERVED_VALUE);
        if witness.is_empty() || (reserved && self.has_witness_commitment()) {
            Ok(())
        } else {
            Err(DeclarationError::Witness)
        }
    }

    /// The coinbase up to the extranonce, without witness.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        self.coinbase.prefix()
    }

    /// The coinbase after the extranonce, without witness.
    #[must_use]
    pub fn suffix(&self) -> &[u8] {
        self.coinbase.suffix()
    }

    /// Length of the extranonce, prefix and rolled part together, in bytes.
    #[must_use]
    pub fn extranonce_len(&self) -> usize {
        self.coinbase.extranonce_len()
    }

    /// What it pays; decoded anew each time, because many small outputs take several times the room of their bytes.
    #[expect(
        clippy::missing_panics_doc,
        reason = "cannot happen: the bytes were written by the same encoder"
    )]
    #[must_use]
    pub fn outputs(&self) -> Vec<TxOut> {
        let (suffix, behind) = (self.suffix(), coinbase::LOCKTIME_LEN);
        let outputs = suffix.get(SEQUENCE_LEN..suffix.len().saturating_sub(behind)).unwrap_or_default();
        consensus::deserialize(outputs).expect("they stand between the sequence and the lock time")
    }

    /// What it pays out in all.
    #[must_use]
    pub const fn value(&self) -> Sats {
        self.value
    }

    /// The height of its block (BIP 34).
    #[must_use]
    pub const fn height(&self) -> Height {
        self.height
    }

    /// Whether it commits to the witnesses of its block, and so has a witness itself (BIP 141).
    #[must_use]
    pub fn has_witness_commitment(&self) -> bool {
        self.commitment.is_some()
    }

    /// The hash in its witness commitment, if it has one.
    pub(super) const fn commitment(&self) -> Option<&[u8; 32]> {
        self.commitment.as_ref()
    }

    /// How it is hashed and written.
    pub(super) const fn as_coinbase(&self) -> &Coinbase {
        &self.coinbase
    }

    /// Its weight in weight units.
    pub(super) fn weight(&self) -> u64 {
        self.coinbase.weight(self.has_witness_commitment())
    }

    /// The transaction as its block carries it, with that whole extranonce.
    #[must_use]
    pub fn to_bytes(&self, extranonce: &[u8]) -> Vec<u8> {
        self.coinbase.to_bytes(extranonce, self.has_witness_commitment())
    }
}

/// The one input.
fn input_of(transaction: &Transaction) -> Result<&TxIn, DeclarationError> {
    match transaction.input.as_slice() {
        [input] => Ok(input),
        inputs => Err(DeclarationError::Inputs(inputs.len())),
    }
}

/// The height that an input script begins with, if it is pushed as consensus expects it (BIP 34).
fn height_of(script: &[u8]) -> Option<Height> {
    let (&first, rest) = script.split_first()?;
    let number = match first {
        0 => 0,
        1..=5 => {
            let bytes = rest.get(..first.into())?;
            bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
        }
        0x51..=0x60 => u64::from(first - 0x50),
        _ => return None,
    };
    let height = Height(u32::try_from(number).ok()?);
    // There is one way to write each height; another one, or a sign bit, and this is not it.
    script.starts_with(height_push(height).as_bytes()).then_some(height)
}

/// Whether a lock time lets the coinbase into the block at that height.
///
/// One that is a time could only be held against the times of the blocks before, which are not known here.
fn is_final(lock_time: LockTime, sequence: Sequence, height: Height) -> bool {
    let passed = match lock_time {
        LockTime::Blocks(lock) => lock.to_consensus_u32() < height.0,
        LockTime::Seconds(_) => false,
    };
    passed || lock_time == LockTime::ZERO || sequence == Sequence::MAX
}

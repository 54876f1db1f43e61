//! Templates and coinbases to judge shares of, made from nothing but numbers.

use std::sync::Arc;

use adit_share::{
    CoinbaseSpec, FULL_EXTRANONCE_LEN, RawTransaction, Template, TemplateParts, Tip, witness_commitment,
};
use adit_units::{Height, JobId, JobTag, Sats, TemplateId};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    consensus,
};

/// The time that templates start with, in seconds since 1970.
pub(crate) const TIME: u32 = 1_780_000_000;

/// The pool's name in every coinbase, in the form that the oracle gives it: its own tag is `adit`.
pub(crate) const SIGNATURE: &str = "Sv2/adit//";

/// A tip above the block numbered `above`, with this difficulty.
pub(crate) fn tip(above: u32, nbits: u32) -> Tip {
    let prev_hash = BlockHash::from_byte_array(sha256::Hash::hash(&above.to_le_bytes()).to_byte_array());
    Tip::new(prev_hash, Height(above + 1), CompactTarget::from_consensus(nbits), TIME - 3600)
}

/// A template on `tip` with so many transactions; they spend and pay nothing that exists.
pub(crate) fn template(id: u64, tip: Tip, transactions: u32) -> Arc<Template> {
    let sigops = transactions;
    let subsidy = Sats::subsidy(tip.height, 210_000);
    let fees = Sats::from_sats(1000 * u64::from(transactions));
    let transactions: Vec<_> = (0..transactions).map(transaction).collect();
    let parts = TemplateParts {
        id: TemplateId(id),
        tip,
        version: 0x2000_0000,
        time: TIME,
        coinbase_value: subsidy.checked_add(fees).unwrap(),
        subsidy,
        fees,
        sigops,
        required_outputs: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: witness_commitment(&transactions),
        }],
        transactions,
    };
    Arc::new(Template::new(parts).unwrap())
}

/// The coinbase for `template` that pays so many outputs.
pub(crate) fn spec(template: &Template, job: JobId, payouts: u64) -> CoinbaseSpec {
    let value = template.coinbase_value.to_sats();
    let (each, rest) = (value / payouts, value % payouts);
    let payouts = (0..payouts).map(|payout| TxOut {
        value: Amount::from_sat(if payout == 0 { each + rest } else { each }),
        script_pubkey: script(payout),
    });
    CoinbaseSpec {
        payouts: payouts.collect(),
        signature: SIGNATURE.to_owned(),
        tag: JobTag { instance: 1, boot: 2, job },
        extranonce_len: FULL_EXTRANONCE_LEN,
    }
}

/// A transaction with a witness.
fn transaction(number: u32) -> RawTransaction {
    let spent = Txid::from_byte_array(sha256::Hash::hash(&number.to_le_bytes()).to_byte_array());
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(spent, number % 7),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[&[0x30; 71][..], &[2; 33]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(546), script_pubkey: script(number.into()) }],
    };
    RawTransaction::parse(consensus::serialize(&transaction)).unwrap()
}

/// A script that pays to the hash of a number as if it were a key (version 0, 20 bytes).
fn script(number: u64) -> ScriptBuf {
    let hash = sha256::Hash::hash(&number.to_le_bytes()).to_byte_array();
    ScriptBuf::from_bytes([&[0, 20], &hash[..20]].concat())
}

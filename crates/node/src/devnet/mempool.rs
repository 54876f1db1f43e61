//! Synthetic transactions: they look and weigh like real ones, pay fees, and spend coins that nobody has.

use core::time::Duration;
use std::collections::{HashMap, HashSet};

use adit_share::RawTransaction;
use adit_units::{Monotonic, Sats};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::script::Builder;
use bitcoin::{
    Amount, OutPoint, PubkeyHash, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness,
    Wtxid, absolute, consensus, transaction,
};

use super::DevnetConfig;

/// The greatest fee rate, in satoshis per virtual byte; the least is one.
const MAX_FEE_RATE: u64 = 50;

/// A transaction that waits to be mined.
#[derive(Debug)]
pub(super) struct Entry {
    raw: RawTransaction,
    /// What the miner gets.
    pub(super) fee: Sats,
    /// The cost of the signature operations (BIP 141), as far as it shows without the spent coins.
    pub(super) sigops: u32,
}

/// All that waits, in order of arrival.
#[derive(Debug)]
pub(super) struct Mempool {
    seed: [u8; 32],
    entries: Vec<Entry>,
    /// How many transactions were ever made; makes the next one unlike all before.
    made: u64,
    arrival: Duration,
    /// When the last one came.
    last_arrival: Monotonic,
}

impl Mempool {
    pub(super) fn new(config: &DevnetConfig, now: Monotonic) -> Self {
        let mut mempool = Self {
            seed: config.seed,
            entries: Vec::new(),
            made: 0,
            arrival: config.arrival,
            last_arrival: now,
        };
        mempool.fill(config.transactions);
        mempool
    }

    /// Lets in what has come since the last time.
    pub(super) fn arrive(&mut self, now: Monotonic) {
        let interval = self.arrival.as_micros();
        let Some(arrived) = (now - self.last_arrival).as_micros().checked_div(interval) else { return };
        // What does not fit into whole intervals stays for the next time.
        let counted = u64::try_from(arrived * interval).unwrap_or(u64::MAX);
        self.last_arrival = self.last_arrival + Duration::from_micros(counted);
        self.fill(usize::try_from(arrived).unwrap_or(usize::MAX));
    }

    /// Makes `count` transactions, as far as there is room.
    fn fill(&mut self, count: usize) {
        let room = DevnetConfig::MAX_TRANSACTIONS.saturating_sub(self.entries.len());
        for _ in 0..count.min(room) {
            let entry = Entry::synthetic(&Source { seed: &self.seed, number: self.made });
            self.entries.push(entry);
            self.made += 1;
        }
    }

    pub(super) fn transactions(&self) -> Vec<RawTransaction> {
        self.entries.iter().map(|entry| entry.raw.clone()).collect()
    }

    pub(super) fn fees(&self) -> Sats {
        Sats::checked_sum(self.entries.iter().map(|entry| entry.fee))
            .expect("a full mempool pays less than all money")
    }

    pub(super) fn sigops(&self) -> u32 {
        self.entries.iter().map(|entry| entry.sigops).sum()
    }

    /// What waits, by the hash that covers everything in it.
    pub(super) fn by_wtxid(&self) -> HashMap<Wtxid, &Entry> {
        self.entries.iter().map(|entry| (entry.raw.wtxid(), entry)).collect()
    }

    /// The transactions with these hashes.
    pub(super) fn find(&self, wtxids: &[Wtxid]) -> Vec<Option<RawTransaction>> {
        let known = self.by_wtxid();
        wtxids.iter().map(|wtxid| known.get(wtxid).map(|entry| entry.raw.clone())).collect()
    }

    /// Forgets what was mined.
    pub(super) fn remove(&mut self, mined: &[Transaction]) {
        let mined: HashSet<Txid> = mined.iter().map(Transaction::compute_txid).collect();
        self.entries.retain(|entry| !mined.contains(&entry.raw.txid()));
    }
}

impl Entry {
    fn synthetic(source: &Source<'_>) -> Self {
        let transaction = source.transaction();
        let raw =
            RawTransaction::parse(consensus::serialize(&transaction)).expect("what was just encoded decodes");
        let [rate, ..] = source.bytes::<8>(b"rate");
        let fee = u64::from(raw.weight()).div_ceil(4) * (1 + u64::from(rate) % MAX_FEE_RATE);
        let sigops = transaction.total_sigop_cost(|_| None);
        let sigops = u32::try_from(sigops).expect("a synthetic transaction has a handful");
        Self { raw, fee: Sats::from_sats(fee), sigops }
    }
}

/// Where the bytes of one transaction come from.
struct Source<'a> {
    seed: &'a [u8; 32],
    number: u64,
}

impl Source<'_> {
    /// One with a legacy input, one with a taproot input and two with a segwit input in every four, so that the witness commitment
    /// never covers only what the merkle root covers too.
    fn transaction(&self) -> Transaction {
        let (script_sig, witness) = match self.number % 4 {
            0 => (self.legacy_script_sig(), Witness::new()),
            1 => (ScriptBuf::new(), Witness::from_slice(&[self.bytes::<64>(b"schnorr")])),
            _ => (
                ScriptBuf::new(),
                Witness::from_slice(&[&self.bytes::<71>(b"ecdsa")[..], &self.bytes::<33>(b"key")]),
            ),
        };
        let input = TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(self.bytes(b"coin")), 0),
            script_sig,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness,
        };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: self.outputs(),
        }
    }

    fn legacy_script_sig(&self) -> ScriptBuf {
        Builder::new()
            .push_slice(self.bytes::<71>(b"ecdsa"))
            .push_slice(self.bytes::<33>(b"key"))
            .into_script()
    }

    /// A payment and its change, one of them to an old kind of address.
    fn outputs(&self) -> Vec<TxOut> {
        let [a, b, c, ..] = self.bytes::<8>(b"amount");
        let amount = Amount::from_sat(10_000 + u64::from(u32::from_le_bytes([a, b, c, 0])));
        let payment = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(self.bytes(b"payment")));
        let change = ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(self.bytes(b"change")));
        vec![
            TxOut { value: amount, script_pubkey: payment },
            TxOut { value: amount * 2, script_pubkey: change },
        ]
    }

    /// Bytes that depend on the seed, the number and the label, and look random.
    fn bytes<const N: usize>(&self, label: &[u8]) -> [u8; N] {
        let mut bytes = [0; N];
        for (block, part) in (0_u8..).zip(bytes.chunks_mut(32)) {
            let mut engine = sha256::Hash::engine();
            for piece in [&self.seed[..], &self.number.to_le_bytes(), &[block], label] {
                engine.input(piece);
            }
            for (to, from) in part.iter_mut().zip(sha256::Hash::from_engine(engine).to_byte_array()) {
                *to = from;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mempool(transactions: usize, arrival: Duration) -> Mempool {
        let config = DevnetConfig { transactions, arrival, ..DevnetConfig::new([7; 32]) };
        Mempool::new(&config, Monotonic::default())
    }

    #[test]
    fn transactions_are_all_different_and_of_every_kind() {
        let mempool = mempool(100, Duration::ZERO);
        let txids: HashSet<Txid> = mempool.entries.iter().map(|entry| entry.raw.txid()).collect();
        assert_eq!(txids.len(), 100);
        let with_witness = mempool.entries.iter().filter(|entry| entry.raw.has_witness()).count();
        assert_eq!(with_witness, 75);
        assert!(mempool.entries.iter().all(|entry| entry.fee.to_sats() >= 100 && entry.sigops == 4));
    }

    #[test]
    fn they_come_at_their_interval_whenever_somebody_looks() {
        let mut mempool = mempool(0, Duration::from_millis(500));
        let mut look = |millis: u64| {
            mempool.arrive(Monotonic::from_micros(millis * 1000));
            mempool.entries.len()
        };
        assert_eq!(
            [look(499), look(900), look(1000), look(1000), look(2999), look(3000)],
            [0, 1, 2, 2, 5, 6]
        );
        assert_eq!(look(u64::MAX / 1000), DevnetConfig::MAX_TRANSACTIONS);
    }

    #[test]
    fn none_come_when_there_is_no_interval() {
        let mut mempool = mempool(3, Duration::ZERO);
        mempool.arrive(Monotonic::from_micros(u64::MAX));
        assert_eq!(mempool.entries.len(), 3);
    }

    #[test]
    fn other_seeds_make_other_transactions() {
        let source = |seed| Source { seed, number: 5 }.transaction().compute_txid();
        assert_eq!(source(&[1; 32]), source(&[1; 32]));
        assert_ne!(source(&[1; 32]), source(&[2; 32]));
    }
}

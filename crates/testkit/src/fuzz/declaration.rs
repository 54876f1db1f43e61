//! Coinbases as miners declare them: what is taken is a coinbase, and means the same in both messages that describe it.

use adit_share::{CoinbaseFields, Declaration, DeclaredCoinbase};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget, Transaction, consensus};

/// The first byte is the extranonce's length, the next two that of the coinbase's prefix; the rest is the prefix, and behind it the
/// suffix, as `DeclareMiningJob` has them, or the input script's beginning and the outputs, as `SetCustomMiningJob` has them.
///
/// # Panics
///
/// If something is taken that is no coinbase, or that the two messages would describe differently.
pub fn run(bytes: &[u8]) {
    let [length, low, high, rest @ ..] = bytes else { return };
    let prefix = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (prefix, suffix) = rest.split_at(prefix);
    let length = usize::from(*length);
    if let Ok(coinbase) = DeclaredCoinbase::parse(prefix, suffix, length) {
        check(&coinbase, length);
    }
    let fields = CoinbaseFields {
        version: 2,
        script_prefix: prefix,
        sequence: u32::MAX,
        outputs: suffix,
        lock_time: 0,
    };
    if let Ok(coinbase) = DeclaredCoinbase::from_fields(fields, length) {
        check(&coinbase, length);
    }
}

/// Looks at a coinbase that was taken through the eyes of another library.
fn check(coinbase: &DeclaredCoinbase, length: usize) {
    let transaction: Transaction = consensus::deserialize(&coinbase.to_bytes(&vec![7; length]))
        .expect("what was taken is a transaction");
    assert!(transaction.is_coinbase(), "{transaction:?}");
    let script = transaction.input[0].script_sig.as_bytes();
    assert!((2..=100).contains(&script.len()), "{script:?}");
    assert!(script.ends_with(&vec![7; length]), "the extranonce is at the end of {script:?}");
    let value: u128 = transaction.output.iter().map(|output| u128::from(output.value.to_sat())).sum();
    assert_eq!(value, u128::from(coinbase.value().to_sats()));
    let outputs = consensus::serialize(&transaction.output);
    let fields = CoinbaseFields {
        version: transaction.version.0.cast_unsigned(),
        script_prefix: &script[..script.len() - length],
        sequence: transaction.input[0].sequence.to_consensus_u32(),
        outputs: &outputs,
        lock_time: transaction.lock_time.to_consensus_u32(),
    };
    let same = DeclaredCoinbase::from_fields(fields, length).expect("the other message can describe it too");
    let declare = |coinbase: &DeclaredCoinbase| {
        let tip = (BlockHash::all_zeros(), CompactTarget::from_consensus(0x207f_ffff));
        Declaration::new(0x2000_0000, tip, coinbase.clone(), vec![[1; 32]; 3])
            .map(|declaration| declaration.id())
    };
    assert_eq!(declare(coinbase), declare(&same), "{coinbase:?}");
}

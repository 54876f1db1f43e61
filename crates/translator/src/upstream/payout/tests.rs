//! Coinbases that pay, and coinbases that do not.

use adit_share::{JobParts, Tip};
use adit_units::{Height, JobId};
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, Sequence, TxIn, TxOut, Witness, absolute, transaction,
};
use proptest::prelude::*;

use super::*;

const PREFIX: [u8; 4] = [5; 4];
const SIZE: u16 = 12;

fn script(number: u8) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![number; 22])
}

fn coinbase(outputs: &[(u64, u8)]) -> Transaction {
    let input = TxIn {
        previous_output: OutPoint::null(),
        // The height, a mark of the pool, the extranonce, and more marks.
        script_sig: ScriptBuf::from_bytes([&[3, 1, 2, 3, 0xaa][..], &PREFIX, &[0; 12], b"tail"].concat()),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = |&(sats, to): &(u64, u8)| TxOut { value: Amount::from_sat(sats), script_pubkey: script(to) };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input],
        output: outputs.iter().map(output).collect(),
    }
}

/// A job of that coinbase, with the extranonce cut out of it.
fn job(coinbase: &[u8]) -> Job {
    // Version, number of inputs, outpoint, length, and five bytes of script.
    let (prefix, rest) = coinbase.split_at(4 + 1 + 36 + 1 + 5);
    Job::from_parts(JobParts {
        id: JobId(1),
        tip: Tip::new(BlockHash::all_zeros(), Height(1), CompactTarget::from_consensus(0x1d00_ffff), 0),
        min_ntime: 0,
        version: 0x2000_0000,
        version_rolling_allowed: true,
        coinbase_prefix: prefix,
        coinbase_suffix: &rest[16..],
        extranonce_len: 16,
        merkle_path: Vec::new(),
    })
    .unwrap()
}

fn paying(outputs: &[(u64, u8)], least_percent: u8) -> Result<(), PayoutError> {
    let job = job(&consensus::serialize(&coinbase(outputs)));
    check(&job, &PREFIX, SIZE, &Expectation { script: script(1), least_percent })
}

/// SRI: `translator_mines_when_payout_matches_address_or_donation_identity`.
#[test]
fn translator_mines_when_payout_matches_address_or_donation_identity() {
    assert_eq!(paying(&[(5_000_000_000, 1), (0, 9)], 100), Ok(()), "all of it");
    assert_eq!(paying(&[(500, 2), (9_500, 1)], 95), Ok(()), "all but a donation");
    assert_eq!(paying(&[(100, 2), (400, 1), (500, 1)], 90), Ok(()), "in several outputs");
    assert_eq!(paying(&[(0, 1)], 100), Ok(()), "all of nothing");
    assert_eq!(paying(&[(1, 1), (1_000, 2)], 0), Ok(()), "anything at all");
}

/// SRI: `translator_falls_back_when_payout_does_not_match_user_identity`.
#[test]
fn translator_falls_back_when_payout_does_not_match_user_identity() {
    assert_eq!(paying(&[(5_000_000_000, 2)], 1), Err(PayoutError::Unpaid));
    assert_eq!(paying(&[], 0), Err(PayoutError::Unpaid));
    let error = paying(&[(501, 2), (9_499, 1)], 95).unwrap_err();
    assert_eq!(error, PayoutError::Underpaid { paid: 9_499, total: 10_000, least_percent: 95 });
    let said = "the pool's coinbase pays the expected script 9499 of 10000 satoshis; at least 95 percent are expected";
    assert_eq!(error.to_string(), said);
    assert!(paying(&[(u64::MAX, 2), (u64::MAX, 1), (u64::MAX, 1)], 67).is_err());
    assert!(paying(&[(u64::MAX, 2), (u64::MAX, 1), (u64::MAX, 1)], 66).is_ok());
    assert!(paying(&[(10, 1)], 101).is_err());
}

#[test]
fn a_coinbase_that_is_no_transaction_pays_nobody() {
    let good = consensus::serialize(&coinbase(&[(10, 1)]));
    let expected = Expectation { script: script(1), least_percent: 1 };
    for bytes in [&good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        let error = check(&job(bytes), &PREFIX, SIZE, &expected).unwrap_err();
        assert!(matches!(error, PayoutError::Malformed(_)), "{error}");
    }
    let mut two = coinbase(&[(10, 1)]);
    two.input.push(two.input[0].clone());
    let error = check(&job(&consensus::serialize(&two)), &PREFIX, SIZE, &expected);
    assert_eq!(error, Err(PayoutError::Inputs(2)));
}

#[test]
fn a_coinbase_with_its_witness_is_refused() {
    let mut coinbase = coinbase(&[(10, 1)]);
    coinbase.input[0].witness.push([0; 32]);
    let bytes = consensus::serialize(&coinbase);
    // Marker and flag move the extranonce by two bytes.
    let (prefix, rest) = bytes.split_at(49);
    let job = Job::from_parts(JobParts {
        id: JobId(1),
        tip: *job(&bytes).tip(),
        min_ntime: 0,
        version: 1,
        version_rolling_allowed: true,
        coinbase_prefix: prefix,
        coinbase_suffix: &rest[16..],
        extranonce_len: 16,
        merkle_path: Vec::new(),
    });
    let expected = Expectation { script: script(1), least_percent: 1 };
    let error = check(&job.unwrap(), &PREFIX, SIZE, &expected).unwrap_err();
    assert_eq!(error, PayoutError::Malformed("it has a witness in it".to_owned()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        prefix in prop::collection::vec(any::<u8>(), 0..80),
        suffix in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let good = job(&consensus::serialize(&coinbase(&[(10, 1)])));
        let job = Job::from_parts(JobParts {
            id: JobId(1),
            tip: *good.tip(),
            min_ntime: 0,
            version: 1,
            version_rolling_allowed: true,
            coinbase_prefix: &prefix,
            coinbase_suffix: &suffix,
            extranonce_len: 16,
            merkle_path: Vec::new(),
        });
        let expected = Expectation { script: script(1), least_percent: 1 };
        let _ = check(&job.unwrap(), &PREFIX, SIZE, &expected);
    }

    #[test]
    fn the_share_of_the_block_is_exact(paid in 0_u64..1_000, rest in 0_u64..1_000, least_percent in 0_u8..=100) {
        let is_enough = paid * 100 >= (paid + rest) * u64::from(least_percent);
        prop_assert_eq!(paying(&[(paid, 1), (rest, 2)], least_percent).is_ok(), is_enough);
    }
}

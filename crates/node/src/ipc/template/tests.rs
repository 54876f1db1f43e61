//! Templates as nodes of each version tell them, and what is wrong with some.

use adit_share::{TemplateError, witness_commitment};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, BlockHash, CompactTarget, OutPoint, TxIn, TxMerkleNode, Witness, block};

use super::*;

const HEIGHT: i64 = 101;
const FEE: i64 = 700;
const SUBSIDY: i64 = 50 * 100_000_000;

/// A transaction with a witness.
fn payment(number: u8) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: bitcoin::Txid::from_byte_array([number; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[number; 3]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1000),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    }
}

/// The coinbase that Bitcoin Core 30 would use itself.
fn coinbase(payments: &[Transaction]) -> Transaction {
    let raw: Vec<_> =
        payments.iter().map(|payment| RawTransaction::parse(serialize(payment)).unwrap()).collect();
    let value = SUBSIDY + FEE * i64::try_from(payments.len()).unwrap();
    let paid = TxOut {
        value: Amount::from_sat(value.cast_unsigned()),
        script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
    };
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&raw) };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_consensus(100),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_int(HEIGHT).push_opcode(bitcoin::opcodes::OP_0).into_script(),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![paid, commitment],
    }
}

/// A template with two transactions, as Bitcoin Core 30 tells it.
fn aged() -> RawOffer {
    let payments = [payment(1), payment(2)];
    let coinbase = coinbase(&payments);
    let mut txdata = vec![coinbase.clone()];
    txdata.extend(payments);
    let header = Header {
        version: block::Version::from_consensus(0x2000_0000),
        prev_blockhash: BlockHash::from_byte_array([7; 32]),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let txids = txdata.iter().skip(1).map(|transaction| transaction.compute_txid().to_byte_array());
    let merkle_path = adit_share::merkle_path(txids).into_iter().map(|node| node.to_vec()).collect();
    RawOffer {
        block: serialize(&Block { header, txdata }),
        fees: vec![-2 * FEE, FEE, FEE],
        sigops: vec![400, 1, 2],
        merkle_path,
        coinbase: CoinbaseOffer::Whole(serialize(&coinbase)),
    }
}

fn parts(offer: &mut RawOffer) -> &mut CoinbaseParts {
    match &mut offer.coinbase {
        CoinbaseOffer::Parts(parts) => parts,
        CoinbaseOffer::Whole(_) => panic!("that node tells the whole coinbase"),
    }
}

/// The same as later versions tell it.
fn newer() -> RawOffer {
    let mut offer = aged();
    let CoinbaseOffer::Whole(bytes) = &offer.coinbase else {
        panic!("an older node tells the whole coinbase")
    };
    let coinbase: Transaction = deserialize(bytes).unwrap();
    offer.fees.remove(0);
    offer.sigops.remove(0);
    offer.coinbase = CoinbaseOffer::Parts(CoinbaseParts {
        version: 2,
        sequence: coinbase.input[0].sequence.to_consensus_u32(),
        lock_time: 100,
        script_sig_prefix: Builder::new().push_int(HEIGHT).into_bytes(),
        witness: vec![0; 32],
        value_remaining: SUBSIDY + 2 * FEE,
        required_outputs: vec![serialize(&coinbase.output[1])],
    });
    offer
}

fn check(offer: RawOffer) -> Result<Template, TemplateRefused> {
    let reserve = CoinbaseReserve::default();
    let terms = Terms { id: TemplateId(4), network: Network::Regtest, reserve, min_ntime: 1_699_999_000 };
    offer.check(terms, None)
}

#[test]
fn each_version_tells_the_same_template() {
    let template = check(newer()).unwrap();
    assert_eq!((template.id, template.tip.height.0, template.transactions.len()), (TemplateId(4), 101, 2));
    assert_eq!((template.fees.to_sats(), template.sigops), (1400, 3));
    assert_eq!((template.tip.min_ntime, template.time), (1_699_999_000, 1_700_000_000));
    assert_eq!(template.coinbase_form.lock_time.to_consensus_u32(), 100);
    assert_eq!(check(aged()).unwrap(), template);
}

#[test]
fn transactions_that_were_there_before_are_in_memory_once() {
    let before = check(newer()).unwrap();
    let terms = Terms {
        id: TemplateId(5),
        network: Network::Regtest,
        reserve: CoinbaseReserve::default(),
        min_ntime: 1_699_999_000,
    };
    let after = newer().check(terms, Some(&before)).unwrap();
    let place = |template: &Template| template.transactions[1].as_bytes().as_ptr();
    assert_eq!(place(&before), place(&after));
}

#[test]
fn what_contradicts_itself_is_refused() {
    type Spoil = fn(&mut RawOffer);
    let cases: [(Spoil, TemplateRefused); 10] = [
        (|offer| offer.fees.truncate(1), TemplateRefused::Fees),
        (|offer| offer.fees[1] = -1, TemplateRefused::Fees),
        (|offer| offer.sigops.clear(), TemplateRefused::Bytes("cost of signature operations")),
        (|offer| offer.merkle_path[0][0] ^= 1, TemplateRefused::Path),
        (|offer| drop(offer.merkle_path.pop()), TemplateRefused::Path),
        (|offer| offer.block.truncate(offer.block.len() - 1), TemplateRefused::Bytes("block")),
        (|offer| offer.block.push(0), TemplateRefused::Bytes("block")),
        (|offer| offer.block.truncate(79), TemplateRefused::Bytes("header")),
        (|offer| offer.block[72..76].fill(0), TemplateRefused::Target),
        (|offer| offer.block[80] = 200, TemplateRefused::Bytes("block")),
    ];
    for (index, (spoil, expected)) in cases.into_iter().enumerate() {
        for mut offer in [newer(), aged()] {
            spoil(&mut offer);
            assert_eq!(check(offer).unwrap_err(), expected, "case {index}");
        }
    }
}

#[test]
fn a_coinbase_that_cannot_be_made_here_is_refused() {
    let mut another_witness = newer();
    parts(&mut another_witness).witness = vec![1; 32];
    assert_eq!(check(another_witness).unwrap_err(), TemplateRefused::ReservedValue);
    let mut longer = newer();
    parts(&mut longer).script_sig_prefix.extend([1, 7]);
    assert_eq!(check(longer).unwrap_err(), TemplateRefused::CoinbasePrefix);
    let mut greedy = newer();
    parts(&mut greedy).value_remaining += 1;
    let refused = check(greedy).unwrap_err();
    assert!(matches!(refused, TemplateRefused::Contradiction(TemplateError::Value { .. })), "{refused}");
    let mut negative = newer();
    parts(&mut negative).value_remaining = -1;
    assert_eq!(check(negative).unwrap_err(), TemplateRefused::Fees);
    let mut garbled = newer();
    parts(&mut garbled).required_outputs[0].pop();
    assert_eq!(check(garbled).unwrap_err(), TemplateRefused::CoinbaseOutputs);
    let mut uncommitted = newer();
    parts(&mut uncommitted).required_outputs.clear();
    let refused = check(uncommitted).unwrap_err();
    assert!(matches!(refused, TemplateRefused::Contradiction(TemplateError::NoCommitment)), "{refused}");
}

#[test]
fn a_template_without_the_room_that_was_asked_for_is_refused() {
    let reserve =
        CoinbaseReserve { weight: MAX_BLOCK_WEIGHT - BLOCK_OVERHEAD_WEIGHT, ..CoinbaseReserve::default() };
    let terms = Terms { id: TemplateId(4), network: Network::Regtest, reserve, min_ntime: 0 };
    assert_eq!(newer().check(terms, None).unwrap_err(), TemplateRefused::TooHeavy);
}

#[test]
fn a_template_with_too_many_signature_operations_is_refused() {
    let most = i64::try_from(MAX_BLOCK_SIGOPS - CoinbaseReserve::default().sigops).unwrap();
    for offer in [newer(), aged()] {
        let with = |sum: i64| {
            let mut offer = offer.clone();
            let last = offer.sigops.len() - 1;
            offer.sigops[last - 1..].copy_from_slice(&[1, sum - 1]);
            check(offer)
        };
        assert_eq!(with(most).map(|template| i64::from(template.sigops)), Ok(most));
        assert_eq!(with(most + 1).unwrap_err(), TemplateRefused::TooManySigops);
        assert_eq!(with(i64::from(u32::MAX)).unwrap_err(), TemplateRefused::TooManySigops);
    }
}

#[test]
fn damaged_bytes_change_no_transaction_and_panic_nowhere() {
    for offer in [newer(), aged()] {
        let whole = check(offer.clone()).unwrap();
        for place in 0..offer.block.len() {
            for value in [0, 1, 0x7f, 0xfd, 0xff] {
                let mut damaged = offer.clone();
                damaged.block[place] = value;
                if let Ok(template) = check(damaged) {
                    assert_eq!(template.transactions, whole.transactions, "byte {place}");
                }
            }
            let mut cut = offer.clone();
            cut.block.truncate(place);
            assert!(check(cut).is_err(), "cut at {place}");
        }
    }
    let CoinbaseOffer::Whole(coinbase) = aged().coinbase else {
        panic!("an older node tells the whole coinbase")
    };
    for place in 0..coinbase.len() {
        let mut damaged = coinbase.clone();
        damaged[place] ^= 0x55;
        let mut cut = coinbase.clone();
        cut.truncate(place);
        // Some of it may be anything, such as the script that is paid.
        let _ = check(RawOffer { coinbase: CoinbaseOffer::Whole(damaged), ..aged() });
        assert!(check(RawOffer { coinbase: CoinbaseOffer::Whole(cut), ..aged() }).is_err());
    }
}

#[test]
fn a_list_may_begin_with_the_coinbase() {
    assert_eq!(sum(&[], 0), Some(0));
    assert_eq!(sum(&[3, 4], 2), Some(7));
    assert_eq!(sum(&[-7, 3, 4], 2), Some(7));
    assert_eq!(sum(&[3], 2), None);
    assert_eq!(sum(&[1, 2, 3, 4], 2), None);
    assert_eq!(sum(&[3, -4], 2), None);
    assert_eq!(sum(&[i64::MAX, i64::MAX, i64::MAX], 3), None, "more than can be counted");
}

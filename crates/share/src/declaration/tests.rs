//! Declared jobs that are good, in both of their messages, and each hostile form of a coinbase.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, Txid, Witness};
use proptest::prelude::*;

use super::*;
use crate::template::{COMMITMENT_START, WITNESS_RESERVED_VALUE};
use crate::{Template, fixture, witness_commitment};

/// Prefix of the pool and what the miner rolls, together.
const EXTRANONCE: usize = 32;

/// The height 900 001 as it is pushed, and a tag of the miner behind it.
const SCRIPT_PREFIX: &[u8] = b"\x03\xa1\xbb\x0d\x04mine\x20";

const NBITS: u32 = 0x207f_ffff;

fn template(transactions: u32) -> Arc<Template> {
    fixture::template(1, fixture::tip(900_000, NBITS), transactions)
}

fn output(sats: u64, script: &[u8]) -> TxOut {
    TxOut { value: Amount::from_sat(sats), script_pubkey: ScriptBuf::from_bytes(script.to_vec()) }
}

/// The coinbase of a miner who pays the pool all, with zeros for the extranonce.
fn coinbase(template: &Template) -> Transaction {
    let mut script_sig = SCRIPT_PREFIX.to_vec();
    script_sig.extend_from_slice(&[0; EXTRANONCE]);
    let pool = output(template.coinbase_value.to_sats(), &[0x51]);
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script_sig),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[WITNESS_RESERVED_VALUE]),
        }],
        output: [pool].into_iter().chain(template.required_outputs.clone()).collect(),
    }
}

/// The parts of a coinbase as `DeclareMiningJob` carries them: cut behind so many bytes of the input script, found by searching for the hole.
fn cut(coinbase: &Transaction, extranonce_len: usize) -> (Vec<u8>, Vec<u8>) {
    let bytes = consensus::serialize(coinbase);
    let hole = vec![0; extranonce_len];
    let script_sig = coinbase.input[0].script_sig.as_bytes();
    let before = &script_sig[..script_sig.len() - extranonce_len];
    let script = [before, &hole].concat();
    let start = bytes.windows(script.len()).position(|window| window == script).unwrap();
    let (prefix, rest) = bytes.split_at(start + before.len());
    (prefix.to_vec(), rest[extranonce_len..].to_vec())
}

fn parse(coinbase: &Transaction) -> Result<DeclaredCoinbase, DeclarationError> {
    let (prefix, suffix) = cut(coinbase, EXTRANONCE);
    DeclaredCoinbase::parse(&prefix, &suffix, EXTRANONCE)
}

/// The fields of `SetCustomMiningJob` for the same coinbase.
fn from_fields(coinbase: &Transaction) -> Result<DeclaredCoinbase, DeclarationError> {
    let script_sig = coinbase.input[0].script_sig.as_bytes();
    DeclaredCoinbase::from_fields(
        CoinbaseFields {
            version: coinbase.version.0.cast_unsigned(),
            script_prefix: &script_sig[..script_sig.len() - EXTRANONCE],
            sequence: coinbase.input[0].sequence.0,
            outputs: &consensus::serialize(&coinbase.output),
            lock_time: coinbase.lock_time.to_consensus_u32(),
        },
        EXTRANONCE,
    )
}

/// What `change` makes of a good coinbase, in both messages, is refused for that.
fn refused(error: DeclarationError, change: impl FnOnce(&mut Transaction)) {
    let mut coinbase = coinbase(&template(2));
    change(&mut coinbase);
    assert_eq!(parse(&coinbase), Err(error.clone()));
    assert_eq!(from_fields(&coinbase), Err(error));
}

/// The declaration of a good coinbase over these transactions.
fn declaration(template: &Template) -> Declaration {
    let coinbase = parse(&coinbase(template)).unwrap();
    Declaration::over(template.version, on(template), coinbase, &template.transactions).unwrap()
}

fn on(template: &Template) -> (BlockHash, CompactTarget) {
    (template.tip.prev_hash, template.tip.nbits)
}

#[test]
fn both_messages_of_a_job_make_the_same_declaration() {
    for transactions in [0, 1, 5] {
        let template = template(transactions);
        let declared = declaration(&template);
        let custom = Declaration::new(
            template.version,
            on(&template),
            from_fields(&coinbase(&template)).unwrap(),
            template.merkle_path.clone(),
        );
        assert_eq!(custom.as_ref(), Ok(&declared));
        assert_eq!(custom.unwrap().id(), declared.id());
        assert_eq!(declared.height(), template.tip.height);
        assert_eq!(declared.value(), template.coinbase_value);
        assert_eq!(declared.outputs().len(), 2);
    }
}

#[test]
fn a_coinbase_without_its_witness_is_the_same() {
    let template = template(2);
    let mut stripped = coinbase(&template);
    stripped.input[0].witness.clear();
    assert_eq!(parse(&stripped), parse(&coinbase(&template)));
}

#[test]
fn whatever_differs_between_two_jobs_differs_in_their_ids() {
    let template = template(3);
    let good = coinbase(&template);
    let declare = |version, on, coinbase: &Transaction, path: &[[u8; 32]]| {
        Declaration::new(version, on, parse(coinbase).unwrap(), path.to_vec()).unwrap().id()
    };
    let (version, on, path) = (template.version, on(&template), template.merkle_path.as_slice());
    let changed = |change: &dyn Fn(&mut Transaction)| {
        let mut other = good.clone();
        change(&mut other);
        other
    };
    let mut ids = vec![
        declare(version, on, &good, path),
        declare(version + 1, on, &good, path),
        declare(version, (BlockHash::all_zeros(), on.1), &good, path),
        declare(version, (on.0, CompactTarget::from_consensus(1)), &good, path),
        declare(version, on, &good, &path[1..]),
        declare(version, on, &changed(&|coinbase| coinbase.version = Version::ONE), path),
        declare(version, on, &changed(&|coinbase| coinbase.lock_time = LockTime::from_consensus(1)), path),
        declare(version, on, &changed(&|coinbase| coinbase.input[0].sequence = Sequence::ZERO), path),
        declare(version, on, &changed(&|coinbase| coinbase.output[0].value = Amount::ZERO), path),
        declare(version, on, &changed(&|coinbase| coinbase.output.reverse()), path),
    ];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10);
}

#[test]
fn the_id_of_a_job_stays_what_it_is() {
    // Pool and declarator may be of different versions.
    let id = sha256::Hash::from_byte_array(declaration(&template(2)).id());
    assert_eq!(id.to_string(), "09280a638b23e064f54ad7f3f4c88c7fd81a62fd6f513f901dac003039958df1");
}

#[test]
fn its_job_has_the_headers_of_its_blocks() {
    for transactions in [0, 1, 7] {
        let template = template(transactions);
        let declaration = declaration(&template);
        let job = declaration.job(JobId(4), template.tip, fixture::TIME).unwrap();
        assert_eq!((job.tag(), job.extranonce_len(), job.min_ntime()), (None, EXTRANONCE, fixture::TIME));
        let mut header = [0; 80];
        header[0] = 2; // heights came with version 2
        let bytes = declaration.block(&header, &[9; EXTRANONCE], &template.transactions);
        let block: bitcoin::Block = consensus::deserialize(&bytes).unwrap();
        assert_eq!(block.compute_merkle_root().unwrap().to_byte_array(), job.merkle_root(&[9; 32]).unwrap());
        assert!(block.check_witness_commitment());
        assert_eq!(block.txdata[0].input[0].witness.nth(0), Some(&WITNESS_RESERVED_VALUE[..]));
        assert_eq!(block.txdata[1..].len(), transactions as usize);
        assert_eq!(block.bip34_block_height(), Ok(900_001));
    }
}

#[test]
fn a_block_without_commitment_has_a_coinbase_without_witness() {
    let mut plain = coinbase(&template(0));
    plain.output.pop();
    plain.input[0].witness.clear();
    let declaration = Declaration::over(4, on(&template(0)), parse(&plain).unwrap(), &[]).unwrap();
    let block = declaration.block(&[0; 80], &[0; EXTRANONCE], &[]);
    let block: bitcoin::Block = consensus::deserialize(&block).unwrap();
    assert_eq!(block.txdata, [plain]);
}

#[test]
fn a_job_of_another_tip_is_refused() {
    let template = template(1);
    let declaration = declaration(&template);
    let job = |tip| declaration.job(JobId(1), tip, fixture::TIME).map(drop);
    assert_eq!(job(template.tip), Ok(()));
    let other = Tip { prev_hash: BlockHash::all_zeros(), ..template.tip };
    assert_eq!(job(other), Err(DeclarationError::Tip));
    assert_eq!(job(Tip { height: Height(900_000), ..template.tip }), Err(DeclarationError::Height));
    let other = Tip { nbits: CompactTarget::from_consensus(0x1d00_ffff), ..template.tip };
    assert_eq!(job(other), Err(DeclarationError::Nbits));
}

#[test]
fn a_short_prefix_or_suffix_is_refused() {
    let (prefix, suffix) = cut(&coinbase(&template(2)), EXTRANONCE);
    for len in 0..prefix.len() {
        assert!(DeclaredCoinbase::parse(&prefix[..len], &suffix, EXTRANONCE).is_err(), "{len} bytes");
        assert!(DeclaredCoinbase::parse(&prefix[prefix.len() - len..], &suffix, EXTRANONCE).is_err());
    }
    for len in 0..suffix.len() {
        assert!(DeclaredCoinbase::parse(&prefix, &suffix[..len], EXTRANONCE).is_err(), "{len} bytes");
        assert!(DeclaredCoinbase::parse(&prefix, &suffix[suffix.len() - len..], EXTRANONCE).is_err());
    }
    assert!(DeclaredCoinbase::parse(&[], &[], EXTRANONCE).is_err());
    assert!(DeclaredCoinbase::parse(&[], &[], 0).is_err());
}

#[test]
fn a_long_prefix_or_suffix_is_refused() {
    let (prefix, suffix) = cut(&coinbase(&template(2)), EXTRANONCE);
    for more in [1, 2, 32, 100, 0xffff] {
        let zeros = vec![0; more];
        for (prefix, suffix) in [
            ([&prefix[..], &zeros].concat(), suffix.clone()),
            ([&zeros, &prefix[..]].concat(), suffix.clone()),
            (prefix.clone(), [&suffix[..], &zeros].concat()),
            (prefix.clone(), [&zeros, &suffix[..]].concat()),
            (prefix.repeat(2), suffix.clone()),
        ] {
            assert!(DeclaredCoinbase::parse(&prefix, &suffix, EXTRANONCE).is_err(), "{more} bytes");
        }
    }
}

#[test]
fn a_prefix_that_lies_about_the_extranonce_is_refused() {
    let (prefix, suffix) = cut(&coinbase(&template(2)), EXTRANONCE);
    // Bytes moved from one part to the other make the same transaction with the hole elsewhere.
    let error = Err(DeclarationError::ExtranoncePlace { len: EXTRANONCE });
    for moved in 1..=8 {
        let (kept, over) = prefix.split_at(prefix.len() - moved);
        let late = [&vec![0; moved][..], over, &suffix].concat();
        assert!(DeclaredCoinbase::parse(kept, &late, EXTRANONCE).is_err());
        let early =
            DeclaredCoinbase::parse(&[&prefix[..], &vec![0; moved]].concat(), &suffix, EXTRANONCE - moved);
        assert!(early.is_ok(), "the miner's own zeros, and a shorter hole");
    }
    // The hole in front of what the script says stands behind it: the tag would be the extranonce.
    let mut early = coinbase(&template(2));
    let script = [&SCRIPT_PREFIX[..4], &[0; EXTRANONCE], &SCRIPT_PREFIX[4..]].concat();
    early.input[0].script_sig = ScriptBuf::from_bytes(script);
    let bytes = consensus::serialize(&early);
    let at = bytes.windows(EXTRANONCE).rposition(|window| window == [0; EXTRANONCE]);
    let hole = bytes.windows(4).position(|window| window == &SCRIPT_PREFIX[..4]).unwrap() + 4;
    assert!(at.is_some());
    let (before, behind) = (&bytes[..hole], &bytes[hole + EXTRANONCE..]);
    assert_eq!(DeclaredCoinbase::parse(before, behind, EXTRANONCE), error);
    let too_long = Err(DeclarationError::ExtranonceTooLong { len: 33 });
    assert_eq!(DeclaredCoinbase::parse(&prefix, &suffix, 33), too_long);
    for len in (0..EXTRANONCE).chain([usize::MAX]) {
        assert!(DeclaredCoinbase::parse(&prefix, &suffix, len).is_err(), "{len} bytes");
    }
}

#[test]
fn a_coinbase_without_inputs_or_with_two_is_refused() {
    let good = coinbase(&template(2));
    let mut two = good.clone();
    two.input.push(good.input[0].clone());
    let (prefix, suffix) = cut(&two, EXTRANONCE);
    assert_eq!(DeclaredCoinbase::parse(&prefix, &suffix, EXTRANONCE), Err(DeclarationError::Inputs(2)));
    // No input, and the hole in an output's script.
    let none = [&[2, 0, 0, 0, 0, 1, 0, 1][..], &5_u64.to_le_bytes(), &[32]].concat();
    assert_eq!(DeclaredCoinbase::parse(&none, &[0; 4], EXTRANONCE), Err(DeclarationError::Inputs(0)));
    let none = [&[2, 0, 0, 0, 0, 0][..]].concat();
    assert!(DeclaredCoinbase::parse(&none, &[0; 4], EXTRANONCE).is_err());
}

#[test]
fn a_coinbase_that_spends_is_refused() {
    let good = coinbase(&template(2));
    for spent in [
        OutPoint::new(Txid::all_zeros(), 0),
        OutPoint::new(Txid::from_byte_array([1; 32]), u32::MAX),
        OutPoint::new(Txid::from_byte_array([1; 32]), 0),
    ] {
        let mut spends = good.clone();
        spends.input[0].previous_output = spent;
        assert_eq!(parse(&spends), Err(DeclarationError::NotNull));
    }
}

#[test]
fn outputs_that_add_up_to_more_than_can_be_are_refused() {
    refused(DeclarationError::Value, |coinbase| coinbase.output.push(output(u64::MAX, &[])));
    refused(DeclarationError::Value, |coinbase| {
        coinbase.output[0].value = Amount::from_sat(1 << 63);
        coinbase.output[1].value = Amount::from_sat(1 << 63);
    });
}

#[test]
fn an_input_script_over_the_limit_is_refused() {
    let with_script = |len: usize| {
        move |coinbase: &mut Transaction| {
            let mut script = vec![b'x'; len - EXTRANONCE];
            script[..4].copy_from_slice(&SCRIPT_PREFIX[..4]);
            script.extend_from_slice(&[0; EXTRANONCE]);
            coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        }
    };
    for len in [101, 252] {
        refused(DeclarationError::ScriptSigLength { len }, with_script(len));
    }
    let mut longest = coinbase(&template(2));
    with_script(100)(&mut longest);
    assert_eq!(parse(&longest), from_fields(&longest));
    assert!(parse(&longest).is_ok());
    // Too short only without an extranonce.
    let one = CoinbaseFields { version: 2, script_prefix: &[0], sequence: 0, outputs: &[0], lock_time: 0 };
    let error = DeclarationError::ScriptSigLength { len: 1 };
    assert_eq!(DeclaredCoinbase::from_fields(one, 0), Err(error));
}

#[test]
fn a_height_that_is_not_canonical_is_refused() {
    for script in [
        &b"\x04\xa1\xbb\x0d\x00"[..], // a byte more than it takes
        b"\x4c\x03\xa1\xbb\x0d",      // another way to push
        b"\x03\xa1\xbb",              // cut, so that the extranonce is part of the height
        b"\x02\x10\x00",
        b"\x01\x05", // five is an operation of its own
        b"\x01\x00",
        b"\x06\x01\x00\x00\x00\x00\x01",
        b"\x61",
        b"mine",
        b"",
    ] {
        refused(DeclarationError::Height, |coinbase| {
            let script = [script, &[0; EXTRANONCE]].concat();
            coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        });
    }
}

#[test]
fn a_negative_height_is_refused() {
    for script in
        [&b"\x03\xa1\xbb\x8d"[..], b"\x01\x81", b"\x4f", b"\x05\xff\xff\xff\xff\x80", b"\x04\xff\xff\xff\xff"]
    {
        refused(DeclarationError::Height, |coinbase| {
            let script = [script, &[0; EXTRANONCE]].concat();
            coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        });
    }
}

#[test]
fn every_height_is_read_as_it_is_written() {
    for height in
        [0, 1, 15, 16, 17, 127, 128, 255, 256, 32_767, 32_768, 8_388_607, 8_388_608, u32::MAX - 1, u32::MAX]
    {
        let script = crate::coinbase::height_push(Height(height)).into_bytes();
        let fields = CoinbaseFields {
            version: 2,
            script_prefix: &script,
            sequence: u32::MAX,
            outputs: &[0],
            lock_time: 0,
        };
        assert_eq!(DeclaredCoinbase::from_fields(fields, EXTRANONCE).unwrap().height(), Height(height));
    }
}

#[test]
fn a_lock_time_that_keeps_the_coinbase_out_is_refused() {
    for lock in [900_001, 499_999_999, 500_000_000, u32::MAX] {
        refused(DeclarationError::LockTime, |coinbase| {
            coinbase.lock_time = LockTime::from_consensus(lock);
            coinbase.input[0].sequence = Sequence(u32::MAX - 1);
        });
    }
    for (lock, sequence) in [(900_000, u32::MAX - 1), (0, 0), (900_001, u32::MAX), (u32::MAX, u32::MAX)] {
        let mut coinbase = coinbase(&template(2));
        coinbase.lock_time = LockTime::from_consensus(lock);
        coinbase.input[0].sequence = Sequence(sequence);
        assert!(parse(&coinbase).is_ok() && from_fields(&coinbase).is_ok(), "{lock} {sequence}");
    }
}

#[test]
fn a_witness_that_the_commitment_was_not_made_with_is_refused() {
    for witness in [&[&[1; 32][..]][..], &[&[0; 31]], &[&[0; 33]], &[&[]], &[&[0; 32], &[0; 32]]] {
        let mut coinbase = coinbase(&template(2));
        coinbase.input[0].witness = Witness::from_slice(witness);
        assert_eq!(parse(&coinbase), Err(DeclarationError::Witness));
    }
    let mut uncommitted = coinbase(&template(0));
    uncommitted.output.pop();
    assert_eq!(parse(&uncommitted), Err(DeclarationError::Witness));
}

#[test]
fn a_missing_or_wrong_commitment_is_refused() {
    let template = template(3);
    let check = |change: &dyn Fn(&mut Transaction)| {
        let mut coinbase = coinbase(&template);
        coinbase.input[0].witness.clear();
        change(&mut coinbase);
        Declaration::over(4, on(&template), parse(&coinbase).unwrap(), &template.transactions).map(drop)
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(check(&|coinbase| drop(coinbase.output.pop())), Err(DeclarationError::NoCommitment));
    let script = |hash: &[u8]| [&COMMITMENT_START[..], hash].concat();
    let wrong = output(0, &script(&[7; 32]));
    assert_eq!(check(&|coinbase| coinbase.output[1] = wrong.clone()), Err(DeclarationError::Commitment));
    assert_eq!(check(&|coinbase| coinbase.output.push(wrong.clone())), Err(DeclarationError::Commitment));
    assert_eq!(check(&|coinbase| coinbase.output.insert(0, wrong.clone())), Ok(()), "the last one counts");
    let short = output(0, &script(&[7; 31]));
    assert_eq!(check(&|coinbase| coinbase.output[1] = short.clone()), Err(DeclarationError::NoCommitment));
}

#[test]
fn transactions_that_the_job_is_not_over_are_refused() {
    let template = template(4);
    let declaration = declaration(&template);
    let good = &template.transactions;
    assert_eq!(declaration.check_transactions(good), Ok(()));
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    for others in [&[], &good[1..], &good[..3], &swapped[..], &[&good[..], &good[..1]].concat()] {
        assert_eq!(declaration.check_transactions(others), Err(DeclarationError::MerklePath));
    }
    let long = Declaration::new(4, on(&template), declaration.coinbase().clone(), vec![[0; 32]; 256]);
    assert_eq!(long, Err(DeclarationError::PathTooLong { len: 256 }));
}

#[test]
fn a_block_that_is_too_heavy_is_refused() {
    let template = template(1);
    let mut tx: Transaction = consensus::deserialize(template.transactions[0].as_bytes()).unwrap();
    tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0; 999_000]);
    let mut heavy = |more: usize| {
        tx.input[0].witness = Witness::from_slice(&[vec![0; more]]);
        let transactions = [RawTransaction::parse(consensus::serialize(&tx)).unwrap()];
        let mut coinbase = coinbase(&template);
        coinbase.output[1].script_pubkey = witness_commitment(&transactions);
        let over = Declaration::over(4, on(&template), parse(&coinbase).unwrap(), &transactions);
        over.map(|declaration| {
            let bytes = declaration.block(&[0; 80], &[0; EXTRANONCE], &transactions);
            consensus::deserialize::<bitcoin::Block>(&bytes).unwrap().weight().to_wu()
        })
    };
    let weight = heavy(1000).unwrap();
    let room = usize::try_from(MAX_BLOCK_WEIGHT - weight).unwrap();
    assert_eq!(heavy(1000 + room), Ok(MAX_BLOCK_WEIGHT));
    assert_eq!(heavy(1001 + room), Err(DeclarationError::TooHeavy { weight: MAX_BLOCK_WEIGHT + 1 }));
}

#[test]
fn a_suffix_that_changes_the_number_of_outputs_is_refused() {
    let (prefix, suffix) = cut(&coinbase(&template(2)), EXTRANONCE);
    // The number stands behind the sequence.
    assert_eq!(suffix[4], 2);
    for count in (0..=255).filter(|&count| count != 2) {
        let mut suffix = suffix.clone();
        suffix[4] = count;
        let parsed = DeclaredCoinbase::parse(&prefix, &suffix, EXTRANONCE);
        assert!(matches!(parsed, Err(DeclarationError::Transaction { .. })), "{count}: {parsed:?}");
    }
}

#[test]
fn outputs_that_are_no_list_are_refused() {
    let good = consensus::serialize(&coinbase(&template(2)).output);
    let parse = |outputs: &[u8]| {
        let fields = CoinbaseFields {
            version: 2,
            script_prefix: SCRIPT_PREFIX,
            sequence: u32::MAX,
            outputs,
            lock_time: 0,
        };
        DeclaredCoinbase::from_fields(fields, EXTRANONCE)
    };
    assert!(parse(&good).is_ok());
    for len in 0..good.len() {
        assert!(matches!(parse(&good[..len]), Err(DeclarationError::Outputs { .. })), "{len} bytes");
    }
    assert!(parse(&[&good[..], &[0]].concat()).is_err());
    assert!(parse(&good[1..]).is_err(), "without the number of outputs");
    assert!(parse(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    assert!(parse(&[0xfd, 0, 0]).is_err(), "the number in a longer form than it takes");
}

/// Any coinbase that might be good.
fn any_coinbase() -> impl Strategy<Value = Transaction> {
    let outputs = prop::collection::vec((0_u64..1 << 50, prop::collection::vec(any::<u8>(), 0..60)), 1..20);
    let numbers = any::<(i32, u32, u32, bool)>();
    (0_u32..10_000_000, prop::collection::vec(any::<u8>(), 0..60), outputs, numbers).prop_map(
        |(height, tag, outputs, (version, lock, sequence, has_witness))| {
            let push = crate::coinbase::height_push(Height(height)).into_bytes();
            let mut coinbase = coinbase(&template(0));
            coinbase.input[0].script_sig = ScriptBuf::from_bytes([push, tag, vec![0; EXTRANONCE]].concat());
            coinbase.input[0].sequence = Sequence(sequence);
            coinbase.version = Version(version);
            coinbase.lock_time = LockTime::from_consensus(lock % (2 * height + 1));
            let commitment = coinbase.output.pop().unwrap();
            coinbase.output = outputs.iter().map(|(sats, script)| output(*sats, script)).collect();
            if has_witness {
                coinbase.output.push(commitment);
            } else {
                coinbase.input[0].witness.clear();
            }
            coinbase
        },
    )
}

proptest! {
    #[test]
    fn the_two_messages_agree_about_every_coinbase(coinbase in any_coinbase(), extranonce: [u8; EXTRANONCE]) {
        let (declared, custom) = (parse(&coinbase), from_fields(&coinbase));
        prop_assert_eq!(&declared, &custom);
        let script_sig = coinbase.input[0].script_sig.len();
        if let Ok(declared) = declared {
            let mut whole = coinbase;
            let mut script = whole.input[0].script_sig.to_bytes();
            let (_, hole) = script.split_at_mut(script_sig - EXTRANONCE);
            hole.copy_from_slice(&extranonce);
            whole.input[0].script_sig = ScriptBuf::from_bytes(script);
            prop_assert_eq!(declared.to_bytes(&extranonce), consensus::serialize(&whole));
            prop_assert_eq!(declared.value().to_sats(), whole.output.iter().map(|output| output.value.to_sat()).sum::<u64>());
        } else {
            prop_assert!(script_sig > 100 || coinbase.is_lock_time_enabled());
        }
    }

    #[test]
    fn no_byte_of_a_declared_coinbase_can_change_unnoticed(
        coinbase in any_coinbase(),
        place: prop::sample::Index,
        flip in 1_u8..,
    ) {
        let (mut prefix, mut suffix) = cut(&coinbase, EXTRANONCE);
        let original = DeclaredCoinbase::parse(&prefix, &suffix, EXTRANONCE);
        prop_assume!(original.is_ok());
        let place = place.index(prefix.len() + suffix.len());
        match place.checked_sub(prefix.len()) {
            Some(place) => suffix[place] ^= flip,
            None => prefix[place] ^= flip,
        }
        let changed = DeclaredCoinbase::parse(&prefix, &suffix, EXTRANONCE);
        prop_assert!(changed.is_err() || changed != original);
    }

    #[test]
    fn parts_of_any_bytes_do_no_harm(
        prefix in prop::collection::vec(any::<u8>(), 0..200),
        suffix in prop::collection::vec(any::<u8>(), 0..200),
        extranonce_len in 0_usize..40,
    ) {
        if let Ok(coinbase) = DeclaredCoinbase::parse(&prefix, &suffix, extranonce_len) {
            prop_assert_eq!(coinbase.extranonce_len(), extranonce_len);
        }
    }
}

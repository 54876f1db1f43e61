//! Tests of the coinbase: its bytes against rust-bitcoin, its limits, its hashing at every length.

use adit_units::JobId;
use bitcoin::hashes::Hash as _;
use bitcoin::script::PushBytesBuf;
use proptest::prelude::*;

use super::*;
use crate::fixture;
use crate::template::{CoinbaseForm, TemplateParts};

/// A template at this height, without transactions.
fn template(height: u32) -> Template {
    let mut tip = fixture::tip(1, 0x1702_0000);
    tip.height = Height(height);
    Template::clone(&fixture::template(1, tip, 0))
}

/// The transaction that the parts of a coinbase make.
fn transaction(coinbase: &Coinbase, extranonce: &[u8], with_witness: bool) -> Transaction {
    consensus::deserialize(&coinbase.to_bytes(extranonce, with_witness)).unwrap()
}

/// The naive twin: the coinbase as a script and a transaction, built by rust-bitcoin alone.
fn naive(spec: &CoinbaseSpec, template: &Template, extranonce: &[u8]) -> Transaction {
    let push =
        |script: Builder, bytes: &[u8]| script.push_slice(PushBytesBuf::try_from(bytes.to_vec()).unwrap());
    let form = &template.coinbase_form;
    let height = Builder::new().push_int(i64::from(template.tip.height.0)).into_bytes();
    let mut script = Builder::from([&height, form.after_height.as_bytes()].concat());
    script = push(script, &spec.tag.to_bytes());
    if !spec.signature.is_empty() {
        script = push(script, spec.signature.as_bytes());
    }
    script = push(script, extranonce);
    Transaction {
        version: form.version,
        lock_time: form.lock_time,
        input: vec![TxIn { script_sig: script.into_script(), sequence: form.sequence, ..TxIn::default() }],
        output: [&spec.payouts[..], &template.required_outputs].concat(),
    }
}

#[test]
fn a_template_says_what_the_coinbase_is_like() {
    let form = CoinbaseForm {
        version: bitcoin::transaction::Version::ONE,
        sequence: bitcoin::Sequence::ENABLE_LOCKTIME_NO_RBF,
        lock_time: bitcoin::absolute::LockTime::from_consensus(900_000),
        after_height: ScriptBuf::from_bytes(vec![0]),
    };
    let template = template(900_001).with_coinbase_form(form);
    let longest = "s".repeat(MAX_SIGNATURE_LEN);
    for signature in [String::new(), longest] {
        let spec = CoinbaseSpec { signature, ..fixture::spec(&template, JobId(3), 1) };
        let made = transaction(&spec.write(&template).unwrap(), &[0xee; 20], false);
        assert_eq!(made, naive(&spec, &template, &[0xee; 20]));
        assert!(made.input[0].script_sig.as_bytes().starts_with(&[3, 0xa1, 0xbb, 0x0d, 0]));
        assert_eq!(made.lock_time.to_consensus_u32(), 900_000);
    }
}

#[test]
fn heights_are_pushed_as_consensus_expects() {
    for (height, push) in [
        (0, "00"),
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (255, "02ff00"),
        (256, "020001"),
        (32_767, "02ff7f"),
        (32_768, "03008000"),
        (227_836, "03fc7903"),
        (8_388_607, "03ffff7f"),
        (8_388_608, "0400008000"),
        (0x7fff_ffff, "04ffffff7f"),
        (0x8000_0000, "050000008000"),
        (u32::MAX, "05ffffffff00"),
    ] {
        assert_eq!(height_push(Height(height)).to_hex_string(), push, "height {height}");
        assert!(height_push(Height(height)).len() <= MAX_HEIGHT_PUSH_LEN);
    }
}

#[test]
fn the_input_script_holds_height_tag_signature_and_extranonce() {
    let template = template(900_001);
    let spec = CoinbaseSpec { signature: "/adit/".to_owned(), ..fixture::spec(&template, JobId(3), 1) };
    let coinbase = spec.write(&template).unwrap();
    let transaction = transaction(&coinbase, &[0xee; 20], false);
    let script = transaction.input[0].script_sig.to_hex_string();
    let expected = [
        "03a1bb0d",     // 900 001
        "0a",           // ten bytes of tag:
        "0100",         // instance 1
        "02000000",     // boot 2
        "03000000",     // job 3
        "06",           // six bytes of signature
        "2f616469742f", // /adit/
        "14",           // twenty bytes of extranonce
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
    ];
    assert_eq!(script, expected.concat());
    assert_eq!(coinbase.prefix().len(), SCRIPT_SIG_OFFSET + script.len() / 2 - 20);
}

#[test]
fn the_longest_signature_fits_at_any_height() {
    for height in [0, 1, 900_000, u32::MAX] {
        let template = template(height);
        let spec = fixture::spec(&template, JobId(1), 1);
        let longest = CoinbaseSpec { signature: "x".repeat(MAX_SIGNATURE_LEN), ..spec.clone() };
        assert!(longest.write(&template).is_ok(), "height {height}");
    }
    let template = template(u32::MAX);
    let spec = fixture::spec(&template, JobId(1), 1);
    let longer = CoinbaseSpec { signature: "x".repeat(MAX_SIGNATURE_LEN + 1), ..spec.clone() };
    assert_eq!(longer.write(&template), Err(JobError::ScriptSigLength { len: 101 }));
    let beyond_a_push = CoinbaseSpec { signature: "x".repeat(76), ..spec.clone() };
    assert_eq!(beyond_a_push.write(&template), Err(JobError::PushTooLong { len: 76 }));
    let long_extranonce = CoinbaseSpec { extranonce_len: 33, ..spec };
    assert_eq!(long_extranonce.write(&template), Err(JobError::ExtranonceTooLong { len: 33 }));
}

#[test]
fn payouts_that_are_not_the_coinbases_value_are_refused() {
    let template = template(900_001);
    let spec = fixture::spec(&template, JobId(1), 3);
    for change in [1_i64, -1, i64::MAX] {
        let mut spec = spec.clone();
        let value = spec.payouts[1].value.to_sat().saturating_add_signed(change);
        spec.payouts[1].value = Amount::from_sat(value);
        assert!(matches!(spec.write(&template), Err(JobError::Payouts { .. })), "{change}");
    }
    let mut overflow = spec.clone();
    overflow.payouts.iter_mut().for_each(|output| output.value = Amount::from_sat(u64::MAX));
    let coinbase_value = template.coinbase_value;
    assert_eq!(overflow.write(&template), Err(JobError::Payouts { payouts: None, coinbase_value }));
    let nobody = CoinbaseSpec { payouts: Vec::new(), ..spec };
    let payouts = Some(Sats::ZERO);
    assert_eq!(nobody.write(&template), Err(JobError::Payouts { payouts, coinbase_value }));
}

#[test]
fn a_worthless_coinbase_still_pays_somebody() {
    // After the last halving a block without fees creates nothing.
    let template = template(900_001);
    let worthless = TemplateParts {
        id: template.id,
        tip: template.tip,
        version: template.version,
        time: template.time,
        coinbase_value: Sats::ZERO,
        subsidy: Sats::ZERO,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: Vec::new(),
    };
    let template = Template::new(worthless).unwrap();
    let mut spec = CoinbaseSpec { payouts: Vec::new(), ..fixture::spec(&template, JobId(1), 1) };
    assert_eq!(spec.write(&template), Err(JobError::NoPayout));
    spec.payouts.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() });
    assert!(spec.write(&template).is_ok());
}

#[test]
fn the_witness_is_in_the_block_but_not_in_the_parts() {
    let template = template(900_001);
    let coinbase = fixture::spec(&template, JobId(1), 2).write(&template).unwrap();
    let extranonce = [3; 20];
    let bare = [coinbase.prefix(), &extranonce, coinbase.suffix()].concat();
    assert_eq!(coinbase.to_bytes(&extranonce, false), bare);
    let (without, with) =
        (transaction(&coinbase, &extranonce, false), transaction(&coinbase, &extranonce, true));
    assert_eq!(with.input[0].witness, Witness::from_slice(&[WITNESS_RESERVED_VALUE]));
    assert!(without.input[0].witness.is_empty());
    assert_eq!(with.compute_txid(), without.compute_txid());
    assert_eq!(coinbase.weight(true), with.weight().to_wu());
    assert_eq!(coinbase.weight(false), without.weight().to_wu());
}

#[test]
fn the_cost_of_outputs_is_counted_as_blocks_count_it() {
    let output = |script: &[u8]| TxOut {
        value: Amount::ONE_SAT,
        script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
    };
    assert_eq!(sigops(&[output(&[0xac]), output(&[0, 20])]), 4);
    // A bare multisig counts as twenty keys wherever it is not spent, even if it has one.
    let one_of_one = [&[0x51, 33][..], &[2; 33], &[0x51, 0xae]].concat();
    assert_eq!(sigops(&[output(&one_of_one)]), 80);
    assert_eq!(value(&[output(&[]), output(&[])]), Some(Amount::from_sat(2)));
    let all = TxOut { value: Amount::from_sat(u64::MAX), script_pubkey: ScriptBuf::new() };
    assert_eq!(value(&[all, output(&[])]), None);
}

proptest! {
    #[test]
    fn agrees_with_rust_bitcoin(
        height: u32,
        payouts in 1_u64..120,
        signature in "[ -~]{0,49}",
        extranonce in prop::collection::vec(any::<u8>(), 1..=32),
    ) {
        let template = template(height);
        let spec = fixture::spec(&template, JobId(height), payouts);
        let spec = CoinbaseSpec { signature, extranonce_len: extranonce.len(), ..spec };
        let coinbase = spec.write(&template).unwrap();
        let naive = naive(&spec, &template, &extranonce);
        prop_assert_eq!(&transaction(&coinbase, &extranonce, false), &naive);
        let (prefix, rolled) = extranonce.split_at(extranonce.len() / 3);
        prop_assert_eq!(coinbase.txid(prefix, rolled), naive.compute_txid().to_byte_array());
    }

    /// Parts of any length, as messages may bring them: the hole may lie anywhere and the coinbase may end in its block.
    #[test]
    fn any_parts_hash_to_what_they_are(
        prefix in prop::collection::vec(any::<u8>(), 0..200),
        extranonce in prop::collection::vec(any::<u8>(), 0..=32),
        suffix in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..=32,
    ) {
        let coinbase = Coinbase::new(&prefix, &suffix, extranonce.len()).unwrap();
        let (first, second) = extranonce.split_at(cut.min(extranonce.len()));
        let whole = [&prefix[..], &extranonce, &suffix].concat();
        prop_assert_eq!(coinbase.txid(first, second), bitcoin::hashes::sha256d::Hash::hash(&whole).to_byte_array());
    }
}

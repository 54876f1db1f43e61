//! What is taken of a provider's template, and what is refused.

use adit_messages::types::{B064K, B0255, Seq0255, U256};
use adit_share::witness_commitment;
use adit_units::{Monotonic, Now, UnixTime, Work};

use super::*;
use crate::{Devnet, DevnetConfig, Pace};

const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

fn devnet_template() -> Template {
    let config = DevnetConfig { pace: Pace::Fixed(Work::from_hashes(2)), ..DevnetConfig::new([7; 32]) };
    Devnet::new(&config, NOW).template(NOW)
}

/// What is made of what a provider would say of a template, changed by `change`.
fn told<T>(
    template: &Template,
    change: impl FnOnce(&mut NewTemplate<'_>),
    read: impl FnOnce(&NewTemplate<'_>) -> T,
) -> T {
    let outputs: Vec<u8> = template.required_outputs.iter().flat_map(consensus::serialize).collect();
    let path: Vec<U256<'_>> = template.merkle_path.iter().map(U256::from).collect();
    let prefix = Builder::new().push_int(i64::from(template.tip.height.0)).into_bytes();
    let mut new = NewTemplate {
        template_id: 5,
        future_template: true,
        version: template.version,
        coinbase_tx_version: 1,
        coinbase_prefix: B0255::new(&prefix).unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: template.coinbase_value.to_sats(),
        coinbase_tx_outputs_count: u32::try_from(template.required_outputs.len()).unwrap(),
        coinbase_tx_outputs: B064K::new(&outputs).unwrap(),
        coinbase_tx_locktime: 3,
        merkle_path: Seq0255::new(path).unwrap(),
    };
    change(&mut new);
    read(&new)
}

/// Such a template with its transactions.
fn candidate(
    template: &Template,
    change: impl FnOnce(&mut NewTemplate<'_>),
) -> Result<Candidate, TemplateRefused> {
    Ok(Candidate {
        draft: told(template, change, Draft::read)?,
        tip: template.tip,
        time: template.time,
        room: Room { bytes: 100, sigops: 40 },
        transactions: template.transactions.iter().map(|tx| tx.as_bytes().to_vec()).collect(),
    })
}

fn refused(change: impl FnOnce(&mut NewTemplate<'_>)) -> TemplateRefused {
    match candidate(&devnet_template(), change) {
        Err(refused) => refused,
        Ok(candidate) => candidate.check(Network::Regtest, None).unwrap_err(),
    }
}

#[test]
fn what_a_provider_says_makes_the_nodes_template_again() {
    let template = devnet_template();
    assert!(template.transactions.len() > 1);
    let made = candidate(&template, |_| {}).unwrap().check(Network::Regtest, None).unwrap();
    let form = CoinbaseForm {
        version: transaction::Version::ONE,
        sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
        lock_time: LockTime::from_consensus(3),
        after_height: ScriptBuf::new(),
    };
    let mut expected = template.clone().with_coinbase_form(form);
    // What was left is what is known of the signature operations.
    (expected.id, expected.sigops) = (TemplateId(5), 80_000 - 40);
    assert_eq!(made, expected);
    let shared = candidate(&template, |_| {}).unwrap().check(Network::Regtest, Some(&template)).unwrap();
    let same = |(a, b): (&RawTransaction, &RawTransaction)| core::ptr::eq(a.as_bytes(), b.as_bytes());
    assert!(shared.transactions.iter().zip(&template.transactions).all(same), "in memory once");
    assert!(!made.transactions.iter().zip(&template.transactions).any(same));
}

#[test]
fn the_height_stands_alone_or_before_an_empty_push() {
    // As nodes write it below height 17, where a height is a byte and scripts need two.
    for (prefix, height, rest) in
        [(&[0x51][..], 1, &[][..]), (&[0x53, 0], 3, &[0]), (&[3, 0x40, 0x0d, 3], 200_000, &[])]
    {
        let (read, after) = split_prefix(prefix).unwrap();
        assert_eq!((read, after.as_bytes()), (Height(height), rest));
    }
    for wrong in [
        &[][..],
        &[0],
        &[3, 1, 2],
        &[2, 0x10, 0],
        &[0x51, 0xac],
        &[0x53, 0, 0],
        &[1, 0x81],
        &[5, 1, 2, 3, 4, 5],
        &[0x6a],
    ] {
        assert_eq!(split_prefix(wrong).unwrap_err(), TemplateRefused::CoinbasePrefix, "{wrong:x?}");
    }
}

#[test]
fn outputs_are_as_many_as_are_announced() {
    for count in [0, 2, 3, u32::MAX] {
        let error = refused(|new| new.coinbase_tx_outputs_count = count);
        assert_eq!(error, TemplateRefused::CoinbaseOutputs, "{count}");
    }
}

#[test]
fn values_that_cannot_be_are_refused() {
    let subsidy = devnet_template().subsidy.to_sats();
    assert_eq!(refused(|new| new.coinbase_tx_value_remaining = subsidy - 1), TemplateRefused::Fees);
    let mut empty = devnet_template();
    empty.transactions.clear();
    empty.merkle_path.clear();
    empty.required_outputs[0].script_pubkey = witness_commitment(&[]);
    let check = |value| {
        let candidate = candidate(&empty, |new| new.coinbase_tx_value_remaining = value).unwrap();
        candidate.check(Network::Regtest, None)
    };
    assert_eq!(check(subsidy + 1).unwrap_err(), TemplateRefused::Fees, "nobody pays a fee");
    assert_eq!(check(subsidy).unwrap().sigops, 0);
}

#[test]
fn transactions_must_be_those_of_path_and_commitment() {
    let template = devnet_template();
    assert_eq!(refused(|new| new.merkle_path = Seq0255::new(Vec::new()).unwrap()), TemplateRefused::Path);
    let check = |change: fn(&mut Vec<Vec<u8>>)| {
        let mut candidate = candidate(&template, |_| {}).unwrap();
        change(&mut candidate.transactions);
        candidate.check(Network::Regtest, None).unwrap_err()
    };
    let contradiction = |error| matches!(error, TemplateRefused::Contradiction(_));
    assert!(contradiction(check(|transactions| drop(transactions.pop()))));
    assert!(contradiction(check(|transactions| transactions.swap(0, 1))));
    let error = check(|transactions| transactions[1].truncate(20));
    assert!(matches!(error, TemplateRefused::Transaction { index: 1, .. }), "{error:?}");
}

#[test]
fn blocks_too_easy_for_the_network_are_refused() {
    for network in [Network::Bitcoin, Network::Signet, Network::Testnet4] {
        let error = candidate(&devnet_template(), |_| {}).unwrap().check(network, None).unwrap_err();
        assert_eq!(error, TemplateRefused::NotOn(network));
    }
}

#[test]
fn a_template_that_takes_our_room_is_refused() {
    let mut candidate = candidate(&devnet_template(), |_| {}).unwrap();
    candidate.room.bytes = 1_000_000;
    assert_eq!(candidate.check(Network::Regtest, None).unwrap_err(), TemplateRefused::TooHeavy);
}

//! What becomes of the terms of upstreams.

use adit_node::CoinbaseReserve;
use adit_node::tdp::FIXED_COINBASE_WEIGHT;
use adit_units::Hashrate;
use bitcoin::{Amount, ScriptBuf, TxOut};

use super::super::declarator::{OUTPUTS_LEN_MAX, OUTPUTS_SIGOPS_MAX};
use super::*;

fn output(value: u64, script: &[u8]) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(script.to_vec()) }
}

fn config() -> JdcConfig {
    JdcConfig {
        upstreams: Vec::new(),
        solo: PoolConfig::new(2, ScriptBuf::from_bytes(vec![0x51])),
        rollable_len: 8,
        nominal_hashrate: Hashrate::from_hashes_per_second(1),
        insecure: false,
    }
}

fn terms(outputs: Vec<TxOut>) -> Terms {
    Terms { extranonce_prefix: Box::new([9; 12]), extranonce_size: 20, outputs }
}

#[test]
fn the_miners_own_rules_hold_but_for_payout_and_extranonce() {
    let (config, terms) = (config(), terms(vec![output(0, &[0x52]), output(0, &[0x6a, 1, 7])]));
    let rules = rules(&config, &terms).unwrap();
    assert_eq!(rules.extranonce.as_bytes(), &*terms.extranonce_prefix);
    assert_eq!(rules.extranonce.full_len(), 32);
    let expected = PoolConfig {
        payout_script: terms.outputs[0].script_pubkey.clone(),
        further_outputs: terms.outputs[1..].to_vec(),
        extranonce: rules.extranonce,
        ..config.solo
    };
    assert_eq!(rules, expected);
}

#[test]
fn terms_that_make_no_rules_are_a_reason_to_leave() {
    let refused = |terms: &Terms| rules(&config(), terms).unwrap_err().to_string();
    let unspendable = terms(vec![output(0, &[0x6a])]);
    assert!(refused(&unspendable).starts_with("the upstream's terms make no rules: the payout script"));
    let valued = terms(vec![output(0, &[0x52]), output(1, &[0x53])]);
    assert!(refused(&valued).starts_with("the upstream's terms make no rules: an output besides the payout"));
    let narrow = Terms { extranonce_size: 3, ..terms(vec![output(0, &[0x52])]) };
    assert!(refused(&narrow).starts_with("the upstream leaves no extranonce for the miners below"));
    let mut config = config();
    config.solo.signature = "s".repeat(52);
    assert_eq!(config.solo.check(), Ok(()), "there is room for it beside the miners' own extranonces");
    let long = rules(&config, &terms(vec![output(0, &[0x52])])).unwrap_err().to_string();
    let expected = "the upstream's extranonces have 32 bytes, which leave 49 to a signature, and not 52: shorten jdc.signature";
    assert_eq!(long, expected);
    assert_eq!(refused(&terms(vec![])), "the job declarator server does not say which output to pay");
}

/// Outputs of any length were taken, and then no job could be made with a full block, for as long as the upstream was there.
#[test]
fn the_room_that_nodes_leave_holds_the_outputs_of_every_token() {
    let reserve = CoinbaseReserve::default();
    // Another output that pays an address has room beside them, and one signature operation.
    let outputs = OUTPUTS_LEN_MAX + 8 + 1 + 42;
    assert!(FIXED_COINBASE_WEIGHT + 4 * outputs as u64 <= reserve.weight);
    assert!(4 * (OUTPUTS_SIGOPS_MAX as u64 + 1) <= reserve.sigops);
}

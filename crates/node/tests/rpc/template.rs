//! The answer to `getblocktemplate`: what real nodes say is understood, and what must not be mined on is refused.

use std::fs;
use std::path::Path;

use adit_node::{CoinbaseReserve, Node, NodeError, RpcTemplate, TemplateRefused, probe, read_template};
use adit_share::{Template, TemplateError};
use adit_units::{Height, Sats, TemplateId};
use bitcoin::{CompactTarget, Network};
use serde_json::{Value, json};

use crate::fake::{FakeNode, Trick, offer, solved};
use crate::{down, first_template, template, up};

/// An answer that a real node gave; `test-vectors/templates/README.md` says which.
fn real(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-vectors/templates").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn read_with(
    answer: &Value,
    network: Network,
    reserve: CoinbaseReserve,
) -> Result<RpcTemplate, TemplateRefused> {
    read_template(answer.to_string().as_bytes(), TemplateId(7), network, reserve)
}

fn read(answer: &Value) -> Result<Template, TemplateRefused> {
    read_with(answer, Network::Regtest, CoinbaseReserve::default()).map(|read| read.template)
}

/// The regtest answer with one thing changed.
fn spoiled(spoil: impl FnOnce(&mut Value)) -> Result<Template, TemplateRefused> {
    let mut answer = real("gbt-regtest.json");
    spoil(&mut answer);
    read(&answer)
}

#[test]
fn a_regtest_node_is_understood() {
    let answer = real("gbt-regtest.json");
    let read = read_with(&answer, Network::Regtest, CoinbaseReserve::default()).unwrap();
    assert_eq!(read.long_poll_id.as_deref(), answer["longpollid"].as_str());
    let template = read.template;
    assert_eq!(template.id, TemplateId(7));
    assert_eq!(template.tip.height, Height(105));
    assert_eq!(template.tip.prev_hash.to_string(), answer["previousblockhash"].as_str().unwrap());
    assert_eq!(template.tip.nbits, CompactTarget::from_consensus(0x207f_ffff));
    assert_eq!(template.tip.target.to_string(), answer["target"].as_str().unwrap());
    assert_eq!(template.tip.min_ntime, 1_795_212_492);
    assert_eq!(template.version, 0x2000_0000);
    assert_eq!(template.coinbase_value, Sats::from_sats(5_000_012_080));
    assert_eq!((template.fees, template.sigops), (Sats::from_sats(12_080), 34));
    let told = answer["transactions"].as_array().unwrap();
    assert_eq!(template.transactions.len(), told.len());
    for (transaction, told) in template.transactions.iter().zip(told) {
        assert_eq!(transaction.txid().to_string(), told["txid"].as_str().unwrap());
        assert_eq!(transaction.wtxid().to_string(), told["hash"].as_str().unwrap());
        assert_eq!(u64::from(transaction.weight()), told["weight"].as_u64().unwrap());
    }
    assert!(template.has_witness_commitment());
    solved(&template.into());
}

#[test]
fn a_private_signet_is_understood() {
    let answer = real("gbt-signet.json");
    let template = read_with(&answer, Network::Signet, CoinbaseReserve::default()).unwrap().template;
    assert_eq!((template.tip.height, template.tip.nbits.to_consensus()), (Height(2), 0x1e03_77ae));
    assert_eq!(template.coinbase_value, Sats::from_sats(5_000_000_000));
    assert!(template.transactions.is_empty() && template.has_witness_commitment());
}

#[test]
fn a_signet_that_wants_signatures_is_refused() {
    let mut answer = real("gbt-signet.json");
    answer["signet_challenge"] =
        json!("512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be43051ae");
    let refused = read_with(&answer, Network::Signet, CoinbaseReserve::default()).unwrap_err();
    assert_eq!(refused, TemplateRefused::SignetChallenge);
}

#[test]
fn what_a_node_may_leave_out_is_not_missed() {
    let mut answer = real("gbt-regtest.json");
    let fields = answer.as_object_mut().unwrap();
    for optional in ["longpollid", "target", "sigoplimit", "weightlimit", "rules", "capabilities", "mutable"]
    {
        fields.remove(optional).unwrap();
    }
    for transaction in fields["transactions"].as_array_mut().unwrap() {
        transaction.as_object_mut().unwrap().retain(|name, _| name == "data");
    }
    let read = read_with(&answer, Network::Regtest, CoinbaseReserve::default()).unwrap();
    assert_eq!(read.long_poll_id, None);
    assert_eq!(read.template.fees, Sats::from_sats(12_080), "what is more than the subsidy");
}

#[test]
fn lies_and_contradictions_are_refused() {
    let contradiction = |refused: Result<Template, TemplateRefused>| match refused.unwrap_err() {
        TemplateRefused::Contradiction(error) => error,
        other => panic!("{other}"),
    };
    let commitment = contradiction(spoiled(|answer| {
        let other = real("gbt-signet.json")["default_witness_commitment"].take();
        answer["default_witness_commitment"] = other;
    }));
    assert_eq!(commitment, TemplateError::Commitment);
    let order = contradiction(spoiled(|answer| answer["transactions"].as_array_mut().unwrap().swap(0, 1)));
    assert_eq!(order, TemplateError::Commitment);
    let left_out = contradiction(spoiled(|answer| {
        answer.as_object_mut().unwrap().remove("default_witness_commitment");
    }));
    assert_eq!(left_out, TemplateError::NoCommitment);
    for value in [5_000_012_079_u64, 5_000_012_081, 0, u64::MAX] {
        let value = contradiction(spoiled(|answer| answer["coinbasevalue"] = json!(value)));
        assert!(matches!(value, TemplateError::Value { .. }), "{value}");
    }
    let halved = contradiction(spoiled(|answer| answer["height"] = json!(150)));
    assert!(
        matches!(halved, TemplateError::Value { .. }),
        "a regtest chain halves after 150 blocks: {halved}"
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    let hex = |field: &'static str, value: Value| {
        let refused = spoiled(|answer| answer[field] = value).unwrap_err();
        assert_eq!(refused, TemplateRefused::Hex(field));
    };
    hex("previousblockhash", json!("00"));
    hex("bits", json!("xyz"));
    hex("target", json!("7f"));
    hex("default_witness_commitment", json!("6a2"));
    for (bits, target) in
        [("207ffffe", None), ("00000000", Some("0".repeat(64))), ("ff7fffff", Some("0".repeat(64)))]
    {
        let refused = spoiled(|answer| {
            answer["bits"] = json!(bits);
            if let Some(target) = target {
                answer["target"] = json!(target);
            }
        });
        assert_eq!(refused.unwrap_err(), TemplateRefused::Target, "{bits}");
    }
    let transaction =
        |data: &str| spoiled(|answer| answer["transactions"][1]["data"] = json!(data)).unwrap_err();
    assert_eq!(transaction("0"), TemplateRefused::Hex("transaction"));
    assert!(matches!(transaction("00"), TemplateRefused::Transaction { index: 1, .. }));
    assert_eq!(
        spoiled(|answer| answer["transactions"][0]["fee"] = json!(-1)).unwrap_err(),
        TemplateRefused::Fees
    );
    assert!(matches!(spoiled(|answer| answer["curtime"] = json!(-1)).unwrap_err(), TemplateRefused::Json(_)));
    assert!(matches!(read(&json!({})).unwrap_err(), TemplateRefused::Json(_)));
}

#[test]
fn rules_that_are_not_known_are_refused_only_when_they_are_demanded() {
    assert!(spoiled(|answer| answer["rules"] = json!(["csv", "!segwit", "nicety"])).is_ok());
    let refused = spoiled(|answer| answer["rules"] = json!(["!segwit", "!newfork"])).unwrap_err();
    assert_eq!(refused, TemplateRefused::UnknownRule("newfork".to_owned()));
}

#[test]
fn transactions_make_room_for_the_coinbase_from_the_end() {
    let answer = real("gbt-regtest.json");
    let whole = read(&answer).unwrap();
    let overhead = (80 + 9) * 4;
    // The four transactions weigh 900, 677, 585 and 2664, and the last one spends what the others make.
    for (room, kept, fees) in
        [(4826, 4, 12_080), (4825, 3, 5_420), (2162, 3, 5_420), (2161, 2, 3_950), (0, 0, 0)]
    {
        let reserve = CoinbaseReserve { weight: 4_000_000 - overhead - room, ..CoinbaseReserve::default() };
        let template = read_with(&answer, Network::Regtest, reserve).unwrap().template;
        assert_eq!(template.transactions, whole.transactions[..kept], "room for {room}");
        assert_eq!(template.fees, Sats::from_sats(fees));
        assert_eq!(template.coinbase_value, Sats::from_sats(5_000_000_000 + fees));
        solved(&template.into());
    }
    let reserve = CoinbaseReserve { sigops: 80_000 - 25, ..CoinbaseReserve::default() };
    let template = read_with(&answer, Network::Regtest, reserve).unwrap().template;
    assert_eq!((template.transactions.len(), template.sigops), (2, 17));
}

#[test]
fn the_limits_of_the_node_count_too() {
    let kept = |field: &str, limit: u64| {
        let template = spoiled(|answer| answer[field] = json!(limit)).unwrap();
        template.transactions.len()
    };
    assert_eq!(kept("weightlimit", 4000 + 356 + 4826), 4);
    assert_eq!(kept("weightlimit", 4000 + 356 + 4825), 3);
    assert_eq!(kept("weightlimit", 10), 0);
    assert_eq!(kept("sigoplimit", 400 + 34), 4);
    assert_eq!(kept("sigoplimit", 400 + 33), 3);
}

#[test]
fn what_is_left_out_must_tell_its_fee() {
    let mut answer = real("gbt-regtest.json");
    answer["transactions"][3].as_object_mut().unwrap().remove("fee");
    let reserve = CoinbaseReserve { weight: 3_999_000, ..CoinbaseReserve::default() };
    assert_eq!(read_with(&answer, Network::Regtest, reserve).unwrap_err(), TemplateRefused::NoRoom);
}

#[test]
fn a_lie_is_not_hidden_by_leaving_out_its_end() {
    let mut answer = real("gbt-regtest.json");
    answer["transactions"].as_array_mut().unwrap().swap(2, 3);
    let reserve = CoinbaseReserve { weight: 4_000_000 - 356 - 1600, ..CoinbaseReserve::default() };
    let refused = read_with(&answer, Network::Regtest, reserve).unwrap_err();
    assert_eq!(refused, TemplateRefused::Contradiction(TemplateError::Commitment));
}

#[tokio::test]
async fn a_bad_template_never_goes_up() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let before = first_template(&node).await;
    let value = offer(&fake.template())["coinbasevalue"].as_u64().unwrap();
    fake.trick("getblocktemplate", Trick::Change("coinbasevalue", json!(value + 100_000_000)));
    let hash = fake.mine();
    let reason = down(&node, "template is refused").await;
    assert!(reason.contains("do not add up"), "{reason}");
    assert_eq!(node.templates().borrow().as_deref(), Some(&*before));
    let info = probe(&fake.config()).await.unwrap();
    assert!(matches!(info.trouble.as_deref(), Some(NodeError::Template(_))), "{info:?}");

    fake.honest("getblocktemplate");
    template(&mut node.templates(), |template| template.tip.prev_hash == hash).await;
    up(&node).await;
}

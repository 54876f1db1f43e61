//! Nodes of each version, played by a chain in memory, over a real socket.

mod fake;

use core::time::Duration;
use std::sync::Arc;

use adit_share::{Template, TemplateParts, witness_commitment};
use adit_testkit::mining::mine;
use adit_units::{Sats, TemplateId};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use tokio::time::timeout;

use self::fake::{Fake, Version};
use super::IpcConfig;
use crate::{Checked, Fate, Health, Node, NodeError, Submitted, Timing};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(fake: &Fake) -> IpcConfig {
    let mut config = IpcConfig::new(fake.socket());
    config.network = Some(Network::Regtest);
    let moment = Duration::from_millis(10);
    config.timing = Timing { first_retry: moment, max_retry: moment, submit_tries: 3, ..Timing::default() };
    config
}

async fn next(node: &Node, wanted: impl Fn(&Template) -> bool) -> Arc<Template> {
    let mut templates = node.templates();
    let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    let template = timeout(PATIENCE, found).await.expect("a template comes").expect("the node is followed");
    template.clone().expect("it was just looked at")
}

async fn trouble(node: &Node, wanted: impl Fn(&NodeError) -> bool) -> String {
    let mut health = node.health();
    let found = health.wait_for(|health| matches!(health, Health::Down(reason) if wanted(reason)));
    let health = timeout(PATIENCE, found).await.expect("trouble is noticed").expect("the node is followed");
    match &*health {
        Health::Down(reason) => reason.to_string(),
        Health::Starting | Health::Up => unreachable!("it was just looked at"),
    }
}

fn payout() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(b"payout"))
}

/// The same without transactions, as a pool makes it at a new tip.
fn emptied(template: &Template) -> Arc<Template> {
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&[]) };
    let empty = Template::new(TemplateParts {
        id: TemplateId(0),
        tip: template.tip,
        version: template.version,
        time: template.time,
        coinbase_value: template.subsidy,
        subsidy: template.subsidy,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: vec![commitment],
    });
    Arc::new(empty.unwrap())
}

async fn blocks_go_to_the_node_by_its_templates(version: Version) {
    let fake = Fake::start(version);
    let node = Node::ipc(&config(&fake));
    let template = next(&node, |template| template.tip.height.0 == 1).await;
    let first = mine(&template, payout());
    assert_eq!(node.submit(&first).await, Submitted::Accepted);
    assert_eq!(node.fate(first.hash).await, Fate::InChain { confirmations: 1 });
    assert_eq!(node.chain_end().await.unwrap().hash, first.hash);

    let template = next(&node, |template| template.tip.prev_hash == first.hash).await;
    let second = mine(&template, payout());
    assert_eq!(node.submit_bytes(&second.to_bytes()).await, Submitted::Accepted, "as bytes");

    let template = next(&node, |template| template.tip.prev_hash == second.hash).await;
    fake.wait_for_an_empty_template(second.hash).await;
    let empty = mine(&emptied(&template), payout());
    assert_eq!(node.submit_bytes(&empty.to_bytes()).await, Submitted::Accepted, "empty");
    assert_eq!(fake.best_block(), empty.hash);
    let again = node.submit(&first).await;
    assert_eq!(
        again,
        Submitted::Refused("the node does not say why".to_owned()),
        "this chain takes none twice"
    );
}

#[tokio::test]
async fn blocks_go_to_version_30_by_its_templates() {
    blocks_go_to_the_node_by_its_templates(Version::V30).await;
}

#[tokio::test]
async fn blocks_go_to_version_31_by_its_templates() {
    blocks_go_to_the_node_by_its_templates(Version::V31).await;
}

async fn what_an_older_node_cannot_do_is_told(version: Version) {
    let fake = Fake::start(version);
    let node = Node::ipc(&config(&fake));
    let template = next(&node, |_| true).await;
    let foreign = mine(&fake.template_of_another_node(), payout());
    let Submitted::Unreachable(reason) = node.submit_bytes(&foreign.to_bytes()).await else {
        panic!("it was taken")
    };
    assert!(reason.contains("submitBlock") && reason.contains("JSON-RPC"), "{reason}");
    let Fate::Unreachable(reason) = node.fate(BlockHash::all_zeros()).await else { panic!("it was told") };
    assert!(reason.contains("JSON-RPC"), "{reason}");
    assert_eq!(node.submit_bytes(b"block").await, Submitted::Refused("Block decode failed".to_owned()));

    let block = mine(&template, payout()).to_bytes();
    assert_eq!(node.check_block(&block).await, Checked::Valid);
    assert_eq!(node.check_block(&block[..90]).await, Checked::Refused("bad".to_owned()));
    let info = node.probe().await.unwrap();
    assert_eq!((info.network, info.height.0, info.peers), (Network::Regtest, 0, None));
    assert!(info.trouble.is_none(), "{:?}", info.trouble);
}

#[tokio::test]
async fn what_version_30_cannot_do_is_told() {
    what_an_older_node_cannot_do_is_told(Version::V30).await;
}

#[tokio::test]
async fn what_version_31_cannot_do_is_told() {
    what_an_older_node_cannot_do_is_told(Version::V31).await;
}

#[tokio::test]
async fn a_test_network_that_the_node_does_not_tell_is_the_configured_one() {
    let fake = Fake::start(Version::V31);
    let mut unknown = config(&fake);
    unknown.network = None;
    assert!(matches!(super::probe(&unknown).await, Err(NodeError::SomeTestNetwork)));
    let mut main = config(&fake);
    main.network = Some(Network::Bitcoin);
    assert!(matches!(super::probe(&main).await, Err(NodeError::TestNetwork(Network::Bitcoin))));
}

#[tokio::test]
async fn a_node_that_goes_away_is_found_again() {
    let mut fake = Fake::start(Version::V31);
    let node = Node::ipc(&config(&fake));
    let template = next(&node, |_| true).await;
    fake.stop();
    trouble(&node, |reason| reason.to_string().contains("node.sock")).await;
    assert!(matches!(node.chain_end().await, Err(NodeError::Told(_))));
    assert!(matches!(node.submit(&mine(&template, payout())).await, Submitted::Unreachable(_)));
    fake.restart();
    let mut health = node.health();
    let up = timeout(PATIENCE, health.wait_for(|health| matches!(health, Health::Up))).await;
    drop(up.expect("it is well again").unwrap());
    assert_eq!(node.submit(&mine(&template, payout())).await, Submitted::Accepted, "after the restart");
}

#[tokio::test]
async fn a_node_that_never_answers_is_told() {
    let fake = Fake::start(Version::Mute);
    let mut config = config(&fake);
    config.timing.answer = Duration::from_millis(50);
    let node = Node::ipc(&config);
    let reason = trouble(&node, |_| true).await;
    assert!(reason.contains("has not answered construct within"), "{reason}");
}

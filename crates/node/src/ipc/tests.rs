//! Nodes of each version, played by a chain in memory, over a real socket.

mod fake;

use core::time::Duration;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use adit_share::{Template, TemplateParts, witness_commitment};
use adit_testkit::mining::mine;
use adit_units::{Monotonic, Now, Sats, TemplateId, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use tokio::time::{sleep, timeout};

use self::fake::{Fake, Version};
use super::IpcConfig;
use crate::{Auth, Checked, Fate, Health, Node, NodeError, RpcConfig, Submitted, Timing};

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

/// Waits until the node is said to be well, which comes right after its template.
async fn up(node: &Node) {
    let mut health = node.health();
    let found = health.wait_for(|health| matches!(health, Health::Up));
    timeout(PATIENCE, found).await.expect("it is well in time").expect("the node is followed");
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
    up(&node).await;
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

#[tokio::test]
async fn an_exception_over_a_solution_does_not_keep_the_whole_block_from_the_node() {
    let fake = Fake::start(Version::V31);
    fake.trick(|tricks| tricks.is_newer = true);
    let node = Node::ipc(&config(&fake));
    let template = next(&node, |_| true).await;
    fake.trick(|tricks| tricks.solutions_thrown_at = u32::MAX);
    let first = mine(&template, payout());
    assert_eq!(node.submit(&first).await, Submitted::Accepted, "over an exception");
    let template = next(&node, |template| template.tip.prev_hash == first.hash).await;
    fake.trick(|tricks| tricks.takes_no_solutions = true);
    let second = mine(&template, payout());
    assert_eq!(node.submit(&second).await, Submitted::Accepted, "without the method");
    assert_eq!(fake.best_block(), second.hash);
}

#[tokio::test]
async fn a_block_that_several_nodes_are_given_is_told_by_its_coinbase_where_that_is_enough() {
    let fake = Fake::start(Version::V31);
    fake.trick(|tricks| tricks.is_newer = true);
    let away = Node::rpc(&RpcConfig::new("127.0.0.1:1", Auth::Cookie("nowhere".into())).unwrap());
    let node = Node::several(vec![Node::ipc(&config(&fake)), away], || adit_net::Clock.now());
    let template = next(&node, |_| true).await;
    assert_eq!(node.submit(&mine(&template, payout())).await, Submitted::Accepted);
    fake.trick(|tricks| assert_eq!(tricks.solutions, 1, "four million bytes for nothing"));
}

#[tokio::test]
async fn a_solution_over_which_the_node_has_thrown_is_brought_again() {
    for version in [Version::V30, Version::V31] {
        let fake = Fake::start(version);
        let node = Node::ipc(&config(&fake));
        let template = next(&node, |_| true).await;
        fake.trick(|tricks| tricks.solutions_thrown_at = 2);
        assert_eq!(node.submit(&mine(&template, payout())).await, Submitted::Accepted, "{version:?}");
    }
}

#[tokio::test]
async fn many_long_transactions_do_not_end_the_connection() {
    let fake = Fake::start(Version::V31);
    fake.trick(|tricks| tricks.is_newer = true);
    let node = Node::ipc(&config(&fake));
    next(&node, |_| true).await;
    // Together they are longer than any message may be.
    let wtxids: Vec<_> = (1..=200).map(|number| bitcoin::Wtxid::from_byte_array([number; 32])).collect();
    up(&node).await;
    let health = node.health();
    let found = node.transactions(&wtxids).await;
    assert_eq!(found, vec![None; wtxids.len()]);
    assert_eq!(fake.trick(|tricks| tricks.hashes_asked_for.iter().sum::<u64>()), 200);
    assert!(matches!(*node.health().borrow(), Health::Up) && !health.has_changed().unwrap());
}

#[tokio::test]
async fn templates_that_hang_while_all_else_is_answered_are_noticed() {
    let fake = Fake::start(Version::V31);
    let mut config = config(&fake);
    config.timing.answer = Duration::from_secs(2);
    let node = Node::ipc(&config);
    let template = next(&node, |_| true).await;
    fake.trick(|tricks| tricks.makes_no_templates = true);
    let block = mine(&template, payout());
    fake.take(&block.to_bytes());
    let reason = trouble(&node, |_| true).await;
    assert!(reason.contains("has not answered waitNext within 2 s"), "{reason}");
    fake.trick(|tricks| tricks.makes_no_templates = false);
    next(&node, |template| template.tip.prev_hash == block.hash).await;
}

#[tokio::test]
async fn a_node_that_waits_for_no_tip_is_asked_ever_less_often() {
    let fake = Fake::start(Version::V31);
    let mut config = config(&fake);
    config.timing.max_retry = Duration::from_secs(60);
    let node = Node::ipc(&config);
    let template = next(&node, |_| true).await;
    fake.trick(|tricks| tricks.waits_for_no_tip = true);
    sleep(Duration::from_secs(1)).await;
    let times = fake.trick(|tricks| tricks.tips_not_waited_for);
    assert!((1..=8).contains(&times), "asked {times} times in a second");
    let block = mine(&template, payout());
    fake.take(&block.to_bytes());
    next(&node, |template| template.tip.prev_hash == block.hash).await;
}

#[tokio::test]
async fn what_became_of_a_block_is_told_while_the_node_checks_another() {
    let fake = Fake::start(Version::V31);
    let node = Node::ipc(&config(&fake));
    let template = next(&node, |_| true).await;
    fake.trick(|tricks| tricks.checks_nothing = true);
    let block = mine(&template, payout());
    let checking = tokio::spawn({
        let (node, bytes) = (node.clone(), block.to_bytes());
        async move { node.check_block(&bytes).await }
    });
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    let fate = timeout(Duration::from_secs(20), node.fate(block.hash)).await.expect("it is told meanwhile");
    assert_eq!(fate, Fate::InChain { confirmations: 1 });
    assert!(!checking.is_finished());
    fake.trick(|tricks| tricks.checks_nothing = false);
    assert_eq!(checking.await.unwrap(), Checked::Valid);
}

/// The time since the first look.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]
fn clock() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let micros = u64::try_from(START.elapsed().as_micros()).unwrap();
    Now { monotonic: Monotonic::from_micros(micros), unix: UnixTime::default() }
}

/// Two nodes with the same chain, of which the second offers more; the preferred one comes to harm, and the time is measured until the
/// other is used, though no block comes.
async fn another_node_is_used_in_time(version: Version, harm: impl FnOnce(&mut Fake)) {
    let (mut first, second) = (Fake::start(version), Fake::start(version));
    second.wait(Duration::from_secs(3));
    let nodes = [&first, &second].map(|fake| {
        // As a pool uses it.
        let mut config = config(fake);
        config.timing = Timing::default();
        Node::ipc(&config)
    });
    let more = next(&nodes[1], |_| true).await.transactions.len();
    let node = Node::several(nodes.into(), clock);
    // If the other one was heard first, this one is taken up when it has been well for a while.
    next(&node, |template| template.transactions.len() < more).await;
    sleep(Duration::from_millis(300)).await;
    assert!(next(&node, |_| true).await.transactions.len() < more, "it is kept");

    let started = clock();
    harm(&mut first);
    next(&node, |template| template.transactions.len() == more).await;
    let took = clock().monotonic - started.monotonic;
    eprintln!("measured: {version:?} left after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    up(&node).await;
    assert_eq!(first.best_block(), second.best_block(), "no block has told of it");
}

#[tokio::test]
async fn a_node_that_hangs_is_left_in_time_for_another_though_no_block_comes() {
    for version in [Version::V30, Version::V31] {
        another_node_is_used_in_time(version, |fake| fake.freeze()).await;
    }
}

#[tokio::test]
async fn a_node_that_dies_is_left_in_time_for_another_though_no_block_comes() {
    another_node_is_used_in_time(Version::V31, Fake::stop).await;
}

#[tokio::test]
async fn transactions_are_looked_up_in_the_next_node_while_the_preferred_one_hangs() {
    let (first, second) = (Fake::start(Version::V31), Fake::start(Version::V31));
    let nodes = [&first, &second].map(|fake| {
        fake.trick(|tricks| tricks.is_newer = true);
        Node::ipc(&config(fake))
    });
    for node in &nodes {
        next(node, |_| true).await;
    }
    let node = Node::several(nodes.into(), clock);
    next(&node, |_| true).await;
    first.freeze();
    let wtxids = [1, 2, 3].map(|number| bitcoin::Wtxid::from_byte_array([number; 32]));
    let found = timeout(Duration::from_secs(8), node.transactions(&wtxids)).await.expect("in time");
    assert_eq!(found, [None, None, None]);
    assert_eq!(second.trick(|tricks| tricks.hashes_asked_for.clone()), [3]);
}

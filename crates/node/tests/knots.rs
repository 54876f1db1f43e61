//! A real node, when `ADIT_BITCOIND` names one: our blocks extend its chain, and its changes reach us.
//!
//! `eval "$(scripts/lib/knots.sh)"` gets one. Without it each test says on the terminal that it was left out; with it, a node that
//! does not start fails them all.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use adit_node::{Auth, Fate, Health, Node, NodeError, Password, RpcConfig, Submitted, Timing, probe};
use adit_share::{Block, Template};
use adit_testkit::bitcoind::{Bitcoind, Chain, TRANSACTION_FEE};
use adit_testkit::mining::mine;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use tokio::time::timeout;

/// Longer than a node takes over anything here, its own start included.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long that it plays no part in a test.
const NEVER: Duration = Duration::from_secs(3600);

/// Starts a node, or says that the test was left out.
fn bitcoind(test: &str, chain: Chain) -> Option<Bitcoind> {
    Some(Bitcoind::start(&Bitcoind::command_for(test)?, chain).expect("the node named for tests starts"))
}

fn config(bitcoind: &Bitcoind) -> RpcConfig {
    let mut config = RpcConfig::new(&bitcoind.rpc_url(), Auth::Cookie(bitcoind.cookie_path())).unwrap();
    config.network = Some(bitcoind.chain().network());
    config
}

async fn next(node: &Node, wanted: impl Fn(&Template) -> bool) -> Arc<Template> {
    let mut templates = node.templates();
    let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    let template = timeout(PATIENCE, found).await;
    template
        .expect("a template comes in time")
        .expect("the node lives")
        .clone()
        .expect("it was just looked at")
}

fn payout() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(b"payout"))
}

fn solved(template: &Arc<Template>) -> Block {
    mine(template, payout())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_blocks_extend_a_regtest_chain() {
    let Some(bitcoind) = bitcoind("blocks on regtest", Chain::Regtest) else { return };
    let node = Node::rpc(&config(&bitcoind));
    // Up to 16 the height in the coinbase is an opcode, from 17 on it is bytes.
    for height in 1..=20 {
        let template = next(&node, |template| template.tip.height.0 == height).await;
        let block = solved(&template);
        block.check().unwrap();
        assert_eq!(node.submit(&block).await, Submitted::Accepted, "at height {height}");
        assert_eq!(bitcoind.best_block_hash().unwrap(), block.hash);
        assert_eq!(node.submit(&block).await, Submitted::AlreadyKnown);
    }
    let first = bitcoind.block_at(1).unwrap();
    assert_eq!(first.txdata[0].output[0].script_pubkey, payout());
    assert_eq!(node.fate(first.block_hash()).await, Fate::InChain { confirmations: 20 });
    assert_eq!(node.fate(BlockHash::all_zeros()).await, Fate::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_block_holds_the_mempool_and_takes_its_fees() {
    let Some(bitcoind) = bitcoind("blocks with transactions", Chain::Regtest) else { return };
    bitcoind.mature_coinbases(5).unwrap();
    let sent = bitcoind.send_transactions(5).unwrap();
    let node = Node::rpc(&config(&bitcoind));
    let template = next(&node, |template| template.transactions.len() == 5).await;
    assert_eq!(template.fees.to_sats(), TRANSACTION_FEE.to_sat() * 5);
    let block = solved(&template);
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    assert_eq!(bitcoind.mempool_len().unwrap(), 0);
    let mined = bitcoind.block(block.hash).unwrap();
    assert!(sent.iter().all(|txid| mined.txdata.iter().any(|tx| tx.compute_txid() == *txid)));
    let paid = Amount::from_btc(50.0).unwrap() + TRANSACTION_FEE * 5;
    assert_eq!(mined.txdata[0].output[0], TxOut { value: paid, script_pubkey: payout() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_block_leaves_room_for_our_coinbase() {
    let Some(command) = Bitcoind::command_for("a full block") else { return };
    // The node fills the block but for what it must leave itself, which is less than we want.
    let full = ["-blockmaxweight=4000000", "-blockreservedweight=2000"];
    let started = Bitcoind::start_with(&command, Chain::Regtest, &full);
    let bitcoind = started.expect("the node named for tests starts");
    bitcoind.mature_coinbases(30).unwrap();
    bitcoind.send_large_transactions(10).unwrap();
    bitcoind.send_transactions(20).unwrap();
    let node_says = bitcoind.call("getblocktemplate", &serde_json::json!([{ "rules": ["segwit"] }])).unwrap();
    let offered = node_says["transactions"].as_array().unwrap().len();
    let weight: u64 =
        node_says["transactions"].as_array().unwrap().iter().map(|tx| tx["weight"].as_u64().unwrap()).sum();
    eprintln!("the node offers {offered} transactions of weight {weight}");

    let mut config = config(&bitcoind);
    config.coinbase.weight = 40_000;
    let node = Node::rpc(&config);
    let template = next(&node, |_| true).await;
    assert!(template.transactions.len() < offered, "something was left out");
    assert!(template.weight + 40_000 <= 4_000_000);
    assert_eq!(node.submit(&solved(&template)).await, Submitted::Accepted);
    assert!(bitcoind.mempool_len().unwrap() > 0);
    // What was left out comes next.
    let rest = next(&node, |later| later.tip.height > template.tip.height).await;
    assert_eq!(rest.transactions.len(), 30 - template.transactions.len());
    assert_eq!(node.submit(&solved(&rest)).await, Submitted::Accepted);
    assert_eq!(bitcoind.mempool_len().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_signet_takes_blocks_without_a_signature() {
    let Some(bitcoind) = bitcoind("blocks on a private signet", Chain::PrivateSignet) else { return };
    let node = Node::rpc(&config(&bitcoind));
    for height in 1..=2 {
        let template = next(&node, |template| template.tip.height.0 == height).await;
        assert_eq!(template.tip.nbits.to_consensus(), 0x1e03_77ae);
        let block = solved(&template);
        assert_eq!(node.submit(&block).await, Submitted::Accepted);
        assert_eq!(bitcoind.best_block_hash().unwrap(), block.hash);
    }
    let info = node.probe().await.unwrap();
    assert_eq!((info.network, info.height.0, info.initial_block_download), (Network::Signet, 2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signet_that_wants_signatures_is_not_mined() {
    let Some(command) = Bitcoind::command_for("a signed signet") else { return };
    // The signature of one key, which is the curve's generator point.
    let challenge =
        "-signetchallenge=51210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f8179851ae";
    let started = Bitcoind::start_with(&command, Chain::PrivateSignet, &[challenge]);
    let bitcoind = started.expect("the node named for tests starts");
    let info = probe(&config(&bitcoind)).await.unwrap();
    let trouble = info.trouble.expect("its templates are of no use").to_string();
    assert!(trouble.contains("signet") && trouble.contains("signed"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tip_reaches_us_by_long_poll_and_by_looking() {
    let Some(bitcoind) = bitcoind("the time from tip to template", Chain::Regtest) else { return };
    bitcoind.generate(1).unwrap();
    let patient = Timing { tip_poll: NEVER, refresh: NEVER, ..Timing::default() };
    for (way, timing) in [("long poll", patient), ("defaults", Timing::default())] {
        let mut config = config(&bitcoind);
        config.timing = timing;
        let node = Node::rpc(&config);
        next(&node, |_| true).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            // Longer than the pause between two long polls, so that one is under way.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let block = solved(&next(&node, |_| true).await);
            #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
            let start = std::time::Instant::now();
            let (submitter, submitted) = (node.clone(), block.clone());
            let outcome = tokio::spawn(async move { submitter.submit(&submitted).await });
            next(&node, |template| template.tip.prev_hash == block.hash).await;
            times.push(start.elapsed());
            assert_eq!(outcome.await.unwrap(), Submitted::Accepted);
        }
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        eprintln!(
            "from handing over a block until the template on top of it is up, by {way}: median {median:?}, worst {worst:?}"
        );
        assert!(worst < Duration::from_secs(3), "{way}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_found_again_with_its_new_cookie() {
    let Some(mut bitcoind) = bitcoind("a restart", Chain::Regtest) else { return };
    bitcoind.generate(1).unwrap();
    let node = Node::rpc(&config(&bitcoind));
    let before = next(&node, |_| true).await;
    let cookie = std::fs::read_to_string(bitcoind.cookie_path()).unwrap();

    bitcoind.kill();
    let mut health = node.health();
    let down = timeout(PATIENCE, health.wait_for(|health| matches!(health, Health::Down(_)))).await;
    drop(down.expect("trouble is noticed").unwrap());
    assert_eq!(node.templates().borrow().as_deref(), Some(&*before), "the last template stays");

    bitcoind.launch().unwrap();
    assert_ne!(std::fs::read_to_string(bitcoind.cookie_path()).unwrap(), cookie);
    let hash = bitcoind.generate(1).unwrap()[0];
    next(&node, |template| template.tip.prev_hash == hash).await;
    let up = timeout(PATIENCE, health.wait_for(|health| matches!(health, Health::Up))).await;
    drop(up.expect("it is up again").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_and_a_false_block_are_told_apart() {
    let Some(bitcoind) = bitcoind("the fate of blocks", Chain::Regtest) else { return };
    bitcoind.generate(1).unwrap();
    let node = Node::rpc(&config(&bitcoind));
    let template = next(&node, |_| true).await;
    bitcoind.generate(2).unwrap();

    let late = solved(&template);
    assert_eq!(node.submit(&late).await, Submitted::Undecided("inconclusive".to_owned()));
    assert_eq!(node.fate(late.hash).await, Fate::Stale);

    let template = next(&node, |template| template.tip.height.0 == 4).await;
    let good = solved(&template);
    let mut block: bitcoin::Block = bitcoin::consensus::deserialize(&good.to_bytes()).unwrap();
    block.txdata[0].output[0].value += Amount::ONE_SAT;
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while !template.tip.target.is_met_by(&block.header.block_hash().to_byte_array()) {
        block.header.nonce += 1;
    }
    assert_eq!(node.submit_bytes(&serialize(&block)).await, Submitted::Refused("bad-cb-amount".to_owned()));
    assert_eq!(node.submit_bytes(b"block").await, Submitted::Refused("Block decode failed".to_owned()));
    assert_eq!(node.submit(&good).await, Submitted::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_gets_to_read() {
    let Some(bitcoind) = bitcoind("errors of a real node", Chain::Regtest) else { return };
    let url = bitcoind.rpc_url();
    let wrong_password = Auth::UserPass { user: "me".to_owned(), password: Password::from("no".to_owned()) };
    let error = probe(&RpcConfig::new(&url, wrong_password).unwrap()).await.unwrap_err();
    assert!(matches!(error, NodeError::WrongPassword { .. }), "{error}");

    let mut main = config(&bitcoind);
    main.network = Some(Network::Bitcoin);
    let error = probe(&main).await.unwrap_err();
    assert!(matches!(error, NodeError::WrongNetwork { found: Network::Regtest, .. }), "{error}");

    let info = probe(&config(&bitcoind)).await.unwrap();
    assert_eq!((info.network, info.height.0), (Network::Regtest, 0));
    assert!(info.initial_block_download, "a chain with an old last block counts as not downloaded");
    assert!(info.user_agent.starts_with("/Satoshi:"), "{}", info.user_agent);
    assert!(info.trouble.is_none());
    bitcoind.generate(1).unwrap();
    assert!(!probe(&config(&bitcoind)).await.unwrap().initial_block_download);
}

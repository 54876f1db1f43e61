//! The chain in memory behind the same handle as a real node.

use std::sync::Arc;
use std::time::Duration;

use adit_node::{Checked, DevnetConfig, Fate, Health, Node, Pace, Submitted};
use adit_share::{Block, Template};
use adit_testkit::mining::mine;
use adit_units::{Monotonic, Now, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, ScriptBuf};

/// A clock that each look moves on by a tenth of a second.
fn clock() -> impl Fn() -> Now + Send + 'static {
    let looks = std::sync::atomic::AtomicU32::new(0);
    move || {
        let looks = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let start = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(1_700_000_000) };
        start.after(Duration::from_millis(100) * looks)
    }
}

fn config() -> DevnetConfig {
    DevnetConfig {
        pace: Pace::Fixed(Work::from_hashes(2)),
        arrival: Duration::from_millis(100),
        refresh: Duration::from_millis(10),
        ..DevnetConfig::new([3; 32])
    }
}

fn solved(template: &Arc<Template>) -> Block {
    mine(template, ScriptBuf::new())
}

async fn next(node: &Node, wanted: impl Fn(&Template) -> bool) -> Arc<Template> {
    let mut templates = node.templates();
    let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    let template = tokio::time::timeout(Duration::from_secs(10), found).await;
    template
        .expect("a template comes in time")
        .expect("the node lives")
        .clone()
        .expect("it was just looked at")
}

#[tokio::test]
async fn blocks_bring_templates_for_the_next() {
    let node = Node::devnet(&config(), clock());
    for height in 1..=20 {
        let template = next(&node, |template| template.tip.height.0 == height).await;
        let block = solved(&template);
        assert_eq!(node.submit(&block).await, Submitted::Accepted);
        assert_eq!(node.submit(&block).await, Submitted::AlreadyKnown);
        assert_eq!(node.fate(block.hash).await, Fate::InChain { confirmations: 1 });
    }
    let info = node.probe().await.unwrap();
    assert_eq!((info.height.0, info.network), (20, bitcoin::Network::Regtest));
    assert!(matches!(*node.health().borrow(), Health::Up));
    assert_eq!(node.fate(BlockHash::all_zeros()).await, Fate::Unknown);
}

#[tokio::test]
async fn transactions_come_while_nobody_mines() {
    let node = Node::devnet(&config(), clock());
    let first = next(&node, |_| true).await;
    let later = next(&node, |template| template.fees > first.fees).await;
    assert_eq!(later.tip, first.tip);
    assert!(later.transactions.len() > first.transactions.len());
    // A block of the earlier template is as good.
    assert_eq!(node.submit(&solved(&first)).await, Submitted::Accepted);
    let Submitted::Refused(reason) = node.submit(&solved(&later)).await else { panic!("it is too late") };
    assert!(reason.contains("stale"), "{reason}");
}

#[tokio::test]
async fn transactions_are_found_by_their_hashes() {
    let node = Node::devnet(&config(), clock());
    let template = next(&node, |template| template.transactions.len() > 2).await;
    let mut wtxids: Vec<_> = template.transactions.iter().map(adit_share::RawTransaction::wtxid).collect();
    wtxids.reverse();
    wtxids.push(bitcoin::Wtxid::from_byte_array([9; 32]));
    let found = node.transactions(&wtxids).await;
    let (unknown, known) = found.split_last().unwrap();
    assert_eq!(unknown, &None);
    let known: Vec<_> = known.iter().flatten().map(adit_share::RawTransaction::wtxid).collect();
    assert_eq!(known, wtxids[..wtxids.len() - 1]);
}

#[tokio::test]
async fn blocks_that_nobody_has_solved_are_checked() {
    let node = Node::devnet(&config(), clock());
    let template = next(&node, |_| true).await;
    let good = solved(&template);
    let mut block: bitcoin::Block = bitcoin::consensus::deserialize(&good.to_bytes()).unwrap();
    while template.tip.target.is_met_by(&block.header.block_hash().to_byte_array()) {
        block.header.nonce += 1;
    }
    assert_eq!(node.check_block(&bitcoin::consensus::serialize(&block)).await, Checked::Valid);
    block.txdata[0].output[0].value += bitcoin::Amount::ONE_SAT;
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    let greedy = node.check_block(&bitcoin::consensus::serialize(&block)).await;
    assert!(matches!(&greedy, Checked::Refused(_)), "{greedy:?}");
    assert!(matches!(node.check_block(b"block").await, Checked::Refused(_)));
    assert_eq!(node.submit(&good).await, Submitted::Accepted);
    let late = node.check_block(&good.to_bytes()).await;
    assert!(matches!(&late, Checked::Undecided(_)), "{late:?}");
}

#[tokio::test]
async fn bytes_that_are_no_block_are_refused() {
    let node = Node::devnet(&config(), clock());
    let Submitted::Refused(reason) = node.submit_bytes(b"block").await else { panic!("it is none") };
    assert!(reason.contains("decode-failed"), "{reason}");
}

#[tokio::test]
async fn the_chain_ends_with_the_last_handle() {
    let node = Node::devnet(&config(), clock());
    let mut templates = node.templates();
    drop(node.clone());
    next(&node, |_| true).await;
    drop(node);
    let ended = async { while templates.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the chain's task ends");
}

//! Blocks handed over, and asked about.

use std::sync::Arc;
use std::time::Duration;

use adit_node::{Fate, Node, Submitted};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use serde_json::json;

use crate::fake::{FakeNode, Trick, solved};

#[tokio::test]
async fn the_words_of_the_node_are_understood() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let block = solved(&Arc::new(fake.template()));
    let mut spoiled = block.to_bytes();
    assert_eq!(node.submit_bytes(&spoiled[..90]).await, Submitted::Refused("Block decode failed".to_owned()));
    spoiled[200] ^= 1;
    assert_eq!(node.submit_bytes(&spoiled).await, Submitted::Refused("bad-txnmrklroot".to_owned()));

    fake.wait(Duration::from_secs(5));
    let late = solved(&Arc::new(fake.template()));
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    assert_eq!(node.submit(&block).await, Submitted::AlreadyKnown);
    assert_eq!(node.submit(&late).await, Submitted::Undecided("inconclusive".to_owned()));

    let word = |word: &str| Trick::Result(json!(word));
    for (said, understood) in [
        ("duplicate-inconclusive", Submitted::Undecided("duplicate-inconclusive".to_owned())),
        ("prev-blk-not-found", Submitted::Undecided("prev-blk-not-found".to_owned())),
        ("duplicate-invalid", Submitted::Refused("duplicate-invalid".to_owned())),
        ("high-hash", Submitted::Refused("high-hash".to_owned())),
    ] {
        fake.trick("submitblock", word(said));
        assert_eq!(node.submit(&block).await, understood);
    }
}

#[tokio::test]
async fn a_block_that_is_too_new_for_the_clock_of_the_node_is_not_given_up() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let block = solved(&Arc::new(fake.template()));
    fake.trick("submitblock", Trick::Result(json!("time-too-new")));
    assert_eq!(node.submit(&block).await, Submitted::Undecided("time-too-new".to_owned()));
    fake.honest("submitblock");
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
}

#[tokio::test]
async fn a_block_whose_answer_was_lost_is_known_the_second_time() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let block = solved(&Arc::new(fake.template()));
    fake.trick("submitblock", Trick::LoseAnswer);
    let (outcome, ()) = tokio::join!(node.submit(&block), async {
        while fake.calls("submitblock") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fake.honest("submitblock");
    });
    assert_eq!(outcome, Submitted::AlreadyKnown);
    assert_eq!(fake.best_block(), block.hash);
}

#[tokio::test]
async fn a_block_waits_for_a_node_that_restarts() {
    let mut fake = FakeNode::start().await;
    let mut config = fake.config();
    config.timing.submit_tries = 100;
    let node = Node::rpc(&config);
    let block = solved(&Arc::new(fake.template()));
    fake.kill().await;
    let (outcome, ()) = tokio::join!(node.submit(&block), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fake.revive();
    });
    assert_eq!(outcome, Submitted::Accepted);
}

#[tokio::test]
async fn a_node_that_stays_away_is_given_up_with_a_reason() {
    let mut fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let block = solved(&Arc::new(fake.template()));
    fake.kill().await;
    let Submitted::Unreachable(reason) = node.submit(&block).await else { panic!("nobody is there") };
    assert!(reason.contains("no connection"), "{reason}");
    let Fate::Unreachable(reason) = node.fate(block.hash).await else { panic!("nobody is there") };
    assert!(reason.contains("no connection"), "{reason}");
}

#[tokio::test]
async fn a_node_that_is_busy_or_warming_up_has_not_judged_the_block() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let block = solved(&Arc::new(fake.template()));
    for trick in
        [Trick::Http(503, "Work queue depth exceeded"), Trick::Fault(-28, "Loading"), Trick::Fault(-1, "odd")]
    {
        fake.trick("submitblock", trick);
        let before = fake.calls("submitblock");
        let outcome = node.submit(&block).await;
        assert!(matches!(outcome, Submitted::Unreachable(_)), "{outcome:?}");
        assert_eq!(fake.calls("submitblock") - before, 6, "it was tried again");
    }
}

#[tokio::test]
async fn the_fate_of_a_block() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let first = fake.mine();
    assert_eq!(node.fate(first).await, Fate::InChain { confirmations: 1 });
    fake.mine();
    assert_eq!(node.fate(first).await, Fate::InChain { confirmations: 2 });
    assert_eq!(node.fate(BlockHash::all_zeros()).await, Fate::Unknown);
    fake.trick("getblockheader", Trick::Result(json!({ "confirmations": -1 })));
    assert_eq!(node.fate(first).await, Fate::Stale);
    fake.trick("getblockheader", Trick::Fault(-28, "Loading"));
    assert!(matches!(node.fate(first).await, Fate::Unreachable(_)));
}

//! How the board follows the node: new tips, new transactions, restarts, and what happens while nothing answers.

use std::time::Duration;

use adit_node::{Auth, Health, Node};

use crate::fake::{FakeNode, Trick, cookie, solved};
use crate::{down, first_template, template, tip, up};

/// So long that it plays no part in a test.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_first_template_is_what_the_node_offers() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let (got, offered) = (first_template(&node).await, fake.template());
    assert_eq!(got.tip, offered.tip);
    assert_eq!(got.transactions, offered.transactions);
    assert_eq!(got.merkle_path, offered.merkle_path);
    assert_eq!(got.required_outputs, offered.required_outputs);
    assert_eq!(
        (got.coinbase_value, got.fees, got.sigops),
        (offered.coinbase_value, offered.fees, offered.sigops)
    );
    assert_eq!((got.version, got.time), (offered.version, offered.time));
    up(&node).await;
}

#[tokio::test]
async fn a_new_tip_comes_by_long_poll_alone() {
    let fake = FakeNode::start().await;
    let mut config = fake.config();
    (config.timing.tip_poll, config.timing.refresh) = (NEVER, NEVER);
    let node = Node::rpc(&config);
    let mut templates = node.templates();
    first_template(&node).await;
    for _ in 0..3 {
        let hash = fake.mine();
        template(&mut templates, |template| template.tip.prev_hash == hash).await;
    }
    assert_eq!(fake.calls("getbestblockhash"), 1, "once in the beginning");
}

#[tokio::test]
async fn a_new_tip_is_seen_without_long_poll() {
    let fake = FakeNode::start().await;
    fake.without_long_poll();
    let mut config = fake.config();
    config.timing.refresh = NEVER;
    let node = Node::rpc(&config);
    let mut templates = node.templates();
    first_template(&node).await;
    let hash = fake.mine();
    template(&mut templates, |template| template.tip.prev_hash == hash).await;
    assert_eq!(fake.calls("getblocktemplate"), 2, "the first template and the new one");
}

#[tokio::test]
async fn a_tip_is_told_before_its_template() {
    let fake = FakeNode::start().await;
    fake.without_long_poll();
    let mut config = fake.config();
    config.timing.refresh = NEVER;
    let node = Node::rpc(&config);
    let (mut templates, mut tips) = (node.templates(), node.tips());
    let before = first_template(&node).await;
    assert_eq!(*tips.borrow_and_update(), Some(before.tip));
    fake.trick("getblocktemplate", Trick::LatePlainAnswer(Duration::from_millis(400)));
    templates.mark_unchanged();
    let hash = fake.mine();
    let told = tips.wait_for(|tip| tip.is_some_and(|tip| tip.prev_hash == hash)).await.unwrap().unwrap();
    assert!(!templates.has_changed().unwrap(), "the node is still at work on it");
    let full = template(&mut templates, |template| template.tip.prev_hash == hash).await;
    assert_eq!(full.tip, told);
    assert!(!tips.has_changed().unwrap(), "the template brings no news of the tip");
}

#[tokio::test]
async fn where_the_header_cannot_be_had_the_template_tells_of_the_tip() {
    let fake = FakeNode::start().await;
    fake.without_long_poll();
    fake.trick("getblockheader", Trick::Fault(-32601, "Method not found"));
    let mut config = fake.config();
    config.timing.refresh = NEVER;
    let node = Node::rpc(&config);
    let (mut templates, mut tips) = (node.templates(), node.tips());
    first_template(&node).await;
    let hash = fake.mine();
    let full = template(&mut templates, |template| template.tip.prev_hash == hash).await;
    tips.wait_for(|tip| *tip == Some(full.tip)).await.unwrap();
    up(&node).await;
}

#[tokio::test]
async fn new_transactions_on_the_same_tip_come_by_refresh() {
    let fake = FakeNode::start().await;
    fake.without_long_poll();
    let node = Node::rpc(&fake.config());
    let mut templates = node.templates();
    let before = first_template(&node).await;
    fake.wait(Duration::from_secs(3));
    let after = template(&mut templates, |template| template.fees > before.fees).await;
    assert_eq!(after.tip, before.tip);
    assert_eq!(after.transactions.len(), before.transactions.len() + 3);
    assert!(after.id > before.id);
}

#[tokio::test]
async fn what_did_not_change_is_not_news() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let mut templates = node.templates();
    first_template(&node).await;
    templates.mark_unchanged();
    let asked = fake.calls("getblocktemplate");
    while fake.calls("getblocktemplate") < asked + 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!templates.has_changed().unwrap());
}

#[tokio::test]
async fn an_old_template_that_comes_late_does_not_replace_a_new_one() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let before = first_template(&node).await;
    // A refresh is answered for the old tip, and the answer is under way when a long poll brings the new one.
    fake.trick("getblocktemplate", Trick::LatePlainAnswer(Duration::from_millis(300)));
    let asked = fake.calls("getblocktemplate");
    while fake.calls("getblocktemplate") == asked {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let hash = fake.mine();
    let mut templates = node.templates();
    template(&mut templates, |template| template.tip.prev_hash == hash).await;
    fake.honest("getblocktemplate");
    let back = templates.wait_for(|template| template.as_ref().is_some_and(|new| new.tip == before.tip));
    let back = tokio::time::timeout(Duration::from_millis(600), back).await;
    assert!(back.is_err(), "the board went back to the old tip");
}

#[tokio::test]
async fn a_block_of_ours_brings_the_next_template() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let mut templates = node.templates();
    for height in 1..=5 {
        let work = template(&mut templates, |template| template.tip.height.0 == height).await;
        let block = solved(&work);
        assert_eq!(node.submit(&block).await, adit_node::Submitted::Accepted);
        assert_eq!(fake.best_block(), block.hash);
    }
}

#[tokio::test]
async fn a_node_that_starts_late_is_found() {
    let mut fake = FakeNode::start().await;
    fake.kill().await;
    let node = Node::rpc(&fake.config());
    let reason = down(&node, "no connection").await;
    assert!(reason.contains("refused") && reason.contains("rpcport"), "{reason}");
    assert!(node.templates().borrow().is_none());
    fake.revive();
    up(&node).await;
    first_template(&node).await;
}

#[tokio::test]
async fn the_last_template_stays_while_the_node_is_away() {
    let mut fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let mut templates = node.templates();
    let before = first_template(&node).await;
    fake.kill().await;
    down(&node, "no connection").await;
    assert_eq!(templates.borrow().as_deref(), Some(&*before));
    let hash = fake.mine();
    fake.revive();
    template(&mut templates, |template| template.tip.prev_hash == hash).await;
    up(&node).await;
}

#[tokio::test]
async fn new_tips_are_told_while_the_node_gives_no_template() {
    let fake = FakeNode::start().await;
    fake.without_long_poll();
    let node = Node::rpc(&fake.config());
    let before = first_template(&node).await;
    fake.trick("getblocktemplate", Trick::Fault(-1, "odd"));
    down(&node, "odd").await;
    let mut tips = node.tips();
    for _ in 0..3 {
        let hash = fake.mine();
        tip(&mut tips, hash).await;
    }
    assert!(matches!(*node.health().borrow(), Health::Down(_)));
    assert_eq!(node.templates().borrow().as_deref(), Some(&*before));
    fake.honest("getblocktemplate");
    let hash = fake.best_block();
    template(&mut node.templates(), |template| template.tip.prev_hash == hash).await;
}

#[tokio::test]
async fn a_node_that_hangs_is_noticed() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    first_template(&node).await;
    for method in ["getbestblockhash", "getblocktemplate", "getblockchaininfo"] {
        fake.trick(method, Trick::Silence);
    }
    let reason = down(&node, "has not answered").await;
    assert!(reason.contains("within 1 s"), "{reason}");
    for method in ["getbestblockhash", "getblocktemplate", "getblockchaininfo"] {
        fake.honest(method);
    }
    up(&node).await;
}

#[tokio::test]
async fn trouble_elsewhere_does_not_give_up_the_long_poll() {
    let fake = FakeNode::start().await;
    let mut config = fake.config();
    config.timing.refresh = NEVER;
    let node = Node::rpc(&config);
    first_template(&node).await;
    while fake.calls("long poll") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..3 {
        fake.trick("getbestblockhash", Trick::Fault(-1, "odd"));
        down(&node, "odd").await;
        fake.honest("getbestblockhash");
        up(&node).await;
    }
    assert_eq!(fake.calls("long poll"), 1);
    let hash = fake.mine();
    template(&mut node.templates(), |template| template.tip.prev_hash == hash).await;
}

#[tokio::test]
async fn a_broken_long_poll_is_taken_up_again() {
    let mut fake = FakeNode::start().await;
    let mut config = fake.config();
    config.timing.tip_poll = Duration::from_millis(100);
    let node = Node::rpc(&config);
    first_template(&node).await;
    for polls in 1..=3 {
        while fake.calls("long poll") < polls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fake.kill().await;
        fake.revive();
    }
    up(&node).await;
}

#[tokio::test]
async fn a_new_cookie_is_read_without_a_pause() {
    let fake = FakeNode::start().await;
    fake.set_credentials("__cookie__:one");
    let (_folder, path) = cookie("__cookie__:one");
    let node = Node::rpc(&fake.config_with(Auth::Cookie(path.clone())));
    let mut templates = node.templates();
    first_template(&node).await;
    up(&node).await;
    let mut health = node.health();
    health.mark_unchanged();

    std::fs::write(&path, "__cookie__:two").unwrap();
    fake.set_credentials("__cookie__:two");
    let hash = fake.mine();
    template(&mut templates, |template| template.tip.prev_hash == hash).await;
    assert!(!health.has_changed().unwrap(), "{:?}", *health.borrow());
}

#[tokio::test]
async fn a_node_of_another_network_in_the_same_place_is_not_followed() {
    let mut fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let before = first_template(&node).await;
    let mut config = fake.config();
    config.network = Some(bitcoin::Network::Regtest);
    let strict = Node::rpc(&config);
    first_template(&strict).await;

    fake.kill().await;
    down(&strict, "no connection").await;
    fake.trick("getblockchaininfo", Trick::Change("chain", "main".into()));
    fake.mine();
    fake.revive();
    let reason = down(&strict, "network").await;
    assert!(reason.contains("network main") && reason.contains("regtest"), "{reason}");
    assert_eq!(strict.templates().borrow().as_ref().map(|template| template.tip), Some(before.tip));
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_calls() {
    let fake = FakeNode::start().await;
    let node = Node::rpc(&fake.config());
    let second = node.clone();
    first_template(&node).await;
    drop(node);
    let mut health = second.health();
    let before = fake.calls("getbestblockhash");
    while fake.calls("getbestblockhash") < before + 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(second);
    // The task holds the other end, so this ends when the task does.
    while health.changed().await.is_ok() {}
    let after = fake.calls("getbestblockhash");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(fake.calls("getbestblockhash") <= after + 1, "one call may have been under way");
    assert!(matches!(*health.borrow(), Health::Up));
}

//! Two nodes as one: the preferred one dies, hangs, falls behind, offers nonsense and comes back, and blocks go to both.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use adit_node::{Fate, Health, Node, RpcConfig, Submitted, Timing};
use adit_share::{Block, Template};
use adit_units::{Monotonic, Now, UnixTime};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::fake::{FakeNode, Trick, solved};
use crate::{down, template, tip, up};

/// What is asked of a node that is followed.
const METHODS: [&str; 4] = ["getbestblockhash", "getblocktemplate", "getblockchaininfo", "getblockheader"];
/// The longest time that a change of nodes may take.
const FAILOVER: Duration = Duration::from_secs(2);
/// How many more transactions the second node offers than the first, so that templates tell which node they are of.
const MORE: usize = 3;

/// The time since the first look.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]
fn clock() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let micros = u64::try_from(START.elapsed().as_micros()).unwrap();
    Now { monotonic: Monotonic::from_micros(micros), unix: UnixTime::default() }
}

/// The preferred node, the other one, and both as one.
struct Pair {
    first: FakeNode,
    second: FakeNode,
    node: Node,
}

impl Pair {
    /// Both nodes well, the first in use, and the second with more to offer.
    async fn start(config: impl Fn(&FakeNode) -> RpcConfig) -> Self {
        let pair = Self::start_equal(config).await;
        pair.second.wait(Duration::from_secs(MORE as u64));
        up(&pair.node).await;
        // Until the second is heard too; it has been when its newest template could be put up.
        sleep(Duration::from_millis(300)).await;
        assert!(pair.is_of_first(&pair.shown()));
        pair
    }

    /// Both nodes with the same to offer.
    async fn start_equal(config: impl Fn(&FakeNode) -> RpcConfig) -> Self {
        let (first, second) = (FakeNode::start().await, FakeNode::start().await);
        let nodes = [&first, &second].map(|fake| Node::rpc(&config(fake)));
        let node = Node::several(nodes.into(), clock);
        template(&mut node.templates(), |_| true).await;
        Self { first, second, node }
    }

    fn shown(&self) -> Arc<Template> {
        self.node.templates().borrow().clone().expect("a template is up")
    }

    fn is_of_first(&self, template: &Template) -> bool {
        template.transactions.len() < self.second.template().transactions.len()
    }

    /// Waits for a template of one node, and tells how long that took.
    async fn switches_to(&self, first: bool) -> Duration {
        let started = clock();
        template(&mut self.node.templates(), |template| self.is_of_first(template) == first).await;
        clock().monotonic - started.monotonic
    }
}

fn quick(fake: &FakeNode) -> RpcConfig {
    fake.config()
}

/// As a pool uses it.
fn as_configured(fake: &FakeNode) -> RpcConfig {
    let mut config = fake.config();
    config.timing = Timing::default();
    config
}

#[tokio::test]
async fn a_dead_node_is_left_in_time_and_taken_up_again_when_it_is_well() {
    let mut pair = Pair::start(as_configured).await;
    pair.first.kill().await;
    let took = pair.switches_to(false).await;
    eprintln!("measured: dead node left after {took:?}");
    assert!(took < FAILOVER, "{took:?}");
    up(&pair.node).await;

    pair.first.revive();
    let took = pair.switches_to(true).await;
    eprintln!("measured: preferred node used again after {took:?}");
    assert!(took > Duration::from_secs(9), "{took:?}");
}

#[tokio::test]
async fn a_node_that_hangs_is_left_in_time_however_long_its_answers_may_take() {
    let pair = Pair::start(as_configured).await;
    for method in METHODS {
        pair.first.trick(method, Trick::Silence);
    }
    let took = pair.switches_to(false).await;
    eprintln!("measured: silent node left after {took:?}");
    assert!(took < FAILOVER, "{took:?}");
    up(&pair.node).await;
}

#[tokio::test]
async fn a_node_that_offers_nonsense_is_refused_and_the_next_one_used() {
    let pair = Pair::start(quick).await;
    pair.first.trick("getblocktemplate", Trick::Change("coinbasevalue", json!(1)));
    let took = pair.switches_to(false).await;
    eprintln!("measured: node with bad templates left after {took:?}");
    assert!(took < FAILOVER, "{took:?}");
    pair.first.honest("getblocktemplate");
    pair.switches_to(true).await;
}

#[tokio::test]
async fn no_template_below_a_known_block_goes_up() {
    let pair = Pair::start_equal(quick).await;
    let block = solved(&Arc::new(pair.second.template()));
    pair.second.take(&block);
    let mut templates = pair.node.templates();
    template(&mut templates, |template| template.tip.prev_hash == block.hash).await;
    // The preferred node is busy with the old block, and has ever more to offer on it.
    for _ in 0..10 {
        pair.first.wait(Duration::from_secs(1));
        sleep(Duration::from_millis(100)).await;
        assert_eq!(pair.shown().tip.prev_hash, block.hash);
    }
    assert!(matches!(*pair.node.health().borrow(), Health::Up));
    pair.first.take(&block);
    let next = pair.first.mine();
    template(&mut templates, |template| template.tip.prev_hash == next).await;
}

#[tokio::test]
async fn a_block_that_is_only_told_of_ends_the_templates_below_it() {
    let pair = Pair::start_equal(quick).await;
    up(&pair.node).await;
    let before = pair.shown();
    pair.second.trick("getblocktemplate", Trick::Silence);
    let block = solved(&Arc::new(pair.second.template()));
    pair.second.take(&block);
    let mut health = pair.node.health();
    let ended = health.wait_for(|health| matches!(health, Health::Down(_)));
    timeout(FAILOVER, ended).await.expect("in time").expect("the node lives");
    pair.first.wait(Duration::from_secs(2));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(pair.shown(), before, "more to offer on the old block is no news");
    pair.first.take(&block);
    let mut templates = pair.node.templates();
    template(&mut templates, |template| template.tip.prev_hash == block.hash).await;
    up(&pair.node).await;
}

#[tokio::test]
async fn a_late_answer_does_not_take_a_new_tip_back() {
    let pair = Pair::start_equal(|fake| {
        fake.without_long_poll();
        let mut config = fake.config();
        (config.timing.refresh, config.timing.template) = (crate::PATIENCE * 2, crate::PATIENCE * 2);
        config
    })
    .await;
    up(&pair.node).await;
    let late = Duration::from_millis(700);
    pair.first.trick("getblocktemplate", Trick::Silence);
    pair.first.trick("getblockchaininfo", Trick::LatePlainAnswer(late));
    let mut tips = pair.node.tips();
    let before = pair.first.best_block();
    // The answer that was on its way before the trick is over, and one that knows nothing of the block is on its way.
    let calls = pair.first.calls("getblockchaininfo");
    while pair.first.calls("getblockchaininfo") == calls {
        sleep(Duration::from_millis(1)).await;
    }
    let block = pair.first.mine();
    tip(&mut tips, block).await;
    let back = timeout(late * 2, tips.wait_for(|tip| tip.is_some_and(|tip| tip.prev_hash == before))).await;
    assert!(back.is_err(), "the tip went back");
}

#[tokio::test]
async fn new_tips_are_told_while_no_node_gives_a_template() {
    let pair = Pair::start_equal(|fake| {
        fake.without_long_poll();
        fake.config()
    })
    .await;
    for fake in [&pair.first, &pair.second] {
        fake.trick("getblocktemplate", Trick::Fault(-1, "odd"));
    }
    down(&pair.node, "none of the configured nodes").await;
    let mut tips = pair.node.tips();
    for fake in [&pair.first, &pair.second, &pair.second] {
        let block = solved(&Arc::new(fake.template()));
        for fake in [&pair.first, &pair.second] {
            fake.take(&block);
        }
        tip(&mut tips, block.hash).await;
    }
    assert!(matches!(*pair.node.health().borrow(), Health::Down(_)));
}

#[tokio::test]
async fn a_block_goes_to_all_nodes() {
    let pair = Pair::start_equal(quick).await;
    for _ in 0..3 {
        let block = solved(&Arc::new(pair.first.template()));
        assert_eq!(pair.node.submit(&block).await, Submitted::Accepted);
        timeout(FAILOVER, async {
            while [&pair.first, &pair.second].iter().any(|fake| fake.best_block() != block.hash) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("both have it");
        assert_eq!(pair.node.fate(block.hash).await, Fate::InChain { confirmations: 1 });
        assert_eq!(pair.node.submit(&block).await, Submitted::AlreadyKnown);
    }
}

#[tokio::test]
async fn a_block_does_not_wait_for_a_dead_node_which_gets_it_later() {
    let mut pair = Pair::start_equal(quick).await;
    let block = solved(&Arc::new(pair.first.template()));
    pair.first.kill().await;
    assert_eq!(timeout(FAILOVER, pair.node.submit(&block)).await.expect("in time"), Submitted::Accepted);
    assert_eq!(pair.second.best_block(), block.hash);
    // Its own tries are over by then.
    sleep(Duration::from_secs(1)).await;
    pair.first.revive();
    timeout(crate::PATIENCE, async {
        while pair.first.best_block() != block.hash {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the late block comes");
}

/// Waits until a node that was away has the block.
async fn gets_late(fake: &FakeNode, block: &Block) {
    timeout(crate::PATIENCE, async {
        while fake.best_block() != block.hash {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the late block comes");
}

#[tokio::test]
async fn a_dead_node_gets_a_block_later_although_the_other_one_said_that_it_has_it_already() {
    let mut pair = Pair::start_equal(quick).await;
    let block = solved(&Arc::new(pair.first.template()));
    pair.first.kill().await;
    pair.second.take(&block);
    // The caller is content with that answer and does not come again.
    assert_eq!(pair.node.submit(&block).await, Submitted::AlreadyKnown);
    pair.first.revive();
    gets_late(&pair.first, &block).await;
}

#[tokio::test]
async fn a_block_that_nobody_could_be_given_reaches_each_node_when_it_is_back() {
    let mut pair = Pair::start_equal(quick).await;
    let block = solved(&Arc::new(pair.first.template()));
    pair.first.kill().await;
    pair.second.kill().await;
    for _ in 0..3 {
        let answer = pair.node.submit(&block).await;
        assert!(matches!(answer, Submitted::Unreachable(_)), "{answer:?}");
    }
    pair.second.revive();
    gets_late(&pair.second, &block).await;
    let answer = pair.node.submit(&block).await;
    assert_eq!(answer, Submitted::AlreadyKnown, "from here on nobody hands it over again");
    pair.first.revive();
    gets_late(&pair.first, &block).await;
}

#[tokio::test]
async fn a_block_does_not_wait_for_a_node_that_hangs() {
    let pair = Pair::start_equal(quick).await;
    let block = solved(&Arc::new(pair.first.template()));
    pair.first.trick("submitblock", Trick::Silence);
    assert_eq!(timeout(FAILOVER, pair.node.submit(&block)).await.expect("in time"), Submitted::Accepted);
}

#[tokio::test]
async fn a_block_that_one_node_has_already_does_not_wait_for_a_node_that_hangs() {
    let pair = Pair::start_equal(quick).await;
    let block = solved(&Arc::new(pair.first.template()));
    pair.first.trick("submitblock", Trick::Silence);
    pair.second.take(&block);
    let answer = timeout(FAILOVER, pair.node.submit(&block)).await.expect("in time");
    assert_eq!(answer, Submitted::AlreadyKnown);
}

#[tokio::test]
async fn when_all_are_away_each_says_why_and_the_last_template_stays() {
    let mut pair = Pair::start(quick).await;
    pair.first.kill().await;
    pair.second.trick("getblocktemplate", Trick::Change("coinbasevalue", json!(1)));
    let reason = down(&pair.node, "none of the configured nodes").await;
    let reason =
        if reason.contains("refused") { reason } else { down(&pair.node, "template is refused").await };
    assert!(reason.contains("no connection") && reason.contains("do not add up"), "{reason}");
    let before = pair.shown();
    pair.second.honest("getblocktemplate");
    up(&pair.node).await;
    assert_eq!(pair.shown().tip, before.tip);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_calls() {
    let pair = Pair::start_equal(quick).await;
    let mut health = pair.node.health();
    drop(pair.node);
    while health.changed().await.is_ok() {}
    sleep(Duration::from_millis(100)).await;
    let before = [&pair.first, &pair.second].map(|fake| fake.calls("getbestblockhash"));
    sleep(Duration::from_millis(300)).await;
    assert_eq!([&pair.first, &pair.second].map(|fake| fake.calls("getbestblockhash")), before);
}

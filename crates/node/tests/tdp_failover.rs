//! A template provider that falls silent or whose node does, seen by a pool that has another node: on a virtual clock, with no new block.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "rpc/fake.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod fake;
#[path = "rpc/line.rs"]
mod line;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_net::{Clock, OsRng, Url};
use adit_node::tdp::{ProviderConfig, TdpConfig, TemplateProvider};
use adit_node::{Health, Node, RpcConfig, Timing};
use adit_share::Template;
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::UnixTime;
use bitcoin::Network;
use fake::{FakeNode, Trick, solved};
use line::Line;
use serde_json::json;
use tokio::time::{pause, sleep, timeout};

/// The longest time that a change of nodes may take.
const FAILOVER: Duration = Duration::from_secs(2);
/// How long anything else may take, on either clock.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until everybody knows everybody well.
const WARM_UP: Duration = Duration::from_secs(20);
/// What is asked of a node that is followed.
const METHODS: [&str; 4] = ["getbestblockhash", "getblocktemplate", "getblockchaininfo", "getblockheader"];

/// As an operator has it.
fn as_configured(fake: &FakeNode) -> RpcConfig {
    let mut config = fake.config();
    config.timing = Timing::default();
    config
}

/// A node, a template provider on it behind a line, another node that has more to offer, and a pool's view of provider and other node.
struct Stage {
    first: FakeNode,
    second: FakeNode,
    line: Line,
    /// The provider alone, as the pool has it.
    far: Node,
    node: Node,
    _provider: TemplateProvider,
}

impl Stage {
    /// Everybody well, the provider in use, and the clock at a stand: from now on it goes on when nobody has anything to do, so that a
    /// busy machine makes nobody late.
    async fn start() -> Self {
        let (first, second) = (FakeNode::start().await, FakeNode::start().await);
        let (provider, key) = provider(&Node::rpc(&as_configured(&first))).await;
        let line = Line::start(provider.address()).await;
        let url = Url::new(line.address.ip().to_string(), line.address.port(), Some(key)).unwrap();
        let far = Node::tdp(&TdpConfig::new(url, Network::Regtest));
        let nodes = vec![far.clone(), Node::rpc(&as_configured(&second))];
        let node = Node::several(nodes, || Clock.now());
        let stage = Self { first, second, line, far, node, _provider: provider };
        stage.is(&stage.far, |health| matches!(health, Health::Up)).await;
        pause();
        stage.switches_to(true).await;
        sleep(WARM_UP).await;
        // What it offers is news, when it is used.
        stage.second.wait(Duration::from_secs(3));
        sleep(Duration::from_secs(1)).await;
        assert!(stage.is_of_provider(&stage.shown()));
        stage
    }

    fn shown(&self) -> Arc<Template> {
        self.node.templates().borrow().clone().unwrap()
    }

    fn is_of_provider(&self, template: &Template) -> bool {
        template.transactions.len() == self.first.template().transactions.len()
    }

    /// Waits for a template of the provider, or of the other node, and tells how long that took.
    async fn switches_to(&self, provider: bool) -> Duration {
        let (started, mut templates) = (Clock.monotonic(), self.node.templates());
        let is_there = |template: &Option<Arc<Template>>| {
            template.as_deref().is_some_and(|template| self.is_of_provider(template) == provider)
        };
        timeout(PATIENCE, templates.wait_for(is_there)).await.expect("a change of nodes").unwrap();
        Clock.monotonic() - started
    }

    /// Waits for a node's state.
    async fn is(&self, node: &Node, wanted: impl Fn(&Health) -> bool) {
        let mut health = node.health();
        timeout(PATIENCE, health.wait_for(|health| wanted(health))).await.expect("in time").unwrap();
    }
}

async fn provider(node: &Node) -> (TemplateProvider, AuthorityPublicKey) {
    let keys = AuthorityKeyPair::generate(&mut OsRng);
    let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
    let identity = Identity::new(&keys, StaticKeyPair::generate(&mut OsRng), from, until).unwrap();
    let config = ProviderConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    (TemplateProvider::start(config, node.clone(), Arc::new(identity)).await.unwrap(), keys.public_key())
}

#[tokio::test]
async fn a_silent_provider_is_left_in_time_though_there_is_no_new_block() {
    let stage = Stage::start().await;
    stage.line.hold.send_replace(true);
    let took = stage.switches_to(false).await;
    eprintln!("measured: silent provider left after {took:?}");
    assert!(took < FAILOVER, "{took:?}");
    // What waits on the line comes all at once.
    stage.line.hold.send_replace(false);
    stage.switches_to(true).await;
}

/// The provider went on to serve the templates of a node that hung, and said that all was well.
#[tokio::test]
async fn a_provider_whose_node_hangs_is_left_in_time_though_there_is_no_new_block() {
    let stage = Stage::start().await;
    for method in METHODS {
        stage.first.trick(method, Trick::Silence);
    }
    let took = stage.switches_to(false).await;
    eprintln!("measured: provider of a silent node left after {took:?}");
    assert!(took < FAILOVER, "{took:?}");
    // Those who do not ask are sent away.
    stage.is(&stage.far, |health| matches!(health, Health::Down(_))).await;
}

#[tokio::test]
async fn a_provider_whose_node_dies_is_left_in_time_and_sends_its_clients_away() {
    let mut stage = Stage::start().await;
    stage.first.kill().await;
    let took = stage.switches_to(false).await;
    eprintln!("measured: provider of a dead node left after {took:?}");
    assert!(took < FAILOVER, "{took:?}");
    stage.is(&stage.far, |health| matches!(health, Health::Down(_))).await;
    tokio::time::resume();
    // Whoever comes is not let in.
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(*stage.far.health().borrow(), Health::Down(_)));
    stage.first.revive();
    stage.is(&stage.far, |health| matches!(health, Health::Up)).await;
}

/// One such word ended the tries, and the block was lost.
#[tokio::test]
async fn a_block_that_the_node_cannot_place_yet_is_handed_over_again() {
    let stage = Stage::start().await;
    stage.first.trick("submitblock", Trick::Result(json!("prev-blk-not-found")));
    let mut template = stage.far.templates().borrow().as_deref().unwrap().clone();
    // The node's time, which stands still in another year.
    (template.time, template.tip.min_ntime) = (stage.first.template().time, 0);
    let block = solved(&Arc::new(template));
    let submitting = tokio::spawn({
        let (far, block) = (stage.far.clone(), block.clone());
        async move { far.submit(&block).await }
    });
    sleep(Duration::from_secs(9)).await;
    assert!(stage.first.calls("submitblock") > 1, "{}", stage.first.calls("submitblock"));
    assert_ne!(stage.first.best_block(), block.hash);
    stage.first.honest("submitblock");
    let arrived = async {
        while stage.first.best_block() != block.hash {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(10), arrived).await.expect("the node gets the block when it can place it");
    submitting.abort();
}

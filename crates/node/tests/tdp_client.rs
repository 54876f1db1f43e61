//! Templates from a template provider over sockets: found blocks back, trouble with the provider, another node beside it.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "rpc/line.rs"]
mod line;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_net::{Clock, OsRng, Url};
use adit_node::tdp::{ProviderConfig, TdpConfig, TemplateProvider};
use adit_node::{DevnetConfig, Fate, Health, Node, NodeConfig, Pace, Submitted, Timing};
use adit_share::{Block, Template};
use adit_testkit::mining::mine;
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::{UnixTime, Work};
use bitcoin::{BlockHash, Network, ScriptBuf};
use line::Line;
use tokio::time::{sleep, timeout};

/// How long anything may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a chain gets a transaction.
const OFTEN: Duration = Duration::from_millis(500);
/// Not at all.
const NEVER: Duration = Duration::ZERO;

/// A chain with a new transaction every so often.
fn devnet(seed: u8, arrival: Duration) -> Node {
    let config = DevnetConfig {
        pace: Pace::Fixed(Work::from_hashes(2)),
        transactions: 5,
        arrival,
        refresh: Duration::from_millis(50),
        ..DevnetConfig::new([seed; 32])
    };
    Node::devnet(&config, || Clock.now())
}

/// A template provider with the key that vouches for it.
struct Server {
    provider: TemplateProvider,
    identity: Arc<Identity>,
    key: AuthorityPublicKey,
}

impl Server {
    async fn start(node: &Node) -> Self {
        let keys = AuthorityKeyPair::generate(&mut OsRng);
        let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
        let identity = Identity::new(&keys, StaticKeyPair::generate(&mut OsRng), from, until).unwrap();
        Self::start_as(node, Arc::new(identity), keys.public_key(), SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
    }

    async fn start_as(node: &Node, identity: Arc<Identity>, key: AuthorityPublicKey, at: SocketAddr) -> Self {
        let provider = TemplateProvider::start(ProviderConfig::new(at), node.clone(), Arc::clone(&identity))
            .await
            .unwrap();
        Self { provider, identity, key }
    }

    fn config(&self) -> TdpConfig {
        config(self.provider.address(), Some(self.key))
    }
}

fn config(address: SocketAddr, key: Option<AuthorityPublicKey>) -> TdpConfig {
    let url = Url::new(address.ip().to_string(), address.port(), key).unwrap();
    let timing = Timing {
        answer: Duration::from_secs(10),
        first_retry: Duration::from_millis(20),
        max_retry: Duration::from_millis(200),
        submit_tries: 10,
        ..Timing::default()
    };
    TdpConfig { timing, ..TdpConfig::new(url, Network::Regtest) }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Waits for a template.
async fn template(node: &Node, wanted: impl Fn(&Template) -> bool) -> Arc<Template> {
    let mut templates = node.templates();
    let up = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    in_time("a template", up).await.unwrap().clone().unwrap()
}

async fn on(node: &Node, block: BlockHash) -> Arc<Template> {
    template(node, |template| template.tip.prev_hash == block).await
}

/// Waits until the node is down, and says why.
async fn down(node: &Node) -> String {
    let mut health = node.health();
    match &*in_time("trouble", health.wait_for(|health| matches!(health, Health::Down(_)))).await.unwrap() {
        Health::Down(error) => error.to_string(),
        Health::Starting | Health::Up => unreachable!("it was waited for"),
    }
}

fn found(template: &Arc<Template>) -> Block {
    mine(template, ScriptBuf::from_bytes(vec![0x51]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_mined_on_a_providers_templates() {
    let chain = devnet(1, OFTEN);
    let server = Server::start(&chain).await;
    let node = Node::open(&NodeConfig::Tdp(server.config()));
    for blocks in 1..=5 {
        let template = template(&node, |template| template.tip.height.0 == blocks).await;
        assert_eq!(template.fees.checked_add(template.subsidy), Some(template.coinbase_value));
        let block = found(&template);
        block.check().unwrap();
        assert_eq!(
            node.submit(&block).await,
            Submitted::Accepted,
            "the provider tells of it as the next tip"
        );
        assert_eq!(node.tips().borrow().unwrap().prev_hash, block.hash);
        assert_eq!(node.fate(block.hash).await, Fate::InChain { confirmations: 1 });
        assert_eq!(chain.fate(block.hash).await, Fate::InChain { confirmations: 1 });
        assert_eq!(node.submit(&block).await, Submitted::AlreadyKnown);
    }
    // What the chain's own handle offers is what came.
    let same = |template: &Template| {
        let there = chain.templates().borrow().clone().unwrap();
        template.merkle_path == there.merkle_path && template.transactions.len() > 1
    };
    template(&node, same).await;
    let info = node.probe().await.unwrap();
    assert_eq!((info.height.0, info.peers, info.trouble.is_none()), (5, None, true));
    drop(node);
    assert!(server.provider.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_blocks_of_its_own_templates_are_carried() {
    let chain = devnet(1, OFTEN);
    let server = Server::start(&chain).await;
    let node = Node::tdp(&server.config());
    template(&node, |_| true).await;
    let other = found(&template(&devnet(2, OFTEN), |_| true).await);
    let Submitted::Undecided(reason) = node.submit(&other).await else { panic!("it cannot be handed over") };
    assert!(reason.contains("not of a template of this provider"), "{reason}");
    assert!(matches!(node.fate(other.hash).await, Fate::Unreachable(_)));
    assert!(matches!(node.submit_bytes(&[1, 2, 3]).await, Submitted::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_away_gets_the_block_of_its_template() {
    let chain = devnet(1, NEVER);
    let server = Server::start(&chain).await;
    let node = Node::tdp(&TdpConfig {
        timing: Timing { submit_tries: 200, ..server.config().timing },
        ..server.config()
    });
    let block = found(&template(&node, |template| template.transactions.len() > 1).await);
    let (address, identity, key) = (server.provider.address(), server.identity, server.key);
    assert!(server.provider.shutdown().await);
    let reason = down(&node).await;
    assert!(reason.contains(&address.to_string()), "{reason}");
    let submitting = tokio::spawn({
        let node = node.clone();
        async move { node.submit(&block).await }
    });
    sleep(Duration::from_millis(300)).await;
    // The provider has new ids now, and the block is known by what is in it.
    let server = Server::start_as(&chain, identity, key, address).await;
    assert_eq!(in_time("an answer", submitting).await.unwrap(), Submitted::Accepted);
    in_time("health", node.health().wait_for(|health| matches!(health, Health::Up))).await.unwrap();
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_vouched_for_or_not_there_is_told_of() {
    let server = Server::start(&devnet(1, OFTEN)).await;
    let address = server.provider.address();
    let stranger = AuthorityKeyPair::generate(&mut OsRng).public_key();
    for (config, part) in [
        (config(address, Some(stranger)), "not certified by the authority"),
        (config(SocketAddr::from(([127, 0, 0, 1], 1)), None), "cannot reach 127.0.0.1:1"),
        (config(SocketAddr::from(([192, 0, 2, 1], 8442)), None), "give the key"),
    ] {
        let node = Node::tdp(&config);
        let reason = down(&node).await;
        assert!(reason.contains(part), "{part} is not in {reason}");
        assert!(reason.contains(&config.name()), "{reason}");
        let error = NodeConfig::Tdp(config).probe().await.unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in {error}");
        let Submitted::Unreachable(said) = in_time("an answer", node.submit_bytes(&[])).await else {
            panic!("it is not there")
        };
        assert!(said.contains(part), "{said}");
    }
}

/// What the provider's node is on is not told; its difficulty may show that it is another network.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_on_another_network_is_refused() {
    let server = Server::start(&devnet(1, OFTEN)).await;
    let config = TdpConfig { network: Network::Bitcoin, ..server.config() };
    let node = Node::tdp(&config);
    assert!(down(&node).await.contains("below the least of main"));
    assert!(node.templates().borrow().is_none());
    let info = node.probe().await.unwrap();
    assert!(info.trouble.unwrap().to_string().contains("below the least of main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_is_used_while_the_provider_hangs_and_it_gets_blocks_too() {
    let chain = devnet(1, OFTEN);
    let server = Server::start(&chain).await;
    let line = Line::start(server.provider.address()).await;
    let far = Node::tdp(&config(line.address, Some(server.key)));
    let node = Node::several(vec![far.clone(), chain.clone()], || Clock.now());
    let first = template(&node, |_| true).await;
    in_time("the provider", far.health().wait_for(|health| matches!(health, Health::Up))).await.unwrap();
    // Longer than it takes to learn that it answers questions, and to notice when it does not.
    sleep(Duration::from_secs(3)).await;
    line.hold.send_replace(true);
    let block = found(&first);
    assert_eq!(node.submit(&block).await, Submitted::Accepted, "the other node has it");
    let next = on(&node, block.hash).await;
    assert_eq!(next.tip.height.0, first.tip.height.0 + 1);
    line.hold.send_replace(false);
    let back = on(&far, block.hash).await;
    assert_eq!(back.tip.height, next.tip.height);
    let block = found(&next);
    // Both hand it to the same chain, and either may be first.
    let answer = node.submit(&block).await;
    assert!(matches!(answer, Submitted::Accepted | Submitted::AlreadyKnown), "{answer:?}");
    on(&far, block.hash).await;
}

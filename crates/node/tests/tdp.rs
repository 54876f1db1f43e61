//! A template provider over sockets, on the chain in memory.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_messages::template_distribution::{
    CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution,
};
use adit_messages::types::{B064K, Str0255};
use adit_messages::{Message, Protocol, common, decode, encode};
use adit_net::{Clock, Connection, OsRng, connect};
use adit_node::tdp::{ProviderConfig, TemplateProvider};
use adit_node::{DevnetConfig, Fate, Node, Pace};
use adit_share::Template;
use adit_testkit::mining::mine;
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, FrameQueue, Identity, StaticKeyPair};
use adit_units::{UnixTime, Work};
use bitcoin::{BlockHash, ScriptBuf};
use tokio::time::{sleep, timeout};

/// More than any message to a client has.
const PAYLOAD_MAX: usize = 4 << 20;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn identity() -> (Arc<Identity>, AuthorityPublicKey) {
    let keys = AuthorityKeyPair::generate(&mut OsRng);
    let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
    let identity = Identity::new(&keys, StaticKeyPair::generate(&mut OsRng), from, until).unwrap();
    (Arc::new(identity), keys.public_key())
}

fn devnet() -> Node {
    let config = DevnetConfig {
        pace: Pace::Fixed(Work::from_hashes(2)),
        arrival: Duration::from_millis(200),
        refresh: Duration::from_millis(50),
        ..DevnetConfig::new([3; 32])
    };
    Node::devnet(&config, || Clock.now())
}

async fn provider(node: &Node) -> (TemplateProvider, AuthorityPublicKey) {
    let (identity, authority) = identity();
    let config = ProviderConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    (TemplateProvider::start(config, node.clone(), identity).await.unwrap(), authority)
}

/// A client that speaks the protocol by itself.
struct Client {
    connection: Connection,
    /// The last template and tip that came, and how many transactions were handed out.
    template: Option<u64>,
    tip: Option<([u8; 32], u64)>,
    tips: u32,
    transactions: Option<usize>,
}

impl Client {
    async fn start(address: SocketAddr, authority: AuthorityPublicKey) -> Self {
        let connection = connect(&address.to_string(), Some(authority)).await.unwrap();
        let mut client = Self { connection, template: None, tip: None, tips: 0, transactions: None };
        let text = |text: &'static str| Str0255::new(text.as_bytes()).unwrap();
        client
            .say(common::SetupConnection {
                protocol: common::Protocol::TemplateDistributionProtocol,
                min_version: 2,
                max_version: 2,
                flags: 0,
                endpoint_host: text("127.0.0.1"),
                endpoint_port: address.port(),
                vendor: text(""),
                hardware_version: text(""),
                firmware: text(""),
                device_id: text(""),
            })
            .await;
        let (size, sigops) = (100, 4);
        client
            .say(CoinbaseOutputConstraints {
                coinbase_output_max_additional_size: size,
                coinbase_output_max_additional_sigops: sigops,
            })
            .await;
        client
    }

    async fn say<'a>(&mut self, message: impl Into<Message<'a>>) {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        self.connection.queue(&mut queue).unwrap();
        self.connection.flush().await.unwrap();
    }

    /// Listens until something has come.
    async fn hear(&mut self, wanted: impl Fn(&Self) -> bool) {
        let hearing = async {
            while !wanted(self) {
                self.connection.read().await.unwrap();
                while self.take_frame() {}
            }
        };
        timeout(PATIENCE, hearing).await.expect("it comes in time");
    }

    fn take_frame(&mut self) -> bool {
        let Some(frame) = self.connection.next_frame(|_| PAYLOAD_MAX).unwrap() else { return false };
        match decode(Protocol::TemplateDistribution, frame).unwrap() {
            Message::SetupConnectionSuccess(success) => assert_eq!(success.used_version, 2),
            Message::NewTemplate(new) => {
                assert!(self.template.is_none_or(|before| before < new.template_id));
                assert!(self.tip.is_some() || new.future_template);
                self.template = Some(new.template_id);
            }
            Message::TemplateSetNewPrevHash(tip) => {
                assert_eq!(Some(tip.template_id), self.template, "it names the template that came before it");
                self.tip = Some((tip.prev_hash.as_bytes().try_into().unwrap(), tip.template_id));
                self.tips += 1;
            }
            Message::RequestTransactionDataSuccess(data) => {
                self.transactions = Some(data.transaction_list.len());
            }
            other => panic!("{other:?}"),
        }
        true
    }

    /// Tells the provider of a block, by the parts that a solution has.
    async fn submit(&mut self, id: u64, template: &Arc<Template>) -> BlockHash {
        let block = mine(template, ScriptBuf::from_bytes(vec![0x51]));
        let header: bitcoin::block::Header = bitcoin::consensus::deserialize(block.header()).unwrap();
        self.say(SubmitSolution {
            template_id: id,
            version: header.version.to_consensus().cast_unsigned(),
            header_timestamp: header.time,
            header_nonce: header.nonce,
            coinbase_tx: B064K::new(block.coinbase()).unwrap(),
        })
        .await;
        block.hash
    }
}

/// The node's template on the block that a client was told, with as many transactions as it was given.
async fn same_template(node: &Node, client: &mut Client) -> (u64, Arc<Template>) {
    loop {
        client.transactions = None;
        client.hear(|client| client.tip.is_some()).await;
        let id = client.template.unwrap();
        client.say(RequestTransactionData { template_id: id }).await;
        client.hear(|client| client.transactions.is_some()).await;
        let template = node.templates().borrow().clone().unwrap();
        if client.transactions == Some(template.transactions.len()) {
            return (id, template);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_mines_a_chain() {
    let node = devnet();
    let (provider, authority) = provider(&node).await;
    let mut client = Client::start(provider.address(), authority).await;
    let mut watcher = Client::start(provider.address(), authority).await;
    // Who comes after a block hears of it only as the tip that there is.
    watcher.hear(|client| client.tip.is_some()).await;
    for blocks in 1..=5 {
        let (id, template) = same_template(&node, &mut client).await;
        let hash = client.submit(id, &template).await;
        let stands_on = |client: &Client| {
            client.tip.is_some_and(|(prev_hash, _)| prev_hash == *bitcoin::hashes::Hash::as_byte_array(&hash))
        };
        client.hear(stands_on).await;
        watcher.hear(stands_on).await;
        assert_eq!(node.fate(hash).await, Fate::InChain { confirmations: 1 });
        assert_eq!((client.tips, watcher.tips), (blocks + 1, blocks + 1), "each block is told once");
    }
    drop((client, watcher));
    assert!(provider.shutdown().await);
}

/// A provider on a node of its own, and a client that has just sent it a block.
async fn submitted() -> (Node, TemplateProvider, Client, BlockHash) {
    let node = devnet();
    let (provider, authority) = provider(&node).await;
    let mut client = Client::start(provider.address(), authority).await;
    let (id, template) = same_template(&node, &mut client).await;
    let hash = client.submit(id, &template).await;
    (node, provider, client, hash)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_on_its_way_at_shutdown_arrives() {
    let (node, provider, mut client, hash) = submitted().await;
    // Nothing is heard before it has arrived, so wait for what follows from it.
    let landed = async {
        while node.fate(hash).await == Fate::Unknown {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, landed).await.unwrap();
    assert!(provider.shutdown().await);
    assert!(client.connection.read().await.is_err() || client.connection.read().await.is_err());
}

/// It was thrown away with the connection, unread.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_came_as_the_provider_stopped_was_lost() {
    let (node, provider, _client, hash) = submitted().await;
    assert!(provider.shutdown().await);
    assert_eq!(node.fate(hash).await, Fate::InChain { confirmations: 1 });
}

/// Asking for everything again and again without reading costs the one who does it the connection, and nobody else anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_harms_nobody() {
    let node = devnet();
    let (provider, authority) = provider(&node).await;
    let mut deaf = Client::start(provider.address(), authority).await;
    let mut honest = Client::start(provider.address(), authority).await;
    let (id, _) = same_template(&node, &mut honest).await;
    let mut queue = FrameQueue::default();
    for _ in 0..500 {
        encode(RequestTransactionData { template_id: id }, &mut queue).unwrap();
    }
    let flood = async {
        loop {
            let mut again = FrameQueue::default();
            queue.iter().for_each(|frame| {
                again.push(0, false, frame.header.msg_type, frame.payload).unwrap();
            });
            if deaf.connection.queue(&mut again).is_err() {
                return;
            }
            if timeout(Duration::from_millis(200), deaf.connection.flush()).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, flood).await.expect("the provider stops reading from who does not read");
    let tips = honest.tips;
    let (id, template) = same_template(&node, &mut honest).await;
    honest.submit(id, &template).await;
    honest.hear(|client| client.tips > tips).await;
    assert!(provider.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_after_the_handshake_ends_that_connection_only() {
    let node = devnet();
    let (provider, authority) = provider(&node).await;
    let mut honest = Client::start(provider.address(), authority).await;
    for msg_type in 0..=255 {
        let mut connection = connect(&provider.address().to_string(), Some(authority)).await.unwrap();
        let mut queue = FrameQueue::default();
        queue.push(0, msg_type % 2 == 1, msg_type, &[msg_type; 40]).unwrap();
        connection.queue(&mut queue).unwrap();
        connection.flush().await.unwrap();
        let closed = async { while connection.read().await.is_ok() {} };
        timeout(PATIENCE, closed).await.expect("it is closed at once");
    }
    honest.hear(|client| client.tip.is_some()).await;
    assert!(provider.shutdown().await);
}

//! New blocks told over ZeroMQ by a publisher beside the node.

use std::time::Duration;

use adit_node::{Node, Zmq};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::fake::{FakeNode, Trick};
use crate::{PATIENCE, first_template, template};

/// So long that it plays no part in a test.
const NEVER: Duration = Duration::from_secs(3600);

/// A publisher as nodes run it: version 3.1, no encryption.
struct Publisher {
    listener: TcpListener,
}

impl Publisher {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn address(&self) -> String {
        format!("tcp://{}", self.listener.local_addr().unwrap())
    }

    /// Waits for a subscriber, and takes its greeting and its subscription.
    async fn subscriber(&self) -> TcpStream {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("a subscriber comes");
        let mut stream = accepted.unwrap().0;
        let mut greeting = [0; 64];
        (greeting[0], greeting[8], greeting[9], greeting[10], greeting[11]) = (0xff, 1, 0x7f, 3, 1);
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).await.unwrap();
        stream.write_all(b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x03PUB\x08Identity\0\0\0\0").await.unwrap();
        // A greeting of 64 bytes, a READY of 27 and a subscription of 12.
        let mut heard = vec![0; 64 + 27 + 12];
        stream.read_exact(&mut heard).await.unwrap();
        assert!(heard.ends_with(b"\x01hashblock"));
        stream
    }
}

async fn publish(stream: &mut TcpStream, hash: BlockHash) {
    let mut shown = hash.to_byte_array();
    shown.reverse();
    let message = [&b"\x01\x09hashblock\x01\x20"[..], &shown, b"\x00\x04\x01\x00\x00\x00"].concat();
    stream.write_all(&message).await.unwrap();
}

/// The publisher is all that tells of new blocks here, and it is lost and found again once.
async fn blocks_are_heard_of(fake: &FakeNode, publisher: &Publisher, node: &Node) {
    let mut templates = node.templates();
    first_template(node).await;
    for _ in 0..2 {
        let mut subscriber = publisher.subscriber().await;
        for _ in 0..2 {
            let hash = fake.mine();
            publish(&mut subscriber, hash).await;
            template(&mut templates, |template| template.tip.prev_hash == hash).await;
        }
    }
}

#[tokio::test]
async fn a_block_is_looked_for_when_it_is_told() {
    let (fake, publisher) = (FakeNode::start().await, Publisher::start().await);
    fake.without_long_poll();
    let mut config = fake.config();
    (config.timing.tip_poll, config.timing.refresh) = (NEVER, NEVER);
    config.zmq_hashblock = Zmq::At(publisher.address().parse().unwrap());
    blocks_are_heard_of(&fake, &publisher, &Node::rpc(&config)).await;
    assert_eq!(fake.calls("getzmqnotifications"), 0, "it is configured");
}

#[tokio::test]
async fn a_node_is_asked_where_it_tells_of_blocks() {
    let (fake, publisher) = (FakeNode::start().await, Publisher::start().await);
    fake.without_long_poll();
    let told = json!([
        { "type": "pubrawtx", "address": "tcp://127.0.0.1:1", "hwm": 1000 },
        { "type": "pubhashblock", "address": publisher.address(), "hwm": 1000 },
    ]);
    fake.trick("getzmqnotifications", Trick::Result(told));
    let mut config = fake.config();
    (config.timing.tip_poll, config.timing.refresh) = (NEVER, NEVER);
    blocks_are_heard_of(&fake, &publisher, &Node::rpc(&config)).await;
}

/// Old blocks, nonsense and silence on that line leave everything as it is without it.
#[tokio::test]
async fn what_a_publisher_says_is_a_hint_only() {
    let (fake, publisher) = (FakeNode::start().await, Publisher::start().await);
    let mut config = fake.config();
    (config.timing.tip_poll, config.timing.refresh) = (NEVER, NEVER);
    config.zmq_hashblock = Zmq::At(publisher.address().parse().unwrap());
    let node = Node::rpc(&config);
    let mut templates = node.templates();
    let first = first_template(&node).await;
    let mut subscriber = publisher.subscriber().await;
    publish(&mut subscriber, first.tip.prev_hash).await;
    publish(&mut subscriber, BlockHash::all_zeros()).await;
    subscriber.write_all(&[0xff; 100]).await.unwrap();
    let hash = fake.mine();
    let next = template(&mut templates, |template| template.tip.prev_hash == hash).await;
    assert_eq!(next.tip.height.0, first.tip.height.0 + 1, "by long poll");
    drop(subscriber);
    let hash = fake.mine();
    template(&mut templates, |template| template.tip.prev_hash == hash).await;
}

//! A subscriber with publishers that are written by hand.

use tokio::io::{DuplexStream, duplex};

use super::*;

/// What a publisher of libzmq begins with: its padding counts a byte, and its minor version is 1.
fn their_greeting() -> [u8; GREETING_LEN] {
    let mut greeting = greeting();
    (greeting[8], greeting[11]) = (1, 1);
    greeting
}

fn ready() -> Vec<u8> {
    command(b"READY", &property(b"Socket-Type", b"PUB"))
}

/// A message of these parts.
fn message(parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len() - 1;
    parts.iter().enumerate().flat_map(|(at, part)| frame(if at < last { MORE } else { 0 }, part)).collect()
}

fn told(hash: [u8; 32]) -> Vec<u8> {
    message(&[TOPIC, &hash, &7_u32.to_le_bytes()])
}

/// A subscriber whose publisher has said all this.
async fn subscriber(said: &[&[u8]]) -> (Result<Subscription<DuplexStream>, ZmqError>, DuplexStream) {
    let (near, mut far) = duplex(1 << 16);
    far.write_all(&said.concat()).await.unwrap();
    (Subscription::greet(near).await, far)
}

#[tokio::test]
async fn blocks_are_heard_in_the_order_of_their_bytes() {
    let mut hash = [0; 32];
    (hash[0], hash[31]) = (0xaa, 0xbb);
    let noise =
        [message(&[b"hashblock"]), command(b"PING", &[0; 6]), message(&[b"hashtx", &[1; 32], &[0; 4]])];
    let said = [&their_greeting()[..], &ready(), &noise.concat(), &told(hash)].concat();
    let (subscription, mut publisher) = subscriber(&[&said]).await;
    let heard = subscription.unwrap().next().await.unwrap();
    assert_eq!((heard.to_byte_array()[31], heard.to_byte_array()[0]), (0xaa, 0xbb));
    let mut sent = vec![0; GREETING_LEN];
    publisher.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent[..12], [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0]);
    assert_eq!(&sent[12..16], b"NULL");
    let mut rest = vec![0; 27 + 12];
    publisher.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest[..27], b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB");
    assert_eq!(&rest[27..], b"\0\x0a\x01hashblock");
}

#[tokio::test]
async fn a_long_frame_may_be_short() {
    let body: &[u8] = &[&[LONG | MORE][..], &9_u64.to_be_bytes(), TOPIC].concat();
    let (subscription, _) =
        subscriber(&[&their_greeting(), &ready(), body, &message(&[&[5; 32], &[0; 4]])]).await;
    assert_eq!(subscription.unwrap().next().await.unwrap().to_byte_array(), [5; 32]);
}

#[tokio::test]
async fn what_is_no_publisher_is_left() {
    let mut old = their_greeting();
    old[10] = 2;
    let mut curve = their_greeting();
    curve[12..17].copy_from_slice(b"CURVE");
    for said in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n............................................"[..], &old, &curve]
    {
        let (subscription, _) = subscriber(&[said]).await;
        assert!(matches!(subscription, Err(ZmqError::Foreign(_))), "{subscription:?}");
    }
    let error = command(b"ERROR", b"\x03no!");
    let (subscription, _) = subscriber(&[&their_greeting(), &error]).await;
    assert!(matches!(subscription, Err(ZmqError::Foreign(_))), "{subscription:?}");
}

#[tokio::test]
async fn lengths_that_lie_take_no_memory() {
    for length in [FRAME_MAX as u64 + 1, u64::MAX] {
        let said = [&[LONG][..], &length.to_be_bytes()].concat();
        let (subscription, _) = subscriber(&[&their_greeting(), &said]).await;
        assert!(matches!(subscription, Err(ZmqError::TooLong(told)) if told == length), "{subscription:?}");
    }
    let endless = frame(MORE, b"part").repeat(PARTS_MAX + 1);
    let (subscription, _) = subscriber(&[&their_greeting(), &ready(), &endless]).await;
    assert!(matches!(subscription.unwrap().next().await, Err(ZmqError::Foreign(_))));
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let (subscription, _publisher) = subscriber(&[&their_greeting()]).await;
    assert!(matches!(subscription, Err(ZmqError::Late)));
    let (subscription, _publisher) = subscriber(&[&their_greeting(), &ready()]).await;
    assert!(matches!(subscription.unwrap().next().await, Err(ZmqError::Quiet)));
}

#[test]
fn addresses_are_those_of_a_nodes_config() {
    for text in ["tcp://127.0.0.1:28332", "tcp://[::1]:1", "tcp://node.example:28332", "tcp://*:5"] {
        assert_eq!(text.parse::<ZmqAddress>().unwrap().to_string(), text);
    }
    for text in [
        "127.0.0.1:28332",
        "ipc:///run/node.zmq",
        "tcp://127.0.0.1",
        "tcp://:1",
        "tcp://h:0",
        "tcp://h h:1",
        "",
    ] {
        assert!(text.parse::<ZmqAddress>().is_err(), "{text}");
    }
}

#[test]
fn what_a_node_says_of_itself_is_followed_on_this_machine_only() {
    let told = |kind: &str, address: &str| {
        let notification = Notification { kind: kind.to_owned(), address: address.to_owned() };
        discovered(&[
            Notification { kind: "pubrawtx".to_owned(), address: "tcp://127.0.0.1:9".to_owned() },
            notification,
        ])
        .map(|address| address.to_string())
    };
    for (address, reached) in [
        ("tcp://127.0.0.1:28332", Some("tcp://127.0.0.1:28332")),
        ("tcp://0.0.0.0:28332", Some("tcp://127.0.0.1:28332")),
        ("tcp://*:28332", Some("tcp://127.0.0.1:28332")),
        ("tcp://[::1]:28332", Some("tcp://[::1]:28332")),
        ("tcp://192.0.2.1:28332", None),
        ("tcp://node.example:28332", None),
        ("ipc:///run/node.zmq", None),
    ] {
        assert_eq!(told("pubhashblock", address).as_deref(), reached);
    }
    assert_eq!(told("pubrawblock", "tcp://127.0.0.1:28332"), None);
}

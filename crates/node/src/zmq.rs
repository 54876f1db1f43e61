//! New blocks told by a node over ZeroMQ: a subscriber to `hashblock` and nothing else (ZMTP 3.0, NULL mechanism).
//!
//! What it says is only taken as a hint to look, so a wrong or hostile publisher can cost a look and no more.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;
use core::time::Duration;
use std::io;

use adit_net::{ConnectError, connect_plain};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is subscribed to.
const TOPIC: &[u8] = b"hashblock";
/// The longest frame that is read, in bytes; those of a block hash have 32 at most, and a publisher's greeting some dozens.
const FRAME_MAX: usize = 1024;
/// Most frames of one message; that of a block hash has three.
const PARTS_MAX: usize = 8;
/// How long a connection, and then the greetings, may take.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// How long there may be no block before the connection is made anew, as a dead one looks the same.
const QUIET_MAX: Duration = Duration::from_secs(3600);

/// The length of a greeting, in bytes.
const GREETING_LEN: usize = 64;
/// What both sides begin with: a signature around eight bytes of padding, and the version.
const SIGNATURE_START: u8 = 0xff;
const SIGNATURE_END: u8 = 0x7f;
const VERSION: u8 = 3;
/// The mechanism without authentication and encryption; nodes have no other.
const MECHANISM: &[u8; 20] = b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Flags of a frame.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Where a node tells of new blocks over ZeroMQ (`zmqpubhashblock` in its configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Zmq {
    /// Where it says that it does, if it is on this machine.
    #[default]
    Discover,
    /// There.
    At(ZmqAddress),
    /// Nowhere.
    Off,
}

/// Where a publisher listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZmqAddress {
    host: String,
    port: u16,
}

/// A text that is no address of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not where a node publishes; write it like tcp://127.0.0.1:28332, as in its zmqpubhashblock"
)]
pub struct ZmqAddressError(String);

impl FromStr for ZmqAddress {
    type Err = ZmqAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
        let parts = parts.and_then(|(host, port)| Some((host, port.parse().ok().filter(|&port| port > 0)?)));
        let (host, port) = parts.ok_or_else(|| ZmqAddressError(text.to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:*".contains(&byte);
        if host.is_empty() || !host.bytes().all(may_stand) {
            return Err(ZmqAddressError(text.to_owned()));
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for ZmqAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.place())
    }
}

impl ZmqAddress {
    /// `host:port`, as it is dialled.
    fn place(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The address from this machine, of a publisher that says itself that it listens here; `None` if that is another machine.
    fn seen_from_here(self) -> Option<Self> {
        let ip = match self.host.as_str() {
            "localhost" => return Some(self),
            "*" => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            host => host.parse().ok()?,
        };
        if ip.is_unspecified() {
            return Some(Self { host: Ipv4Addr::LOCALHOST.to_string(), ..self });
        }
        ip.is_loopback().then_some(self)
    }
}

/// One line of the answer to `getzmqnotifications`.
#[derive(Debug, Deserialize)]
pub(crate) struct Notification {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Where a node on this machine tells of new blocks, by what it says of itself.
pub(crate) fn discovered(notifications: &[Notification]) -> Option<ZmqAddress> {
    let tells = notifications.iter().filter(|notification| notification.kind == "pubhashblock");
    tells.filter_map(|notification| notification.address.parse::<ZmqAddress>().ok()?.seen_from_here()).next()
}

/// Why no more blocks are told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZmqError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("no greeting within {} s", GREETING_PATIENCE.as_secs())]
    Late,
    #[error("nothing for an hour")]
    Quiet,
    #[error("what listens there is no publisher of ZeroMQ 4 without encryption ({0})")]
    Foreign(&'static str),
    #[error("a frame of {0} bytes")]
    TooLong(u64),
}

/// A subscription to new blocks.
#[derive(Debug)]
pub(crate) struct Subscription<S = TcpStream> {
    stream: S,
}

impl Subscription {
    /// Connects to a publisher and subscribes.
    pub(crate) async fn open(address: &ZmqAddress) -> Result<Self, ZmqError> {
        let place = address.place();
        let stream = timeout(GREETING_PATIENCE, connect_plain(&place)).await;
        let stream = stream.map_err(|_| ZmqError::Late)??;
        Self::greet(stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscription<S> {
    /// Exchanges greetings and subscribes.
    async fn greet(mut stream: S) -> Result<Self, ZmqError> {
        timeout(GREETING_PATIENCE, shake_hands(&mut stream)).await.map_err(|_| ZmqError::Late)??;
        Ok(Self { stream })
    }

    /// Waits for the next block; not cancel safe.
    pub(crate) async fn next(&mut self) -> Result<BlockHash, ZmqError> {
        loop {
            let message = timeout(QUIET_MAX, read_message(&mut self.stream)).await;
            if let Some(hash) = block_hash(&message.map_err(|_| ZmqError::Quiet)??) {
                return Ok(hash);
            }
        }
    }
}

/// Both greetings, both metadata, and the subscription.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), ZmqError> {
    stream.write_all(&greeting()).await?;
    let mut theirs = [0; GREETING_LEN];
    stream.read_exact(&mut theirs).await?;
    check_greeting(&theirs)?;
    stream.write_all(&command(b"READY", &property(b"Socket-Type", b"SUB"))).await?;
    let (flags, body) = read_frame(stream).await?;
    if flags & COMMAND == 0 || !body.starts_with(b"\x05READY") {
        return Err(ZmqError::Foreign("it does not begin with READY"));
    }
    // A subscription is a message: a byte that says so, and the topic.
    stream.write_all(&frame(0, &[&[1], TOPIC].concat())).await?;
    Ok(())
}

fn greeting() -> [u8; GREETING_LEN] {
    let mut greeting = [0; GREETING_LEN];
    let start = [SIGNATURE_START, 0, 0, 0, 0, 0, 0, 0, 0, SIGNATURE_END, VERSION, 0];
    for (place, byte) in greeting.iter_mut().zip(start.iter().chain(MECHANISM)) {
        *place = *byte;
    }
    greeting
}

fn check_greeting(greeting: &[u8; GREETING_LEN]) -> Result<(), ZmqError> {
    let [start, _, _, _, _, _, _, _, _, end, version, _, rest @ ..] = greeting;
    if (*start, *end) != (SIGNATURE_START, SIGNATURE_END) {
        return Err(ZmqError::Foreign("no greeting"));
    }
    if *version < VERSION {
        return Err(ZmqError::Foreign("too old"));
    }
    if !rest.starts_with(MECHANISM) {
        return Err(ZmqError::Foreign("it wants encryption or a password"));
    }
    Ok(())
}

/// A frame of at most 255 bytes.
fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("what is sent here is short");
    [&[flags, length], body].concat()
}

fn command(name: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("names are short");
    frame(COMMAND, &[&[length], name, data].concat())
}

fn property(name: &[u8], value: &[u8]) -> Vec<u8> {
    let lengths = (u8::try_from(name.len()), u32::try_from(value.len()));
    let (name_len, value_len) = (lengths.0.expect("names are short"), lengths.1.expect("values are short"));
    [&[name_len], name, &value_len.to_be_bytes(), value].concat()
}

/// The flags and the body of the next frame.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>), ZmqError> {
    let flags = stream.read_u8().await?;
    let length =
        if flags & LONG == 0 { u64::from(stream.read_u8().await?) } else { stream.read_u64().await? };
    let fits = usize::try_from(length).ok().filter(|&length| length <= FRAME_MAX);
    let mut body = vec![0; fits.ok_or(ZmqError::TooLong(length))?];
    stream.read_exact(&mut body).await?;
    Ok((flags, body))
}

/// The parts of the next message; commands in between are for others.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<Vec<u8>>, ZmqError> {
    let mut parts = Vec::new();
    loop {
        let (flags, body) = read_frame(stream).await?;
        if flags & COMMAND != 0 {
            continue;
        }
        if parts.len() >= PARTS_MAX {
            return Err(ZmqError::Foreign("a message of too many parts"));
        }
        parts.push(body);
        if flags & MORE == 0 {
            return Ok(parts);
        }
    }
}

/// The block that a message tells of; hashes are published the way people read them.
fn block_hash(message: &[Vec<u8>]) -> Option<BlockHash> {
    let [topic, hash, ..] = message else { return None };
    let mut hash: [u8; 32] = hash.as_slice().try_into().ok().filter(|_| topic == TOPIC)?;
    hash.reverse();
    Some(BlockHash::from_byte_array(hash))
}

#[cfg(test)]
mod tests;

//! A server of the mining protocol that does what a test tells it, and believes no share without hashing it.

use core::time::Duration;
use std::sync::Arc;

use adit_messages::flags::MiningSuccessFlags;
use adit_messages::types::{B032, Seq0255, Sv2Option, U256};
use adit_messages::{Message, Protocol, Side, common, decode, encode, limits, mining};
use adit_miner::{ChannelKind, Url};
use adit_net::{Clock, Connection, HANDSHAKE_PATIENCE, HandshakeLane, Limits, Listener, OsRng, OutboxLimits};
use adit_transport::{AuthorityKeyPair, Frame, FrameQueue, Identity, StaticKeyPair};
use adit_units::{Hashrate, Target, UnixTime};
use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use tokio::sync::Mutex;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const CHANNEL: u32 = 5;
pub(crate) const GROUP: u32 = 4;
/// The request id that the client is known to use.
pub(crate) const REQUEST: u32 = 1;
pub(crate) const VERSION: u32 = 0x2000_0000;
const NTIME: u32 = 1_700_000_000;
const NBITS: u32 = 0x207f_ffff;
const PREV_HASH: [u8; 32] = [6; 32];
const EXTRANONCE_PREFIX: &[u8] = b"\x01\x02\x03\x04\x05\x06";
const COINBASE: (&[u8], &[u8]) = (b"the coinbase up to its extranonce", b"and what comes behind it");
static PATH: [[u8; 32]; 2] = [[7; 32], [8; 32]];
static ROOT: [u8; 32] = [9; 32];
/// Every 4096th hash is a share.
static TARGET: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[31] = 0;
    bytes[30] = 0x0f;
    bytes
};

/// A listening socket and what it needs to shake hands.
pub(crate) struct Server {
    listener: Mutex<Listener>,
    lane: HandshakeLane,
    identity: Arc<Identity>,
    url: Url,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with_authority(&AuthorityKeyPair::generate(&mut OsRng))
    }

    pub(crate) fn with_authority(authority: &AuthorityKeyPair) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Limits::default()).unwrap();
        let url = Url::new("127.0.0.1", listener.address().port(), Some(authority.public_key())).unwrap();
        let key = StaticKeyPair::generate(&mut OsRng);
        let identity =
            Identity::new(authority, key, UnixTime::default(), UnixTime::from_secs(u32::MAX)).unwrap();
        let lane = HandshakeLane::start(4).unwrap();
        Self { listener: Mutex::new(listener), lane, identity: Arc::new(identity), url }
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    /// The next client that shakes hands.
    pub(crate) async fn accept(&self) -> Peer {
        let accept = async {
            let accepted = self.listener.lock().await.accept().await;
            let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
            let identity = Arc::clone(&self.identity);
            self.lane.respond(accepted.stream, identity, deadline, OutboxLimits::default()).await.unwrap()
        };
        let connection = tokio::time::timeout(PATIENCE, accept).await.expect("a client comes in time");
        Peer { connection, kind: ChannelKind::Extended, setup_done: false }
    }
}

/// One client.
pub(crate) struct Peer {
    connection: Connection,
    kind: ChannelKind,
    setup_done: bool,
}

/// A share that was checked.
pub(crate) struct Share {
    pub(crate) sequence_number: u32,
    pub(crate) job_id: u32,
    pub(crate) version: u32,
    pub(crate) extranonce: Vec<u8>,
}

impl Peer {
    pub(crate) async fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        let mut frames = FrameQueue::default();
        encode(message, &mut frames).unwrap();
        self.connection.queue(&mut frames).unwrap();
        self.connection.flush().await.unwrap();
    }

    /// The next frame, as bytes in the clear; `None` if the client has closed the connection.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        let receive = async {
            loop {
                let setup_done = self.setup_done;
                let limit = |header: &_| match setup_done {
                    true => limits::after_setup(Protocol::Mining, Side::Server, header),
                    false => limits::before_setup(Side::Server, header),
                };
                if let Some(frame) = self.connection.next_frame(limit).unwrap() {
                    return Some([&frame.header.to_bytes()[..], frame.payload].concat());
                }
                self.connection.read().await.ok()?;
            }
        };
        tokio::time::timeout(PATIENCE, receive).await.expect("the client says something in time")
    }

    /// Reads the next message, which must be there.
    async fn hear<T>(&mut self, read: impl FnOnce(Message<'_>) -> T) -> T {
        let bytes = self.frame().await.expect("the client stays");
        read(message(&bytes))
    }

    /// Answers `SetupConnection`.
    pub(crate) async fn set_up(&mut self, flags: MiningSuccessFlags) {
        self.hear(|message| {
            let Message::SetupConnection(setup) = message else { panic!("{message:?}") };
            assert_eq!(setup.endpoint_host.as_bytes(), b"127.0.0.1");
        })
        .await;
        self.setup_done = true;
        self.send(common::SetupConnectionSuccess { used_version: 2, flags: flags.bits() }).await;
    }

    /// Reads the request for a channel and returns the speed that it tells.
    pub(crate) async fn request(&mut self) -> Hashrate {
        let (kind, hashrate) = self
            .hear(|message| match message {
                Message::OpenStandardMiningChannel(open) => {
                    assert_eq!(open.user_identity.as_bytes(), b"account.worker");
                    (ChannelKind::Standard, open.nominal_hash_rate)
                }
                Message::OpenExtendedMiningChannel(open) => {
                    assert_eq!(open.user_identity.as_bytes(), b"account.worker");
                    (ChannelKind::Extended, open.nominal_hash_rate)
                }
                other => panic!("{other:?}"),
            })
            .await;
        self.kind = kind;
        Hashrate::from_wire(hashrate).unwrap()
    }

    /// Opens the channel that the client asks for, which must be of this kind.
    pub(crate) async fn open(&mut self, kind: ChannelKind) {
        self.set_up(MiningSuccessFlags::NONE).await;
        self.request().await;
        assert_eq!(self.kind, kind);
        let extranonce_prefix = B032::try_from(EXTRANONCE_PREFIX).unwrap();
        let (channel_id, group_channel_id, target) = (CHANNEL, GROUP, U256::from(&TARGET));
        match kind {
            ChannelKind::Standard => {
                self.send(mining::OpenStandardMiningChannelSuccess {
                    request_id: REQUEST,
                    channel_id,
                    target,
                    extranonce_prefix,
                    group_channel_id,
                })
                .await;
            }
            ChannelKind::Extended => {
                self.send(mining::OpenExtendedMiningChannelSuccess {
                    request_id: REQUEST,
                    channel_id,
                    target,
                    extranonce_size: 14,
                    extranonce_prefix,
                    group_channel_id,
                })
                .await;
            }
        }
    }

    pub(crate) async fn send_future_job(&mut self, job_id: u32, version_rolling_allowed: bool) {
        self.send_job(job_id, None, version_rolling_allowed).await;
    }

    pub(crate) async fn send_active_job(&mut self, job_id: u32) {
        self.send_job(job_id, Some(NTIME), true).await;
    }

    async fn send_job(&mut self, job_id: u32, min_ntime: Option<u32>, version_rolling_allowed: bool) {
        let min_ntime = Sv2Option::new(min_ntime);
        let job: Message<'_> = match self.kind {
            ChannelKind::Standard => {
                let merkle_root = U256::from(&ROOT);
                mining::NewMiningJob { channel_id: CHANNEL, job_id, min_ntime, version: VERSION, merkle_root }
                    .into()
            }
            ChannelKind::Extended => mining::NewExtendedMiningJob {
                channel_id: GROUP,
                job_id,
                min_ntime,
                version: VERSION,
                version_rolling_allowed,
                merkle_path: Seq0255::new(PATH.iter().map(U256::from).collect()).unwrap(),
                coinbase_tx_prefix: COINBASE.0.try_into().unwrap(),
                coinbase_tx_suffix: COINBASE.1.try_into().unwrap(),
            }
            .into(),
        };
        self.send(job).await;
    }

    pub(crate) async fn send_prev_hash(&mut self, job_id: u32) {
        let prev_hash = U256::from(&PREV_HASH);
        self.send(mining::SetNewPrevHash {
            channel_id: GROUP,
            job_id,
            prev_hash,
            min_ntime: NTIME,
            nbits: NBITS,
        })
        .await;
    }

    pub(crate) async fn accept_shares(&mut self, count: u32) {
        let success = mining::SubmitSharesSuccess {
            channel_id: CHANNEL,
            last_sequence_number: count,
            new_submits_accepted_count: count,
            new_shares_sum: 0,
        };
        self.send(success).await;
    }

    /// The next share, checked against the job that every test uses.
    pub(crate) async fn share(&mut self) -> Share {
        let kind = self.kind;
        self.hear(|message| match (kind, message) {
            (ChannelKind::Standard, Message::SubmitSharesStandard(share)) => {
                check(share.nonce, share.ntime, share.version, ROOT);
                let (sequence_number, job_id, version) = (share.sequence_number, share.job_id, share.version);
                Share { sequence_number, job_id, version, extranonce: Vec::new() }
            }
            (ChannelKind::Extended, Message::SubmitSharesExtended(share)) => {
                let extranonce = share.extranonce.as_bytes().to_vec();
                check(share.nonce, share.ntime, share.version, merkle_root(&extranonce));
                let (sequence_number, job_id, version) = (share.sequence_number, share.job_id, share.version);
                Share { sequence_number, job_id, version, extranonce }
            }
            (_, other) => panic!("{other:?}"),
        })
        .await
    }

    /// Passes over shares until the client closes its channel, which is `true`, or just leaves, which is `false`.
    pub(crate) async fn goodbye_or_end(&mut self) -> bool {
        while let Some(bytes) = self.frame().await {
            match message(&bytes) {
                Message::CloseChannel(close) => {
                    assert_eq!(close.channel_id, CHANNEL);
                    return true;
                }
                Message::SubmitSharesExtended(_) | Message::SubmitSharesStandard(_) => {}
                other => panic!("{other:?}"),
            }
        }
        false
    }
}

fn message(bytes: &[u8]) -> Message<'_> {
    let (frame, _) = Frame::split_from(bytes).unwrap();
    decode(Protocol::Mining, frame).unwrap()
}

fn merkle_root(extranonce: &[u8]) -> [u8; 32] {
    let coinbase = [COINBASE.0, EXTRANONCE_PREFIX, extranonce, COINBASE.1].concat();
    let leaf = sha256d::Hash::hash(&coinbase);
    let fold =
        |hash: sha256d::Hash, other: &[u8; 32]| sha256d::Hash::hash(&[hash.to_byte_array(), *other].concat());
    PATH.iter().fold(leaf, fold).to_byte_array()
}

/// Hashes the share's header with rust-bitcoin.
fn check(nonce: u32, ntime: u32, version: u32, merkle_root: [u8; 32]) {
    assert_eq!((version ^ VERSION) & !0x1fff_ffe0, 0, "bits that may not be rolled: {version:#x}");
    assert!((NTIME..NTIME + 60).contains(&ntime), "{ntime}");
    let header = Header {
        version: Version::from_consensus(i32::from_ne_bytes(version.to_ne_bytes())),
        prev_blockhash: BlockHash::from_byte_array(PREV_HASH),
        merkle_root: TxMerkleNode::from_byte_array(merkle_root),
        time: ntime,
        bits: CompactTarget::from_consensus(NBITS),
        nonce,
    };
    let hash = header.block_hash().to_byte_array();
    assert!(Target::from_le_bytes(TARGET).is_met_by(&hash), "not a share: {header:?}");
}

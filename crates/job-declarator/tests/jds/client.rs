//! A client that speaks the protocol by itself, so that the server is held against the specification and not against our own client.

use std::net::{IpAddr, SocketAddr};

use adit_messages::job_declaration::{
    AllocateMiningJobToken, DeclareMiningJob, ProvideMissingTransactionsSuccess, PushSolution,
};
use adit_messages::types::{B016M, B032, B064K, B0255, Seq064K, Str0255, U256};
use adit_messages::{Message, Protocol, common, decode, encode};
use adit_net::{Clock, Connection, HANDSHAKE_PATIENCE, OutboxLimits, initiate};
use adit_share::{MAX_EXTRANONCE_LEN, RawTransaction, Template};
use adit_transport::{AuthorityPublicKey, FrameQueue};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, consensus};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::stage::{PATIENCE, Stage, payout};

/// More than any message to a client has.
const PAYLOAD_MAX: usize = 1 << 20;

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    SetUp,
    Token(Vec<u8>),
    Accepted(u32, Vec<u8>),
    Refused(u32, String, String),
    Missing(u32, Vec<u16>),
    Other(String),
}

pub(crate) struct Client {
    connection: Connection,
}

impl Client {
    /// Connects from this address, once the server listens, and sets the connection up.
    pub(crate) async fn connect_from(from: [u8; 4], stage: &Stage) -> Self {
        let connection = timeout(PATIENCE, async {
            loop {
                match Self::try_connect(from, stage.jds.address(), stage.authority).await {
                    Some(connection) => return connection,
                    None => sleep(core::time::Duration::from_millis(5)).await,
                }
            }
        });
        let mut client = Self { connection: connection.await.expect("the server listens") };
        let text = |text| Str0255::try_from(text).unwrap();
        client
            .say(common::SetupConnection {
                protocol: common::Protocol::JobDeclarationProtocol,
                min_version: 2,
                max_version: 2,
                flags: 1,
                endpoint_host: text("localhost"),
                endpoint_port: 34264,
                vendor: text("test"),
                hardware_version: text(""),
                firmware: text(""),
                device_id: text(""),
            })
            .await;
        assert_eq!(client.hear().await, Some(Said::SetUp));
        client
    }

    pub(crate) async fn connect(stage: &Stage) -> Self {
        Self::connect_from([127, 0, 0, 1], stage).await
    }

    /// One try to connect, which fails if the server cannot be trusted.
    pub(crate) async fn try_connect(
        from: [u8; 4],
        to: SocketAddr,
        authority: AuthorityPublicKey,
    ) -> Option<Connection> {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind(SocketAddr::new(IpAddr::from(from), 0)).ok()?;
        let stream = socket.connect(to).await.ok()?;
        let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
        let outbox = OutboxLimits { bytes: 8 << 20, ..OutboxLimits::default() };
        initiate(stream, Some(authority), deadline, outbox).await.ok()
    }

    pub(crate) async fn say<'a>(&mut self, message: impl Into<Message<'a>>) {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        self.connection.queue(&mut queue).unwrap();
        self.connection.flush().await.unwrap();
    }

    /// What the server says next; `None` if it has closed the connection.
    pub(crate) async fn hear(&mut self) -> Option<Said> {
        let hearing = async {
            loop {
                if let Some(frame) = self.connection.next_frame(|_| PAYLOAD_MAX).unwrap() {
                    return Some(said(decode(Protocol::JobDeclaration, frame).unwrap()));
                }
                self.connection.read().await.ok()?;
            }
        };
        timeout(PATIENCE, hearing).await.expect("the server says something in time")
    }

    pub(crate) async fn token(&mut self) -> Vec<u8> {
        let user_identifier = Str0255::try_from("alice.rig").unwrap();
        self.say(AllocateMiningJobToken { user_identifier, request_id: 1 }).await;
        match self.hear().await {
            Some(Said::Token(token)) => token,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn provide(&mut self, request_id: u32, transactions: &[&RawTransaction]) {
        let list = transactions.iter().map(|raw| B016M::new(raw.as_bytes().to_vec().leak()).unwrap());
        let transaction_list = Seq064K::new(list.collect()).unwrap();
        self.say(ProvideMissingTransactionsSuccess { request_id, transaction_list }).await;
    }
}

fn said(message: Message<'_>) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match message {
        Message::SetupConnectionSuccess(_) => Said::SetUp,
        Message::AllocateMiningJobTokenSuccess(success) => {
            Said::Token(success.mining_job_token.as_bytes().to_vec())
        }
        Message::DeclareMiningJobSuccess(success) => {
            Said::Accepted(success.request_id, success.new_mining_job_token.as_bytes().to_vec())
        }
        Message::DeclareMiningJobError(error) => {
            let (code, details) = (text(error.error_code.as_bytes()), text(error.error_details.as_bytes()));
            Said::Refused(error.request_id, code, details)
        }
        Message::ProvideMissingTransactions(missing) => {
            Said::Missing(missing.request_id, missing.unknown_tx_position_list.into_inner())
        }
        other => Said::Other(format!("{other:?}")),
    }
}

/// A hash as messages carry it, for as long as the test runs.
fn hash(hash: [u8; 32]) -> U256<'static> {
    U256::from(&*Box::leak(Box::new(hash)))
}

/// A job that a miner makes of a template: everything goes to the pool.
pub(crate) struct Job {
    template: std::sync::Arc<Template>,
    coinbase: Transaction,
}

impl Job {
    pub(crate) fn new(template: &std::sync::Arc<Template>, name: &[u8; 4]) -> Self {
        let height = i64::from(template.tip.height.0);
        let mut script_sig = Builder::new().push_int(height).push_slice(name).into_bytes();
        script_sig.extend([0; MAX_EXTRANONCE_LEN]);
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script_sig),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        };
        let value = Amount::from_sat(template.coinbase_value.to_sats());
        let mut output = vec![TxOut { value, script_pubkey: payout() }];
        output.extend(template.required_outputs.clone());
        let version = bitcoin::transaction::Version::TWO;
        let lock_time = bitcoin::absolute::LockTime::ZERO;
        let coinbase = Transaction { version, lock_time, input: vec![input], output };
        Self { template: std::sync::Arc::clone(template), coinbase }
    }

    fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = consensus::serialize(&self.coinbase);
        let end = 4 + 2 + 1 + 36 + 1 + self.coinbase.input[0].script_sig.len();
        (bytes[..end - MAX_EXTRANONCE_LEN].to_vec(), bytes[end..].to_vec())
    }

    pub(crate) fn declaration(&self, request_id: u32, token: &[u8]) -> DeclareMiningJob<'static> {
        let (prefix, suffix) = self.parts();
        let wtxids = self.template.transactions.iter().map(RawTransaction::wtxid);
        let wtxids = wtxids.map(|wtxid| hash(wtxid.to_byte_array()));
        DeclareMiningJob {
            request_id,
            mining_job_token: B0255::new(token.to_vec().leak()).unwrap(),
            version: self.template.version,
            coinbase_tx_prefix: B064K::new(prefix.leak()).unwrap(),
            coinbase_tx_suffix: B064K::new(suffix.leak()).unwrap(),
            wtxid_list: Seq064K::new(wtxids.collect()).unwrap(),
            excess_data: B064K::new(&[]).unwrap(),
        }
    }

    /// Mines the job; the solution, the block's hash and its header.
    pub(crate) fn mine(
        &self,
        extranonce: [u8; MAX_EXTRANONCE_LEN],
    ) -> (PushSolution<'static>, bitcoin::Block) {
        let (prefix, suffix) = self.parts();
        let (template, tip) = (&self.template, &self.template.tip);
        let coinbase = consensus::deserialize(&[&prefix[..], &extranonce, &suffix].concat()).unwrap();
        let others = template.transactions.iter().map(|raw| consensus::deserialize(raw.as_bytes()).unwrap());
        let mut block = bitcoin::Block {
            header: bitcoin::block::Header {
                version: bitcoin::block::Version::from_consensus(template.version.cast_signed()),
                prev_blockhash: tip.prev_hash,
                merkle_root: bitcoin::TxMerkleNode::all_zeros(),
                time: template.time,
                bits: tip.nbits,
                nonce: 0,
            },
            txdata: core::iter::once(coinbase).chain(others).collect(),
        };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        while !tip.target.is_met_by(&block.block_hash().to_byte_array()) {
            block.header.nonce += 1;
        }
        let solution = PushSolution {
            extranonce: B032::new(extranonce.to_vec().leak()).unwrap(),
            prev_hash: hash(tip.prev_hash.to_byte_array()),
            nonce: block.header.nonce,
            ntime: block.header.time,
            nbits: tip.nbits.to_consensus(),
            version: template.version,
        };
        (solution, block)
    }
}

//! The stage: a declarator server with a virtual clock and a node of a few transactions, and clients that send and expect messages.

use core::convert::Infallible;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use adit_channel::TokenKey;
use adit_job_declarator::server::limits::Budget;
use adit_job_declarator::server::{Disconnect, JdsConfig, Judgement, Request, Session, Solved};
use adit_messages::job_declaration::{
    AllocateMiningJobToken, AllocateMiningJobTokenSuccess, DeclareMiningJob, DeclareMiningJobError,
    DeclareMiningJobSuccess, ProvideMissingTransactions, ProvideMissingTransactionsSuccess, PushSolution,
};
use adit_messages::types::{B016M, B032, B064K, B0255, Seq064K, Str0255, U256};
use adit_messages::{Message, Protocol, common, decode, encode};
use adit_share::{MAX_EXTRANONCE_LEN, RawTransaction, Tip, witness_commitment};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{ConnectionId, Height, Monotonic, Now, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    Wtxid, absolute, consensus, transaction,
};
use rand_core::{TryCryptoRng, TryRng};

/// The wall clock when a world begins, in seconds.
pub(crate) const START: u32 = 1_700_000_000;

/// A network target that one of 512 hashes meets.
pub(crate) const EASY: u32 = 0x1f7f_ffff;

/// The height that is mined when a world begins.
pub(crate) const HEIGHT: u32 = 900_000;

/// What a coinbase of these tests creates.
pub(crate) const REWARD: u64 = 312_500_000;

/// Numbers that look random and are the same in every run.
#[derive(Debug, Default)]
pub(crate) struct TestRng(u64);

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            part.copy_from_slice(&number[..part.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

/// The server's side of the stage.
pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) config: Arc<JdsConfig>,
    pub(crate) key: Arc<TokenKey>,
    pub(crate) budget: Budget,
    pub(crate) tip: Tip,
    /// What the node has in its mempool.
    pub(crate) mempool: HashMap<Wtxid, RawTransaction>,
    pub(crate) rng: TestRng,
    connections: u32,
}

/// Who is paid.
pub(crate) fn payout() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(b"pool"))
}

pub(crate) fn config() -> JdsConfig {
    JdsConfig::new(payout())
}

pub(crate) fn tip(height: u32, seed: u8) -> Tip {
    let nbits = CompactTarget::from_consensus(EASY);
    Tip::new(BlockHash::from_byte_array([seed; 32]), Height(height), nbits, START - 100)
}

/// A transaction with a witness, unlike those of other numbers.
pub(crate) fn transaction(number: u32) -> RawTransaction {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_le_bytes());
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(id), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1; 64]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1_000),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    RawTransaction::parse(consensus::serialize(&transaction)).unwrap()
}

pub(crate) fn transactions(numbers: core::ops::Range<u32>) -> Vec<RawTransaction> {
    numbers.map(transaction).collect()
}

/// A job as a client declares it.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) version: u32,
    pub(crate) coinbase: Transaction,
    pub(crate) wtxids: Vec<Wtxid>,
    /// How long the extranonce at the end of the input script is, in bytes.
    pub(crate) extranonce_len: usize,
}

impl Proposal {
    /// A good one at that height.
    pub(crate) fn new(height: u32, transactions: &[RawTransaction]) -> Self {
        let mut script_sig = Builder::new().push_int(i64::from(height)).push_slice(b"miner").into_bytes();
        script_sig.extend([0; MAX_EXTRANONCE_LEN]);
        let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(transactions) };
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::from_bytes(script_sig),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0; 32]]),
            }],
            output: vec![TxOut { value: Amount::from_sat(REWARD), script_pubkey: payout() }, commitment],
        };
        let wtxids = transactions.iter().map(RawTransaction::wtxid).collect();
        Self { version: 0x2000_0000, coinbase, wtxids, extranonce_len: MAX_EXTRANONCE_LEN }
    }

    /// The coinbase before and behind the extranonce.
    pub(crate) fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = consensus::serialize(&self.coinbase);
        let marks = if self.coinbase.input.iter().any(|input| !input.witness.is_empty()) { 2 } else { 0 };
        let script = self.coinbase.input.first().map_or(0, |input| input.script_sig.len());
        let end = 4 + marks + 1 + 36 + 1 + script;
        (bytes[..end - self.extranonce_len].to_vec(), bytes[end..].to_vec())
    }

    pub(crate) fn message(&self, request_id: u32, token: &[u8]) -> DeclareMiningJob<'static> {
        let (prefix, suffix) = self.parts();
        declaration(request_id, token, (&prefix, &suffix), &self.wtxids)
    }

    /// A solution of the job over these transactions on `tip`.
    pub(crate) fn solution(&self, transactions: &[RawTransaction], tip: &Tip) -> PushSolution<'static> {
        let (prefix, suffix) = self.parts();
        let extranonce = [9; MAX_EXTRANONCE_LEN];
        let coinbase: Transaction =
            consensus::deserialize(&[&prefix[..], &extranonce, &suffix].concat()).unwrap();
        let decoded = transactions.iter().map(|raw| consensus::deserialize(raw.as_bytes()).unwrap());
        let mut block = bitcoin::Block {
            header: bitcoin::block::Header {
                version: bitcoin::block::Version::from_consensus(self.version.cast_signed()),
                prev_blockhash: tip.prev_hash,
                merkle_root: bitcoin::TxMerkleNode::all_zeros(),
                time: START,
                bits: tip.nbits,
                nonce: 0,
            },
            txdata: core::iter::once(coinbase).chain(decoded).collect(),
        };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        while !tip.target.is_met_by(&block.block_hash().to_byte_array()) {
            block.header.nonce += 1;
        }
        PushSolution {
            extranonce: B032::new(extranonce.to_vec().leak()).unwrap(),
            prev_hash: hash(tip.prev_hash.to_byte_array()),
            nonce: block.header.nonce,
            ntime: block.header.time,
            nbits: tip.nbits.to_consensus(),
            version: self.version,
        }
    }
}

/// A hash as messages carry it, for as long as the test runs.
fn hash(hash: [u8; 32]) -> U256<'static> {
    U256::from(&*Box::leak(Box::new(hash)))
}

pub(crate) fn declaration(
    request_id: u32,
    token: &[u8],
    (prefix, suffix): (&[u8], &[u8]),
    wtxids: &[Wtxid],
) -> DeclareMiningJob<'static> {
    let hash = |wtxid: &Wtxid| hash(wtxid.to_byte_array());
    DeclareMiningJob {
        request_id,
        mining_job_token: B0255::new(token.to_vec().leak()).unwrap(),
        version: 0x2000_0000,
        coinbase_tx_prefix: B064K::new(prefix.to_vec().leak()).unwrap(),
        coinbase_tx_suffix: B064K::new(suffix.to_vec().leak()).unwrap(),
        wtxid_list: Seq064K::new(wtxids.iter().map(hash).collect()).unwrap(),
        excess_data: B064K::new(&[]).unwrap(),
    }
}

pub(crate) fn provided(request_id: u32, list: &[&[u8]]) -> ProvideMissingTransactionsSuccess<'static> {
    let list = list.iter().map(|bytes| B016M::new(bytes.to_vec().leak()).unwrap()).collect();
    ProvideMissingTransactionsSuccess { request_id, transaction_list: Seq064K::new(list).unwrap() }
}

pub(crate) fn text(text: &str) -> Str0255<'static> {
    Str0255::new(text.as_bytes().to_vec().leak()).unwrap()
}

pub(crate) fn setup(flags: u32) -> common::SetupConnection<'static> {
    common::SetupConnection {
        protocol: common::Protocol::JobDeclarationProtocol,
        min_version: 2,
        max_version: 2,
        flags,
        endpoint_host: text("jds.example"),
        endpoint_port: 34264,
        vendor: text("vendor"),
        hardware_version: text("hardware"),
        firmware: text("firmware"),
        device_id: text("id"),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: JdsConfig) -> Self {
        config.check().unwrap();
        let mut rng = TestRng::default();
        Self {
            now: Now { monotonic: Monotonic::from_micros(1_000_000), unix: UnixTime::from_secs(START) },
            config: Arc::new(config),
            key: Arc::new(TokenKey::generate(&mut rng)),
            budget: Budget::default(),
            tip: tip(HEIGHT, 1),
            mempool: HashMap::new(),
            rng,
            connections: 0,
        }
    }

    /// A world whose node has these transactions.
    pub(crate) fn knowing(transactions: &[RawTransaction]) -> Self {
        let mut world = Self::new();
        world.mempool = transactions.iter().map(|known| (known.wtxid(), known.clone())).collect();
        world
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    pub(crate) fn connect(&mut self) -> Client {
        self.connections += 1;
        let (config, key) = (Arc::clone(&self.config), Arc::clone(&self.key));
        let budget = self.budget.clone();
        let mut session = Session::new(config, key, ConnectionId(self.connections), budget, self.now);
        session.handle_tip(self.tip, self.now);
        Client {
            session,
            heard: VecDeque::new(),
            closed: None,
            questions: VecDeque::new(),
            blocks: Vec::new(),
        }
    }

    /// A client that reveals its transactions.
    pub(crate) fn declarator(&mut self) -> Client {
        let mut client = self.connect();
        client.sends(setup(1), self);
        client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
        client
    }
}

/// A client, and what the server has said to it and wants to know because of it.
pub(crate) struct Client {
    pub(crate) session: Session,
    heard: VecDeque<Vec<u8>>,
    pub(crate) closed: Option<Disconnect>,
    pub(crate) questions: VecDeque<Request>,
    pub(crate) blocks: Vec<Solved>,
}

impl Client {
    pub(crate) fn sends<'a>(&mut self, message: impl Into<Message<'a>>, world: &mut World) {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        let frame = queue.iter().next().unwrap();
        self.sends_frame(frame, world);
    }

    pub(crate) fn sends_frame(&mut self, frame: Frame<'_>, world: &mut World) {
        assert_eq!(self.closed, None, "the connection is closed");
        if let Err(end) = self.session.handle_frame(frame, world.now, &mut world.rng) {
            self.closed = Some(end);
        }
        self.settle();
    }

    /// Time has passed.
    pub(crate) fn ticks(&mut self, world: &mut World) {
        if self.session.poll_timeout().is_some_and(|timeout| timeout <= world.now.monotonic)
            && let Err(end) = self.session.handle_timeout(world.now, &mut world.rng)
        {
            self.closed = Some(end);
        }
        self.settle();
    }

    /// The node has told its tip.
    pub(crate) fn sees_tip(&mut self, world: &World) {
        self.session.handle_tip(world.tip, world.now);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(request) = self.session.poll_request() {
            match request {
                Request::Propagate(solved) => self.blocks.push(solved),
                request => self.questions.push_back(request),
            }
        }
        for frame in self.session.frames().iter() {
            let Header { extension_type, msg_type, .. } = frame.header;
            let mut bytes = vec![];
            bytes.extend(extension_type.to_le_bytes());
            bytes.push(msg_type);
            bytes.extend(frame.payload);
            self.heard.push_back(bytes);
        }
        *self.session.frames() = FrameQueue::default();
    }

    /// The next message, as its bytes.
    #[track_caller]
    fn hears(&mut self) -> Vec<u8> {
        self.heard.pop_front().expect("the server says something")
    }

    #[track_caller]
    pub(crate) fn expects<'a>(&mut self, message: impl Into<Message<'a>>) {
        let heard = self.hears();
        let message = message.into();
        let mut bytes = message.info().extension_type.to_le_bytes().to_vec();
        bytes.push(message.info().msg_type);
        message.write_payload(&mut bytes);
        assert_eq!(heard, bytes, "expected {message:?}");
    }

    #[track_caller]
    pub(crate) fn expects_nothing(&self) {
        assert!(self.heard.is_empty(), "{:?}", self.heard);
    }

    #[track_caller]
    fn decodes<T>(&mut self, read: impl FnOnce(Message<'_>) -> Option<T>) -> T {
        let heard = self.hears();
        let frame = Frame::new(0, false, heard[2], &heard[3..]).unwrap();
        let message = decode(Protocol::JobDeclaration, frame).unwrap();
        let what = format!("{message:?}");
        read(message).unwrap_or_else(|| panic!("{what}"))
    }

    /// Asks for a token, and gets it at once.
    #[track_caller]
    pub(crate) fn token(&mut self, user: &str, world: &mut World) -> Vec<u8> {
        self.sends(AllocateMiningJobToken { user_identifier: text(user), request_id: 77 }, world);
        let success = self.allocated();
        assert_eq!(success.0, 77);
        success.1
    }

    /// The number of the request, the token and its outputs.
    #[track_caller]
    pub(crate) fn allocated(&mut self) -> (u32, Vec<u8>, Vec<TxOut>) {
        self.decodes(|message| match message {
            Message::AllocateMiningJobTokenSuccess(AllocateMiningJobTokenSuccess {
                request_id,
                mining_job_token,
                coinbase_outputs,
            }) => {
                let outputs = consensus::deserialize(coinbase_outputs.as_bytes()).unwrap();
                Some((request_id, mining_job_token.as_bytes().to_vec(), outputs))
            }
            _ => None,
        })
    }

    /// The declaration was accepted; the token for the pool.
    #[track_caller]
    pub(crate) fn accepted(&mut self, request_id: u32) -> Vec<u8> {
        self.decodes(|message| match message {
            Message::DeclareMiningJobSuccess(DeclareMiningJobSuccess {
                request_id: id,
                new_mining_job_token,
            }) => {
                assert_eq!(id, request_id);
                Some(new_mining_job_token.as_bytes().to_vec())
            }
            _ => None,
        })
    }

    /// The declaration was refused for that reason; what a person is told.
    #[track_caller]
    pub(crate) fn refused(&mut self, request_id: u32, code: &str) -> String {
        self.decodes(|message| match message {
            Message::DeclareMiningJobError(DeclareMiningJobError {
                request_id: id,
                error_code,
                error_details,
            }) => {
                let details = String::from_utf8(error_details.as_bytes().to_vec()).unwrap();
                let said = String::from_utf8(error_code.as_bytes().to_vec()).unwrap();
                assert_eq!((id, &*said), (request_id, code), "{details}");
                assert!(details.len() > 20, "it says what to do: {details}");
                Some(details)
            }
            _ => None,
        })
    }

    /// The declaration was refused for its coinbase, whatever is wrong with it.
    #[track_caller]
    pub(crate) fn refused_coinbase(&mut self, request_id: u32) {
        self.decodes(|message| match message {
            Message::DeclareMiningJobError(DeclareMiningJobError { request_id: id, error_code, .. }) => {
                (id == request_id && error_code.as_bytes().starts_with(b"invalid-coinbase-tx")).then_some(())
            }
            _ => None,
        })
    }

    /// Transactions were asked for.
    #[track_caller]
    pub(crate) fn asked_for(&mut self, request_id: u32) -> Vec<u16> {
        self.decodes(|message| match message {
            Message::ProvideMissingTransactions(ProvideMissingTransactions {
                request_id: id,
                unknown_tx_position_list,
            }) => {
                assert_eq!(id, request_id);
                Some(unknown_tx_position_list.into_inner())
            }
            _ => None,
        })
    }

    /// The node answers which transactions it has.
    #[track_caller]
    pub(crate) fn resolves(&mut self, world: &World) {
        let Some(Request::Resolve { id, wtxids }) = self.questions.pop_front() else { panic!("no question") };
        let found = wtxids.iter().map(|wtxid| world.mempool.get(wtxid).cloned()).collect();
        self.session.handle_resolved(id, found, world.now);
        self.settle();
    }

    /// The node judges the block; the block.
    #[track_caller]
    pub(crate) fn judged(&mut self, judgement: Judgement, world: &mut World) -> bitcoin::Block {
        let Some(Request::Check { id, block, .. }) = self.questions.pop_front() else {
            panic!("no question")
        };
        self.session.handle_checked(id, judgement, world.now, &mut world.rng);
        self.settle();
        consensus::deserialize(&block).unwrap()
    }

    /// Declares a good job whose transactions the node has; the token for the pool.
    #[track_caller]
    pub(crate) fn declares(&mut self, proposal: &Proposal, world: &mut World) -> Vec<u8> {
        let token = self.token("alice.rig", world);
        self.sends(proposal.message(5, &token), world);
        self.resolves(world);
        self.judged(Judgement::Valid, world);
        let Some(Request::Keep(_)) = self.questions.pop_front() else { panic!("the job is kept") };
        self.accepted(5)
    }
}

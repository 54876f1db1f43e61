//! The stage: a pool with a virtual clock, and peers that send and expect messages.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{ShareRecord, VardiffConfig};
use adit_messages::extensions::{RequestExtensions, WORKER_HASHRATE_TRACKING};
use adit_messages::flags::MiningSetupFlags;
use adit_messages::tlv::Tlv;
use adit_messages::types::{B032, Seq064K, Str0255, U256};
use adit_messages::{Message, Protocol, common, decode, encode, encode_with_tlvs, mining};
use adit_pool::{Disconnect, EmptyJobs, FoundBlock, JobFactory, PoolConfig, RESERVE_DELAY, Session, Work};
use adit_share::{RawTransaction, Template, TemplateParts, Tip, witness_commitment};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{ConnectionId, Height, Monotonic, Now, Sats, ShareRate, Target, TemplateId, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute, consensus, transaction,
};

/// The wall clock when a world begins, in seconds.
pub(crate) const START: u32 = 1_700_000_000;

/// A network target that no share of a test meets.
pub(crate) const HARD: u32 = 0x0300_0001;

/// A network target that every second hash meets.
pub(crate) const EASY: u32 = 0x207f_ffff;

/// A version for shares that roll nothing.
pub(crate) const VERSION: u32 = 0x2000_0000;

/// The server's side of the stage: one pool, its node and its clock.
pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) config: Arc<PoolConfig>,
    pub(crate) factory: JobFactory,
    pub(crate) work: Option<Arc<Work>>,
    pub(crate) nbits: u32,
    /// The least time of the next block, as the node in use tells it.
    pub(crate) least_time: u32,
    height: u32,
    templates: u64,
    connections: u32,
}

/// A pool whose easiest shares are met by every hash, so that tests need not mine.
pub(crate) fn config() -> PoolConfig {
    let vardiff = VardiffConfig {
        rate: ShareRate::from_shares_per_minute(10),
        easiest: Target::MAX,
        ..VardiffConfig::default()
    };
    let empty_jobs = EmptyJobs::Never;
    PoolConfig { vardiff, empty_jobs, ..PoolConfig::new(7, ScriptBuf::from_bytes(vec![0x51])) }
}

/// The same pool, which gives miners an empty block for the next height ahead.
pub(crate) fn bridging() -> PoolConfig {
    PoolConfig { empty_jobs: EmptyJobs::UntilTemplate, ..config() }
}

impl World {
    /// A pool that mines on a first tip already.
    pub(crate) fn new() -> Self {
        let mut world = Self::without_work(config());
        world.new_tip();
        world
    }

    /// A pool whose node has not answered yet.
    pub(crate) fn without_work(config: PoolConfig) -> Self {
        Self {
            now: Now { monotonic: Monotonic::from_micros(1_000_000), unix: UnixTime::from_secs(START) },
            factory: JobFactory::new(&config, 3).unwrap(),
            config: Arc::new(config),
            work: None,
            nbits: HARD,
            least_time: START - 600,
            height: 100,
            templates: 0,
            connections: 0,
        }
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// The node has a template on another tip.
    pub(crate) fn new_tip(&mut self) -> Arc<Work> {
        self.height += 1;
        self.refresh()
    }

    /// The node has another template on the same tip, with a transaction more.
    pub(crate) fn refresh(&mut self) -> Arc<Work> {
        self.templates += 1;
        let template = self.template();
        let work = self.factory.handle_template(&template, self.now).unwrap();
        let work = work.expect("another transaction makes another job");
        self.work = Some(Arc::clone(&work));
        work
    }

    /// The tip has stood for a while, and the pool puts a job for the next one up.
    pub(crate) fn put_by(&mut self) -> Arc<Work> {
        self.now = self.now.after(RESERVE_DELAY);
        let work = self.factory.handle_timeout(self.now).unwrap().expect("there was no job for the next tip");
        self.work = Some(Arc::clone(&work));
        work
    }

    /// The node has another tip and no template on it.
    pub(crate) fn tip_alone(&mut self) -> Option<Arc<Work>> {
        self.height += 1;
        let tip = self.tip();
        let work = self.factory.handle_tip(&tip, self.now).unwrap();
        self.work = work.clone().or_else(|| self.work.take());
        work
    }

    /// The tip that the node has now.
    pub(crate) fn tip(&self) -> Tip {
        let nbits = CompactTarget::from_consensus(self.nbits);
        Tip::new(BlockHash::hash(&self.height.to_le_bytes()), Height(self.height), nbits, self.least_time)
    }

    /// The template that the node has now.
    pub(crate) fn template(&self) -> Arc<Template> {
        let subsidy = Sats::from_sats(5_000_000_000);
        let fees = Sats::from_sats(1_000 * self.templates);
        let transactions: Vec<_> =
            (0..self.templates % 5).map(|n| transaction(n * 1_000 + self.templates)).collect();
        let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&transactions) };
        let template = Template::new(TemplateParts {
            id: TemplateId(self.templates),
            tip: self.tip(),
            version: VERSION,
            time: self.now.unix.to_secs(),
            coinbase_value: subsidy.checked_add(fees).unwrap(),
            subsidy,
            fees,
            sigops: 0,
            transactions,
            required_outputs: vec![commitment],
        });
        Arc::new(template.unwrap())
    }

    /// A peer whose handshake is done.
    pub(crate) fn connect(&mut self) -> Client {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let mut session = Session::new(Arc::clone(&self.config), connection, [9; 16], self.now);
        if let Some(work) = &self.work {
            session.handle_work(Arc::clone(work), self.now);
        }
        Client { session, inbox: VecDeque::new(), records: Vec::new(), closed: None, sequence: 0 }
    }

    /// A peer that has been set up with these flags.
    pub(crate) fn connect_with(&mut self, flags: MiningSetupFlags) -> Client {
        let mut client = self.connect();
        client.sends(setup(flags.bits()), self);
        client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
        client
    }

    /// A peer that has one extended channel, number 2, of which any hash is a share.
    pub(crate) fn extended_miner(&mut self) -> Client {
        let mut client = self.connect_with(MiningSetupFlags::NONE);
        client.opens_extended(self);
        client
    }

    /// A peer that takes standard jobs only and has one standard channel, number 2, of which any hash is a share.
    pub(crate) fn standard_miner(&mut self) -> Client {
        let mut client = self.connect_with(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
        client.opens_standard(self);
        client
    }

    /// A peer with one extended channel (number 2) whose shares may name workers (extension 0x0002).
    pub(crate) fn miner_with_workers(&mut self) -> Client {
        let mut client = self.connect_with(MiningSetupFlags::NONE);
        let requested_extensions = Seq064K::new(vec![WORKER_HASHRATE_TRACKING]).unwrap();
        client.sends(RequestExtensions { request_id: 1, requested_extensions }, self);
        client.skips_all();
        client.opens_extended(self);
        client
    }
}

/// A transaction with a witness, unlike any with another number.
fn transaction(number: u64) -> RawTransaction {
    let witness = Witness::from_slice(&[number.to_le_bytes()]);
    let input = TxIn {
        previous_output: OutPoint { txid: bitcoin::Txid::hash(&number.to_le_bytes()), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness,
    };
    let output = TxOut { value: Amount::from_sat(number), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    RawTransaction::parse(consensus::serialize(&transaction)).unwrap()
}

/// The miner's side of the stage.
pub(crate) struct Client {
    pub(crate) session: Session,
    /// Frames that the pool has sent and no test has looked at.
    inbox: VecDeque<Vec<u8>>,
    /// Every record that the session has emitted.
    pub(crate) records: Vec<ShareRecord>,
    pub(crate) closed: Option<Disconnect>,
    sequence: u32,
}

impl Client {
    /// The peer sends a message; the connection must not have been closed.
    pub(crate) fn sends<'a>(&mut self, message: impl Into<Message<'a>>, world: &World) {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        self.sends_frames(&queue, world);
    }

    /// The peer sends a message with fields of extensions behind it.
    pub(crate) fn sends_with<'a>(
        &mut self,
        message: impl Into<Message<'a>>,
        tlvs: &[Tlv<'_>],
        world: &World,
    ) {
        let mut queue = FrameQueue::default();
        encode_with_tlvs(message, tlvs, &mut queue).unwrap();
        self.sends_frames(&queue, world);
    }

    fn sends_frames(&mut self, queue: &FrameQueue, world: &World) {
        for frame in queue {
            self.sends_frame(frame, world);
        }
    }

    /// The peer sends any frame.
    pub(crate) fn sends_frame(&mut self, frame: Frame<'_>, world: &World) {
        assert_eq!(self.closed, None, "the connection is closed");
        self.closed = self.session.handle_frame(frame, world.now).err();
        self.collect();
    }

    /// The session is given the pool's present work.
    pub(crate) fn hears(&mut self, work: &Arc<Work>, world: &World) {
        self.session.handle_work(Arc::clone(work), world.now);
        self.collect();
    }

    /// The first records so far, that many, are on stable storage.
    pub(crate) fn is_durable(&mut self, count: usize) {
        self.session.handle_durable(count as u64);
        self.collect();
    }

    /// The server begins to wind down.
    pub(crate) fn is_drained(&mut self) {
        self.session.begin_drain();
        self.collect();
    }

    /// The driver asks whether anything is due.
    pub(crate) fn ticks(&mut self, world: &World) {
        if self.session.poll_timeout().is_some_and(|due| due <= world.now.monotonic) {
            self.closed = self.session.handle_timeout(world.now).err();
            self.collect();
        }
    }

    /// Takes in what the session has emitted.
    pub(crate) fn collect(&mut self) {
        self.session.take_records(&mut self.records);
        for frame in self.session.frames().iter() {
            self.inbox.push_back([&frame.header.to_bytes()[..], frame.payload].concat());
        }
        self.session.frames().clear();
    }

    /// Every block that was found since the last time.
    pub(crate) fn blocks(&mut self) -> Vec<FoundBlock> {
        core::iter::from_fn(|| self.session.poll_block()).collect()
    }

    /// The next message is exactly this one.
    #[track_caller]
    pub(crate) fn expects<'a>(&mut self, message: impl Into<Message<'a>>) {
        let message = message.into();
        let mut queue = FrameQueue::default();
        encode(message.clone(), &mut queue).unwrap();
        let Some(bytes) = self.inbox.pop_front() else { panic!("expected {message:?}, but nothing came") };
        let came = Received(bytes);
        assert!(came.0 == queue.as_bytes(), "expected {message:?}, but {:?} came", came.message());
    }

    /// Whether a message is left.
    pub(crate) fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// No message is left.
    #[track_caller]
    pub(crate) fn expects_nothing(&mut self) {
        if let Some(bytes) = self.inbox.pop_front() {
            panic!("expected nothing, but {:?} came", Received(bytes).message());
        }
    }

    /// The next message, whatever it is.
    #[track_caller]
    pub(crate) fn receives(&mut self) -> Received {
        Received(self.inbox.pop_front().expect("a message came"))
    }

    /// Forgets the messages so far.
    pub(crate) fn skips_all(&mut self) -> usize {
        self.inbox.drain(..).count()
    }

    /// The names of the messages that came, in order.
    pub(crate) fn names(&mut self) -> Vec<&'static str> {
        self.inbox.drain(..).map(|bytes| Received(bytes).message().info().name).collect()
    }

    /// The names of the messages that came and the channels they are for, in order.
    pub(crate) fn addressed(&mut self) -> Vec<(&'static str, u32)> {
        let channel =
            |bytes: &[u8]| u32::from_le_bytes(bytes[Header::LEN..Header::LEN + 4].try_into().unwrap());
        let inbox = self.inbox.drain(..);
        inbox.map(|bytes| (Received(bytes.clone()).message().info().name, channel(&bytes))).collect()
    }

    /// The peer opens an extended channel whose shares are as easy as can be.
    pub(crate) fn opens_extended(&mut self, world: &World) -> Opened {
        self.sends(open_extended(0.0, &[0xff; 32]), world);
        self.opened()
    }

    /// The peer opens a standard channel whose shares are as easy as can be.
    pub(crate) fn opens_standard(&mut self, world: &World) -> Opened {
        self.sends(open_standard(0.0, &[0xff; 32]), world);
        self.opened()
    }

    /// What the pool answered to a request for a channel, with its first job skipped.
    #[track_caller]
    pub(crate) fn opened(&mut self) -> Opened {
        let answer = self.receives();
        self.skips_all();
        match answer.message() {
            Message::OpenExtendedMiningChannelSuccess(success) => Opened {
                channel: success.channel_id,
                target: Target::from_le_bytes(success.target.to_array()),
                prefix: success.extranonce_prefix.as_bytes().to_vec(),
            },
            Message::OpenStandardMiningChannelSuccess(success) => Opened {
                channel: success.channel_id,
                target: Target::from_le_bytes(success.target.to_array()),
                prefix: success.extranonce_prefix.as_bytes().to_vec(),
            },
            other => panic!("the channel was not opened: {other:?}"),
        }
    }

    /// The peer submits an extended share on channel 2; the next one has another sequence number.
    pub(crate) fn submits(&mut self, job: u32, nonce: u32, world: &World) -> u32 {
        let share = extended_share(job, nonce, world);
        self.submits_share(share, world)
    }

    /// The peer submits a share with the next sequence number.
    pub(crate) fn submits_share(
        &mut self,
        mut share: mining::SubmitSharesExtended<'_>,
        world: &World,
    ) -> u32 {
        self.sequence += 1;
        share.sequence_number = self.sequence;
        self.sends(share, world);
        self.sequence
    }

    /// The peer submits a standard share with the next sequence number.
    pub(crate) fn submits_standard(&mut self, channel: u32, job: u32, nonce: u32, world: &World) -> u32 {
        self.submits_standard_at(channel, job, (nonce, world.now.unix.to_secs()), world)
    }

    /// The peer submits a standard share with the next sequence number and any time.
    pub(crate) fn submits_standard_at(
        &mut self,
        channel: u32,
        job: u32,
        (nonce, ntime): (u32, u32),
        world: &World,
    ) -> u32 {
        self.sequence += 1;
        let share = mining::SubmitSharesStandard {
            channel_id: channel,
            sequence_number: self.sequence,
            job_id: job,
            nonce,
            ntime,
            version: VERSION,
        };
        self.sends(share, world);
        self.sequence
    }

    /// The pool refuses a share of channel 2 with this code.
    #[track_caller]
    pub(crate) fn is_refused(&mut self, sequence_number: u32, code: &str) {
        let error_code = Str0255::try_from(code).unwrap();
        self.expects(mining::SubmitSharesError { channel_id: 2, sequence_number, error_code });
    }
}

/// An answer to a request for a channel.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) channel: u32,
    pub(crate) target: Target,
    pub(crate) prefix: Vec<u8>,
}

/// A message that came.
pub(crate) struct Received(Vec<u8>);

impl Received {
    pub(crate) fn message(&self) -> Message<'_> {
        let (frame, _) = Frame::split_from(&self.0).unwrap();
        decode(Protocol::Mining, frame).unwrap()
    }

    /// The whole frame.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> usize {
        self.0.len()
    }
}

/// `SetupConnection` for mining.
pub(crate) fn setup(flags: u32) -> common::SetupConnection<'static> {
    common::SetupConnection {
        protocol: common::Protocol::MiningProtocol,
        min_version: 2,
        max_version: 2,
        flags,
        endpoint_host: text("pool.example"),
        endpoint_port: 34254,
        vendor: text("vendor"),
        hardware_version: text("hardware"),
        firmware: text("firmware"),
        device_id: text(""),
    }
}

/// `OpenStandardMiningChannel` for `alice.rig`.
pub(crate) fn open_standard(
    nominal_hash_rate: f32,
    max_target: &[u8; 32],
) -> mining::OpenStandardMiningChannel<'_> {
    mining::OpenStandardMiningChannel {
        request_id: 11,
        user_identity: text("alice.rig"),
        nominal_hash_rate,
        max_target: U256::from(max_target),
    }
}

/// `OpenExtendedMiningChannel` for `alice.rig`.
pub(crate) fn open_extended(
    nominal_hash_rate: f32,
    max_target: &[u8; 32],
) -> mining::OpenExtendedMiningChannel<'_> {
    mining::OpenExtendedMiningChannel {
        request_id: 12,
        user_identity: text("alice.rig"),
        nominal_hash_rate,
        max_target: U256::from(max_target),
        min_extranonce_size: 4,
    }
}

/// `UpdateChannel` for channel 2.
pub(crate) fn update(nominal_hash_rate: f32, maximum_target: &[u8; 32]) -> mining::UpdateChannel<'_> {
    mining::UpdateChannel { channel_id: 2, nominal_hash_rate, maximum_target: U256::from(maximum_target) }
}

/// `CloseChannel`.
pub(crate) fn close(channel_id: u32) -> mining::CloseChannel<'static> {
    mining::CloseChannel { channel_id, reason_code: text("done") }
}

/// A share of channel 2 that rolls nothing but the nonce.
pub(crate) fn extended_share(
    job_id: u32,
    nonce: u32,
    world: &World,
) -> mining::SubmitSharesExtended<'static> {
    mining::SubmitSharesExtended {
        channel_id: 2,
        sequence_number: 0,
        job_id,
        nonce,
        ntime: world.now.unix.to_secs(),
        version: VERSION,
        extranonce: B032::new(&[0; 14]).unwrap(),
    }
}

/// Text as messages carry it.
pub(crate) fn text(text: &str) -> Str0255<'_> {
    Str0255::try_from(text).unwrap()
}

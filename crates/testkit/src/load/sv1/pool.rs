//! The pool above the translator: gives out jobs on order, checks every share that comes up, and does nothing else.

use core::net::{Ipv4Addr, SocketAddr};
use std::io;
use std::sync::Arc;

use adit_messages::error_code::{OpenMiningChannelError as OpenCode, SubmitSharesError as ShareCode};
use adit_messages::extensions::{WORKER_HASHRATE_TRACKING, negotiate};
use adit_messages::types::{B032, B064K, Seq0255, Sv2Option, U256};
use adit_messages::{Message, PROTOCOL_VERSION, Protocol, Side, common, decode, encode, limits, mining};
use adit_net::{Clock, Connection, HANDSHAKE_PATIENCE, HandshakeLane, Intake, OutboxLimits};
use adit_transport::{AuthorityPublicKey, FrameQueue, Identity};
use adit_units::Target;
use bitcoin::hashes::{Hash as _, sha256d};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::client::Run;
use super::job::{Fields, mark, merkle_root};

/// The channel that all others belong to.
const GROUP: u32 = 1;

/// Bytes of the extranonce that the pool keeps for itself, and that it leaves to a channel.
const PREFIX_LEN: usize = 6;
const EXTRANONCE_LEN: u16 = 14;

/// Hashes from the coinbase to the merkle root, as in a block of a thousand transactions.
const PATH_LEN: u8 = 10;

/// The network's difficulty of late 2024: nothing that a run finds is a block.
const NBITS: u32 = 0x1702_f128;

const VERSION: u32 = 0x2000_0000;

/// What the pool is told to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A job on the same tip.
    Job,
    /// A job on a new tip.
    Tip,
}

/// The pool's end of a run, which listens and does not yet serve.
#[derive(Debug)]
pub struct Upstream {
    listener: TcpListener,
    address: SocketAddr,
    identity: Arc<Identity>,
}

impl Upstream {
    /// Listens on this machine.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn bind(identity: Arc<Identity>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, identity })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom translators must trust.
    #[must_use]
    pub fn authority(&self) -> AuthorityPublicKey {
        self.identity.authority()
    }

    /// Serves one translator after another; orders that come while there is none are carried out for nobody.
    pub(super) async fn serve(self, run: Arc<Run>, mut orders: mpsc::Receiver<Order>) {
        let Ok(lane) = HandshakeLane::start(1) else { return };
        let mut session = Session::new(run);
        // Whatever ends a connection, the machines below see what comes of it.
        while let Ok((stream, _)) = self.listener.accept().await {
            let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
            let _ = stream.set_nodelay(true);
            let limits = OutboxLimits::default();
            let met = lane.respond(stream, Arc::clone(&self.identity), deadline, limits).await;
            if let Ok(connection) = met {
                session.reset();
                let _ended = session.talk(connection, &mut orders).await;
            }
        }
    }
}

/// A job as the pool made it.
struct Job {
    number: u32,
    fields: Fields,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    path: Vec<[u8; 32]>,
}

impl Job {
    fn new(number: u32, prev_hash: [u8; 32], ntime: u32) -> Self {
        let hash =
            |what: u8| sha256d::Hash::hash(&[&number.to_le_bytes()[..], &[what]].concat()).to_byte_array();
        Self {
            number,
            fields: Fields { version: VERSION, prev_hash, ntime, nbits: NBITS },
            prefix: coinbase_prefix(number),
            suffix: coinbase_suffix(),
            path: (0..PATH_LEN).map(hash).collect(),
        }
    }

    fn message(&self, channel_id: u32, min_ntime: Option<u32>) -> Message<'_> {
        let part = |bytes| B064K::new(bytes).expect("a coinbase of a few hundred bytes fits this type");
        let path = self.path.iter().map(U256::from).collect();
        let message = mining::NewExtendedMiningJob {
            channel_id,
            job_id: self.number,
            min_ntime: Sv2Option::new(min_ntime),
            version: self.fields.version,
            version_rolling_allowed: true,
            merkle_path: Seq0255::new(path).expect("ten hashes fit this type"),
            coinbase_tx_prefix: part(&self.prefix),
            coinbase_tx_suffix: part(&self.suffix),
        };
        message.into()
    }

    fn start(&self, channel_id: u32) -> mining::SetNewPrevHash<'_> {
        mining::SetNewPrevHash {
            channel_id,
            job_id: self.number,
            prev_hash: U256::from(&self.fields.prev_hash),
            min_ntime: self.fields.ntime,
            nbits: self.fields.nbits,
        }
    }
}

/// A coinbase up to the extranonce: one input, whose script holds a height, the job's mark and a name.
fn coinbase_prefix(number: u32) -> Vec<u8> {
    let mut script = vec![3, 0x40, 0x0d, 0x0d];
    let name = b"/adit bench/";
    let texts = [&mark(number)[..], name].concat();
    script.push(u8::try_from(texts.len()).expect("it is short"));
    script.extend(texts);
    let extranonce_len = PREFIX_LEN + usize::from(EXTRANONCE_LEN);
    let script_len =
        u8::try_from(script.len() + extranonce_len).expect("a coinbase's script has a hundred bytes at most");
    let mut prefix = [&2_u32.to_le_bytes()[..], &[1], &[0; 32], &[0xff; 4], &[script_len]].concat();
    prefix.extend(script);
    prefix
}

/// The rest of it: a payout, a witness commitment, and no lock time.
fn coinbase_suffix() -> Vec<u8> {
    let payout = [&[0x00, 0x14][..], &[0x5a; 20]].concat();
    let commitment = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[0xc0; 32]].concat();
    let mut suffix = vec![0xff, 0xff, 0xff, 0xff, 2];
    for (value, script) in [(312_500_000_u64, payout), (0, commitment)] {
        suffix.extend(value.to_le_bytes());
        suffix.push(u8::try_from(script.len()).expect("it is short"));
        suffix.extend(script);
    }
    suffix.extend([0; 4]);
    suffix
}

/// An open channel.
struct Channel {
    id: u32,
    prefix: [u8; PREFIX_LEN],
}

/// The pool, with the one connection that it has.
struct Session {
    run: Arc<Run>,
    queue: FrameQueue,
    is_set_up: bool,
    channels: Vec<Channel>,
    next_channel: u32,
    /// All jobs of the run, by their numbers from zero; the last one is to be mined.
    jobs: Vec<Job>,
    /// Good shares of this read, one entry for each channel.
    unacknowledged: Vec<mining::SubmitSharesSuccess>,
}

impl Session {
    fn new(run: Arc<Run>) -> Self {
        let first = Job::new(0, [1; 32], Clock.unix().to_secs());
        let (queue, next_channel) = (FrameQueue::default(), GROUP + 1);
        let (channels, unacknowledged) = (Vec::new(), Vec::new());
        Self { run, queue, is_set_up: false, channels, next_channel, jobs: vec![first], unacknowledged }
    }

    /// A new connection knows of no channel.
    fn reset(&mut self) {
        (self.is_set_up, self.queue) = (false, FrameQueue::default());
        self.channels.clear();
    }

    /// Serves one connection until it ends.
    async fn talk(
        &mut self,
        mut connection: Connection,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), String> {
        loop {
            connection.queue(&mut self.queue).map_err(|error| error.to_string())?;
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let order = order.ok_or("the run has ended")?;
                    let number = self.obey(order)?;
                    connection.queue(&mut self.queue).map_err(|error| error.to_string())?;
                    self.run.tally().send_job(number, Clock.monotonic());
                    connection.flush().await.map_err(|error| error.to_string())?;
                }
                done = connection.io(Intake::Open) => {
                    done.map_err(|error| error.to_string())?;
                    self.take_frames(&mut connection)?;
                }
            }
        }
    }

    /// Makes a job and queues it; its number.
    fn obey(&mut self, order: Order) -> Result<u32, String> {
        let number = u32::try_from(self.jobs.len()).map_err(|_| "too many jobs")?;
        let last = self.jobs.last().map_or([1; 32], |job| job.fields.prev_hash);
        let ntime = Clock.unix().to_secs();
        let prev_hash = match order {
            Order::Job => last,
            Order::Tip => {
                // A block's hash ends with zeros, read as a number.
                let mut hash = sha256d::Hash::hash(&last).to_byte_array();
                hash[24..].fill(0);
                hash
            }
        };
        let job = Job::new(number, prev_hash, ntime);
        match order {
            Order::Job => say(&mut self.queue, job.message(GROUP, Some(ntime))),
            Order::Tip => {
                say(&mut self.queue, job.message(GROUP, None));
                say(&mut self.queue, job.start(GROUP));
            }
        }
        self.jobs.push(job);
        Ok(number)
    }

    fn take_frames(&mut self, connection: &mut Connection) -> Result<(), String> {
        loop {
            let is_set_up = self.is_set_up;
            let limit = |header: &_| match is_set_up {
                true => limits::after_setup(Protocol::Mining, Side::Server, header),
                false => limits::before_setup(Side::Server, header),
            };
            let Some(frame) = connection.next_frame(limit).map_err(|error| error.to_string())? else { break };
            let message = decode(Protocol::Mining, frame).map_err(|error| error.to_string())?;
            self.take(message)?;
        }
        self.acknowledge();
        Ok(())
    }

    fn take(&mut self, message: Message<'_>) -> Result<(), String> {
        match message {
            Message::SetupConnection(_) => {
                self.is_set_up = true;
                say(
                    &mut self.queue,
                    common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: 0 },
                );
            }
            Message::RequestExtensions(request) => {
                match negotiate(&request, &[WORKER_HASHRATE_TRACKING], &[]) {
                    Ok(success) => say(&mut self.queue, success),
                    Err(error) => say(&mut self.queue, error),
                }
            }
            Message::OpenExtendedMiningChannel(open) => self.open(&open),
            Message::SubmitSharesExtended(share) => self.judge(&share),
            Message::CloseChannel(close) => self.channels.retain(|channel| channel.id != close.channel_id),
            // Its target is fixed.
            Message::UpdateChannel(_) => {}
            other => return Err(format!("a translator has no use for {}", other.info().name)),
        }
        Ok(())
    }

    fn open(&mut self, open: &mining::OpenExtendedMiningChannel<'_>) {
        let request_id = open.request_id;
        if open.min_extranonce_size > EXTRANONCE_LEN {
            let error_code = OpenCode::MinExtranonceSizeTooLarge.to_wire();
            say(&mut self.queue, mining::OpenMiningChannelError { request_id, error_code });
            return;
        }
        let id = self.next_channel;
        self.next_channel += 1;
        let [a, b, c, d] = id.to_be_bytes();
        let prefix = [0xad, 0x17, a, b, c, d];
        let target = self.run.plan.pool_target.to_le_bytes();
        say(
            &mut self.queue,
            mining::OpenExtendedMiningChannelSuccess {
                request_id,
                channel_id: id,
                target: U256::from(&target),
                extranonce_size: EXTRANONCE_LEN,
                extranonce_prefix: B032::try_from(&prefix[..]).expect("six bytes fit this type"),
                group_channel_id: GROUP,
            },
        );
        if let Some(job) = self.jobs.last() {
            say(&mut self.queue, job.message(id, None));
            say(&mut self.queue, job.start(id));
        }
        self.channels.push(Channel { id, prefix });
    }

    fn judge(&mut self, share: &mining::SubmitSharesExtended<'_>) {
        let (channel_id, sequence_number) = (share.channel_id, share.sequence_number);
        let place = self.channels.binary_search_by_key(&channel_id, |channel| channel.id).ok();
        let channel = place.and_then(|place| self.channels.get(place));
        let job = usize::try_from(share.job_id).ok().and_then(|number| self.jobs.get(number));
        let target = &self.run.plan.pool_target;
        if channel.zip(job).is_some_and(|(channel, job)| is_good(share, channel, job, target)) {
            self.run.tally().went_up += 1;
            self.count(channel_id, sequence_number);
        } else {
            self.run.tally().worthless_up += 1;
            let error_code = ShareCode::DifficultyTooLow.to_wire();
            say(&mut self.queue, mining::SubmitSharesError { channel_id, sequence_number, error_code });
        }
    }

    /// Notes a good share for the next acknowledgement.
    fn count(&mut self, channel_id: u32, last_sequence_number: u32) {
        match self.unacknowledged.iter_mut().find(|success| success.channel_id == channel_id) {
            Some(success) => {
                success.last_sequence_number = last_sequence_number;
                success.new_submits_accepted_count += 1;
                success.new_shares_sum += 1;
            }
            None => self.unacknowledged.push(mining::SubmitSharesSuccess {
                channel_id,
                last_sequence_number,
                new_submits_accepted_count: 1,
                new_shares_sum: 1,
            }),
        }
    }

    /// Acknowledges what came with one read, as pools do.
    fn acknowledge(&mut self) {
        self.unacknowledged.drain(..).for_each(|success| say(&mut self.queue, success));
    }
}

/// Whether a share is a header of that job and channel that meets the target.
fn is_good(share: &mining::SubmitSharesExtended<'_>, channel: &Channel, job: &Job, target: &Target) -> bool {
    let extranonce = share.extranonce.as_bytes();
    if extranonce.len() != usize::from(EXTRANONCE_LEN) {
        return false;
    }
    let root = merkle_root(&[&job.prefix, &channel.prefix, extranonce, &job.suffix], &job.path);
    let fields = Fields { version: share.version, ntime: share.ntime, ..job.fields };
    target.is_met_by(&sha256d::Hash::hash(&fields.header(root, share.nonce)).to_byte_array())
}

fn say<'a>(queue: &mut FrameQueue, message: impl Into<Message<'a>>) {
    encode(message, queue).expect("no message of this pool is longer than a frame can carry");
}

#[cfg(test)]
mod tests;

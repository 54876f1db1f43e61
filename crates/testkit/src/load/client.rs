//! One connection of a load run, from its handshake to its end.

use core::time::Duration;
use std::sync::Arc;

use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::{Str0255, U256};
use adit_messages::{Message, PROTOCOL_VERSION, Protocol, Side, common, decode, encode, limits, mining};
use adit_miner::ChannelKind;
use adit_net::{Clock, Connection, Intake, connect, connect_unauthenticated};
use adit_transport::FrameQueue;
use adit_units::{Monotonic, Target};
use tokio::net::TcpStream;

use super::channel::{Channel, Job, Root};
use super::crowd::{self, Lost, Member, Step};
use super::pace::Pace;
use super::{Plan, Shares};

/// Bytes of sealed shares that may wait to be written before no more are made.
const UNWRITTEN_MAX: usize = 32 * 1024;

/// Most shares made in one go, so that answers are looked at in between.
const BURST: usize = 128;

/// Most requests for channels that wait for their answer.
const REQUESTS_MAX: usize = 16;

/// How long a connection has to close.
const CLOSING: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) type Run = crowd::Run<Client>;

/// One connection after its handshake.
pub(super) struct Client {
    run: Arc<Run>,
    connection: Connection,
    frames: FrameQueue,
    /// In the order of their numbers.
    channels: Vec<Channel>,
    /// Channels that are not open yet.
    unopened: usize,
    /// Channels that were asked for.
    requested: usize,
    prev_hash: Option<[u8; 32]>,
    /// Where shares are paced.
    pace: Option<Pace>,
    /// The channel whose turn it is.
    turn: usize,
    /// When it set out to connect.
    since: Monotonic,
    has_work: bool,
}

impl Member for Client {
    type Plan = Plan;
    const MANY: &'static str = "connections";
    /// So many handshakes are under way at once.
    const DOOR: usize = 64;

    async fn connect(run: Arc<Run>, place: usize) -> Result<Self, Lost> {
        let since = Clock.monotonic();
        let connection = greet(&run).await?;
        let pace = match run.plan.shares {
            Shares::Paced(rate) => Some(Pace::new(rate, place, run.plan.connections)),
            Shares::None | Shares::Saturated => None,
        };
        let unopened = run.plan.channels;
        let mut client = Self {
            run,
            connection,
            frames: FrameQueue::default(),
            channels: Vec::new(),
            unopened,
            requested: 0,
            prev_hash: None,
            pace,
            turn: 0,
            since,
            has_work: false,
        };
        client.set_up()?;
        Ok(client)
    }

    fn settle(&mut self, step: Step) -> Result<bool, Lost> {
        let mut has_more = false;
        self.request_channels()?;
        let is_ready = self.unopened == 0 && self.channels.iter().all(Channel::has_work);
        if is_ready && !self.has_work {
            self.has_work = true;
            self.run.tally().open(self.since, Clock.monotonic());
        }
        if step == Step::Mine && is_ready {
            match self.run.plan.shares {
                Shares::None => {}
                Shares::Paced(_) => self.submit_due()?,
                Shares::Saturated => has_more = self.submit_all()?,
            }
        }
        self.connection.queue(&mut self.frames).map_err(|error| error.to_string())?;
        Ok(has_more)
    }

    fn has_work(&self) -> bool {
        self.has_work
    }

    fn due(&self) -> Option<Monotonic> {
        self.pace.as_ref().and_then(Pace::due)
    }

    async fn io(&mut self) -> Result<(), Lost> {
        self.connection.io(Intake::Open).await.map_err(|error| error.to_string())?;
        self.take_frames()
    }

    fn socket(&self) -> &TcpStream {
        self.connection.socket()
    }

    async fn close(self) {
        self.connection.close(CLOSING).await;
    }
}

impl Client {
    fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        encode(message, &mut self.frames).expect("no message of a load run is longer than a frame can carry");
    }

    /// Queues what opens the connection.
    fn set_up(&mut self) -> Result<(), Lost> {
        let plan = self.run.plan.clone();
        let flags = match plan.kind {
            ChannelKind::Standard => MiningSetupFlags::REQUIRES_STANDARD_JOBS,
            ChannelKind::Extended => MiningSetupFlags::NONE,
        };
        self.send(common::SetupConnection {
            protocol: common::Protocol::MiningProtocol,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: flags.bits(),
            endpoint_host: text(plan.url.host())?,
            endpoint_port: plan.url.port(),
            vendor: text("adit")?,
            hardware_version: text("bench")?,
            firmware: text(env!("CARGO_PKG_VERSION"))?,
            device_id: text("")?,
        });
        Ok(())
    }

    /// Queues requests for the channels that are still wanted, a few at a time: a server answers each with a job, and need not keep
    /// many of them for a peer that has not read the first.
    fn request_channels(&mut self) -> Result<(), Lost> {
        let plan = self.run.plan.clone();
        let max_target = Target::MAX.to_le_bytes();
        let nominal_hash_rate = plan.nominal_hashrate.to_wire();
        while self.requested < plan.channels && self.requested - self.channels.len() < REQUESTS_MAX {
            let request_id = u32::try_from(self.requested).map_err(|_| "too many channels".to_owned())?;
            self.requested += 1;
            let (user_identity, max_target) = (text(&plan.user)?, U256::from(&max_target));
            match plan.kind {
                ChannelKind::Standard => self.send(mining::OpenStandardMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                }),
                ChannelKind::Extended => self.send(mining::OpenExtendedMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size: 4,
                }),
            }
        }
        Ok(())
    }

    /// Submits what has become due.
    fn submit_due(&mut self) -> Result<(), Lost> {
        let now = Clock.monotonic();
        while let Some(due) = self.pace.as_mut().and_then(|pace| pace.take(now)) {
            self.submit_one(due)?;
        }
        Ok(())
    }

    /// Fills every channel's window, but only a burst of it at once; whether there is room for more.
    fn submit_all(&mut self) -> Result<bool, Lost> {
        if self.connection.unwritten() > UNWRITTEN_MAX {
            return Ok(false);
        }
        let now = Clock.monotonic();
        let window = self.run.plan.window * self.channels.len();
        let waiting: usize = self.channels.iter().map(Channel::waiting).sum();
        let room = window.saturating_sub(waiting);
        for _ in 0..room.min(BURST) {
            self.submit_one(now)?;
        }
        Ok(room > BURST)
    }

    /// Submits a share on the channel whose turn it is.
    fn submit_one(&mut self, due: Monotonic) -> Result<(), Lost> {
        self.turn = (self.turn + 1) % self.channels.len();
        let submitted = match self.channels.get_mut(self.turn) {
            Some(channel) => channel.submit(&mut self.frames, due).map_err(|error| error.to_string())?,
            None => false,
        };
        self.run.tally().submitted += u64::from(submitted);
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), Lost> {
        let now = Clock.monotonic();
        loop {
            let limit = |header: &_| limits::after_setup(Protocol::Mining, Side::Client, header);
            let Self { run, connection, channels, unopened, prev_hash, .. } = self;
            let Some(frame) = connection.next_frame(limit).map_err(|error| error.to_string())? else {
                return Ok(());
            };
            if frame.header.extension_type != 0 {
                continue;
            }
            let message = decode(Protocol::Mining, frame).map_err(|error| error.to_string())?;
            let mut miner = Miner { run, channels, unopened, prev_hash };
            miner.handle(message, now)?;
        }
    }
}

/// The part of a connection that messages change, apart from the buffer that they lie in.
struct Miner<'a> {
    run: &'a Run,
    channels: &'a mut Vec<Channel>,
    unopened: &'a mut usize,
    prev_hash: &'a mut Option<[u8; 32]>,
}

impl Miner<'_> {
    fn handle(&mut self, message: Message<'_>, now: Monotonic) -> Result<(), Lost> {
        match message {
            Message::SubmitSharesSuccess(success) => self.handle_accepted(&success, now),
            Message::SubmitSharesError(error) => self.handle_refused(&error),
            Message::OpenStandardMiningChannelSuccess(success) => self.open(Channel::standard(&success)),
            Message::OpenExtendedMiningChannelSuccess(success) => self.open(Channel::extended(&success)),
            Message::NewMiningJob(job) => {
                let root = Root::Fixed(*job.merkle_root.as_array());
                let made = Job { id: job.job_id, version: job.version, root };
                self.start(job.channel_id, made, job.min_ntime.as_ref().copied());
            }
            Message::NewExtendedMiningJob(job) => {
                let root = Root::Coinbase {
                    prefix: job.coinbase_tx_prefix.as_bytes().to_vec(),
                    suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
                    path: job.merkle_path.iter().map(|hash| *hash.as_array()).collect(),
                };
                let made = Job { id: job.job_id, version: job.version, root };
                self.start(job.channel_id, made, job.min_ntime.as_ref().copied());
            }
            Message::SetNewPrevHash(new) => self.handle_prev_hash(&new, now),
            Message::SetTarget(set) => {
                let target = Target::from_le_bytes(*set.maximum_target.as_array());
                self.meant(set.channel_id).for_each(|channel| channel.handle_target(target));
            }
            Message::SetupConnectionError(error) => {
                return Err(format!("setup refused: {}", printable(error.error_code.as_bytes())));
            }
            Message::OpenMiningChannelError(error) => {
                return Err(format!("channel refused: {}", printable(error.error_code.as_bytes())));
            }
            Message::CloseChannel(_) | Message::Reconnect(_) => {
                return Err("the server sent the connection away".to_owned());
            }
            // Nothing else changes what a share is made of.
            _ => {}
        }
        Ok(())
    }

    /// The channel of that number, or all of the group of that number.
    fn meant(&mut self, id: u32) -> impl Iterator<Item = &mut Channel> {
        self.channels.iter_mut().filter(move |channel| channel.id == id || channel.group == id)
    }

    fn open(&mut self, channel: Channel) {
        let place = self.channels.partition_point(|open| open.id < channel.id);
        self.channels.insert(place, channel);
        *self.unopened = self.unopened.saturating_sub(1);
    }

    fn start(&mut self, channel: u32, job: Job, min_ntime: Option<u32>) {
        let job = Arc::new(job);
        self.meant(channel).for_each(|channel| channel.handle_job(Arc::clone(&job), min_ntime));
    }

    fn handle_prev_hash(&mut self, new: &mining::SetNewPrevHash<'_>, now: Monotonic) {
        let prev_hash = *new.prev_hash.as_array();
        let before = self.prev_hash.replace(prev_hash);
        // The first one is no news, and each channel of a connection may be told apart.
        if before.is_some_and(|before| before != prev_hash) {
            self.run.tally().see_tip(prev_hash, now);
        }
        self.meant(new.channel_id).for_each(|channel| channel.handle_prev_hash(new));
    }

    fn handle_accepted(&mut self, success: &mining::SubmitSharesSuccess, now: Monotonic) {
        let Some(channel) = self.channel(success.channel_id) else { return };
        let mut dues = Vec::new();
        channel.accepted(success.last_sequence_number, |due| dues.push(due));
        let after = dues.into_iter().map(|due| now - due);
        self.run.tally().accept(success.new_submits_accepted_count, after);
    }

    fn handle_refused(&mut self, error: &mining::SubmitSharesError<'_>) {
        if let Some(channel) = self.channel(error.channel_id) {
            channel.refused(error.sequence_number);
        }
        self.run.tally().refuse(printable(error.error_code.as_bytes()));
    }

    fn channel(&mut self, id: u32) -> Option<&mut Channel> {
        let place = self.channels.binary_search_by_key(&id, |channel| channel.id).ok()?;
        self.channels.get_mut(place)
    }
}

/// Connects, when there is room at the door.
async fn greet(run: &Run) -> Result<Connection, Lost> {
    let _turn = run.turn().await?;
    let (url, address) = (&run.plan.url, run.plan.url.address());
    let connected = match url.authority() {
        None if run.plan.insecure => connect_unauthenticated(&address).await,
        authority => connect(&address, authority).await,
    };
    connected.map_err(|error| error.to_string())
}

/// A text as messages carry it.
fn text(text: &str) -> Result<Str0255<'_>, Lost> {
    Str0255::try_from(text).map_err(|_| format!("{text} is longer than 255 bytes"))
}

/// A code of the server, safe to print.
fn printable(code: &[u8]) -> String {
    String::from_utf8_lossy(code).chars().filter(|character| !character.is_control()).collect()
}

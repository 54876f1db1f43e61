//! One connection of a miner or proxy, from `SetupConnection` to its end.

mod acknowledge;
mod breaker;
mod burst;
mod channels;
mod counters;
mod custom;
mod groups;
mod jobs;
mod operations;
mod relay;
mod setup;
mod shares;
mod tally;
mod wish;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{Channel, ExtranonceSpace, JobTable, RewardKind, ShareRecord, UserIdentity};
use adit_messages::types::U256;
use adit_messages::{
    Message, MessageInfo, MessageKind, Protocol, Side, decode, encode, info, limits, mining,
};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{ChannelId, ConnectionId, Monotonic, Now, Target};

pub use self::acknowledge::UNACKNOWLEDGED_MAX;
use self::acknowledge::{Report, Unacknowledged};
use self::breaker::{Breaker, Patience};
pub use self::breaker::{
    CLOSURE_GRACE, CLOSURE_INTERVAL, CLOSURES_MAX, GARBAGE_MAX, GARBAGE_PER_SECOND, REPEATS_MAX,
    REPEATS_PER_SECOND, REQUESTS_MAX, REQUESTS_PER_CHANNEL, REQUESTS_PER_SECOND, SHARES_MAX,
    SHARES_PER_SECOND,
};
pub use self::burst::Burst;
pub use self::counters::Counters;
pub use self::custom::{CUSTOM_BYTES_MAX, FoundCustomBlock, TIP_PATIENCE};
use self::custom::{CustomWork, OwnJobs};
pub use self::groups::DISTRIBUTIONS_MAX;
use self::groups::Groups;
pub use self::operations::OperationError;
pub use self::relay::RelayedShare;
pub use self::shares::FoundBlock;
pub use self::tally::{ChannelReport, ChannelShares, SessionReport, WORKERS_MAX, WorkerReport, WorkerShares};
use self::tally::{Tally, Workers};
use self::wish::Wish;
use crate::work::Reserve;
use crate::{Disconnect, PoolConfig, Successor, Work};

/// The group of the channels whose blocks pay the pool; channels and other groups are numbered from the next number on (spec 5.2.3).
pub const GROUP_CHANNEL: ChannelId = ChannelId(1);

/// How long a peer may take to send `SetupConnection`.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may take from there to open its first channel (spec 5.3.2); `docs/decisions/0018-who-counts-as-a-stranger.md` says
/// why this is long.
pub const FIRST_CHANNEL_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a peer may stay without a channel after it has closed its last one.
pub const IDLE_TIMEOUT: Duration = FIRST_CHANNEL_TIMEOUT;

/// Records that a session keeps room for once the driver has taken them.
const RECORDS_KEPT: usize = 16;

/// One connection; see the crate's text for how to drive it.
#[derive(Debug)]
pub struct Session {
    config: Arc<PoolConfig>,
    connection: ConnectionId,
    seen_key: [u8; 16],
    state: State,
    /// The device as it described itself, for logs.
    device: Box<str>,
    extranonces: ExtranonceSpace,
    jobs: JobTable<Arc<Work>>,
    /// Where the newest work that was taken in stands in the order of all.
    last_order: u64,
    /// The job for the next tip that every open channel has been sent.
    reserve: Option<Arc<Reserve>>,
    /// By number, which only grows.
    channels: Vec<OpenChannel>,
    groups: Groups,
    /// The number that a channel or group was given last.
    last_number: ChannelId,
    /// When a channel wants its next job before all others get theirs, see [`Self::take_wish`].
    wish: Wish,
    /// Accepted shares that the channels remember, counted anew with each job.
    remembered: usize,
    unacknowledged: Unacknowledged,
    frames: FrameQueue,
    records: Vec<ShareRecord>,
    /// What was accepted, for somebody further up.
    #[expect(
        clippy::box_collection,
        reason = "every connection has this field, and most pools are the last that hear of a share"
    )]
    relayed: Option<Box<Vec<RelayedShare>>>,
    #[expect(
        clippy::box_collection,
        reason = "every connection has this field, and hardly any ever finds a block"
    )]
    blocks: Option<Box<VecDeque<FoundBlock>>>,
    /// Where the peer makes its own jobs.
    custom: Option<Box<CustomWork>>,
    counters: Counters,
    /// Who the shares say has found them.
    workers: Option<Box<Workers>>,
    breaker: Breaker,
}

/// What the session waits for.
#[derive(Clone, Copy, Debug)]
enum State {
    /// `SetupConnection`, which must be the first message (spec 3.6.1).
    ExpectSetup { deadline: Monotonic },
    /// A channel to be opened; before the first request for one, extensions may be negotiated.
    ExpectChannel { deadline: Monotonic, terms: Terms, may_negotiate: bool },
    /// Shares.
    Mining { terms: Terms },
}

/// What the peer asked for when it set the connection up.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    /// It understands no extended jobs (`REQUIRES_STANDARD_JOBS`).
    standard_jobs_only: bool,
    /// Extended shares name the worker who found them (extension 0x0002).
    worker_names: bool,
}

impl State {
    /// What was agreed when the connection was set up.
    const fn terms(&self) -> Terms {
        match *self {
            Self::ExpectSetup { .. } => Terms { standard_jobs_only: false, worker_names: false },
            Self::ExpectChannel { terms, .. } | Self::Mining { terms } => terms,
        }
    }
}

/// A channel, and what there is to report to it.
#[derive(Debug)]
struct OpenChannel {
    channel: Channel,
    /// The jobs that its miner has made for it, where the peer makes its own jobs.
    own_jobs: Option<Box<OwnJobs>>,
    report: Report,
    patience: Patience,
    /// Who owes its shares a reward while its blocks pay the pool.
    pooled: RewardKind,
    /// Whom the pool pays for them then.
    payee: UserIdentity,
    /// Whether its next job must be preceded by `SetExtranoncePrefix`.
    prefix_untold: bool,
    /// What it has submitted.
    tally: Tally,
}

impl Session {
    /// A connection whose handshake has just been completed.
    ///
    /// `connection` starts at one and is never used again while the job factory lives. `seen_key` is random and may be the same for
    /// all sessions of a process.
    #[must_use]
    pub fn new(config: Arc<PoolConfig>, connection: ConnectionId, seen_key: [u8; 16], now: Now) -> Self {
        let breaker = Breaker::new(config.channels_per_connection, now.monotonic);
        let extranonces = ExtranonceSpace::based(config.extranonce, connection);
        Self {
            config,
            connection,
            seen_key,
            state: State::ExpectSetup { deadline: now.monotonic + SETUP_TIMEOUT },
            device: Box::default(),
            extranonces,
            jobs: JobTable::default(),
            last_order: 0,
            reserve: None,
            channels: Vec::new(),
            groups: Groups::default(),
            last_number: GROUP_CHANNEL,
            wish: Wish::default(),
            remembered: 0,
            unacknowledged: Unacknowledged::default(),
            frames: FrameQueue::default(),
            records: Vec::new(),
            relayed: None,
            blocks: None,
            custom: None,
            counters: Counters::default(),
            workers: None,
            breaker,
        }
    }

    /// The most payload bytes that a frame with this header may have now; a longer one is not to be read.
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        match self.state {
            State::ExpectSetup { .. } => limits::before_setup(Side::Server, header),
            State::ExpectChannel { .. } | State::Mining { .. } => {
                let limit = limits::after_setup(Protocol::Mining, Side::Server, header);
                // Who may not send custom jobs needs no room for the largest message of a miner.
                if self.custom.is_some() { limit } else { limit.min(limits::UNKNOWN) }
            }
        }
    }

    /// Takes in one frame.
    ///
    /// # Errors
    ///
    /// Why the connection must be closed, once everything that is queued has been sent.
    pub fn handle_frame(&mut self, frame: Frame<'_>, now: Now) -> Result<(), Disconnect> {
        let Some(info) = info(Protocol::Mining, &frame.header) else {
            return self.handle_unknown(&frame, now);
        };
        if !info.direction.reaches(Side::Server) {
            return Err(Disconnect::WrongDirection { message: info.name });
        }
        self.check_length(&frame)?;
        match self.state {
            State::ExpectSetup { .. } => self.handle_setup(info, frame, now),
            State::ExpectChannel { .. } | State::Mining { .. } => match info.kind {
                MessageKind::SubmitSharesExtended => self.handle_extended_share(frame.payload, None, now),
                MessageKind::SubmitSharesStandard => self.handle_standard_share(frame.payload, now),
                _ => self.handle_message(info, frame, now),
            },
        }
    }

    /// Takes in any message but a share, once the connection is set up.
    fn handle_message(
        &mut self,
        info: &'static MessageInfo,
        frame: Frame<'_>,
        now: Now,
    ) -> Result<(), Disconnect> {
        self.breaker.handle_request(self.config.channels_per_connection, now.monotonic)?;
        match decode(Protocol::Mining, frame)? {
            Message::OpenStandardMiningChannel(open) => return self.handle_open_standard(&open, now),
            Message::OpenExtendedMiningChannel(open) => return self.handle_open_extended(&open, now),
            Message::UpdateChannel(update) => self.handle_update(&update, now.monotonic),
            Message::CloseChannel(close) => self.handle_close(&close, now),
            Message::SetCustomMiningJob(job) => self.handle_custom_job(&job, frame.payload, now),
            Message::RequestExtensions(request) => return self.handle_extensions(info, &request),
            // The peer's only other message is SetupConnection, which has had its turn.
            _ => {
                let expected = "the connection is set up already";
                return Err(Disconnect::WrongState { message: info.name, expected });
            }
        }
        Ok(())
    }

    /// Ignores a message of an extension that nobody here knows (spec 3.4.1); the core protocol has no unknown messages.
    fn handle_unknown(&mut self, frame: &Frame<'_>, now: Now) -> Result<(), Disconnect> {
        let Header { extension_type, msg_type, .. } = frame.header;
        if extension_type == 0 {
            return Err(Disconnect::UnknownMessage { msg_type });
        }
        if let State::ExpectSetup { .. } = self.state {
            let message = "a message of an extension";
            return Err(Disconnect::WrongState { message, expected: setup::EXPECTED });
        }
        self.check_length(frame)?;
        self.breaker.handle_request(self.config.channels_per_connection, now.monotonic)
    }

    /// Holds a frame against the limit that it should have been read with.
    fn check_length(&self, frame: &Frame<'_>) -> Result<(), Disconnect> {
        let (length, limit) = (frame.payload.len(), self.frame_limit(&frame.header));
        if length > limit { Err(Disconnect::TooLong { length, limit }) } else { Ok(()) }
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If the peer has let a deadline pass.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), Disconnect> {
        match self.state {
            State::ExpectSetup { deadline } if now.monotonic >= deadline => Err(Disconnect::NoSetup),
            State::ExpectChannel { deadline, .. } if now.monotonic >= deadline => Err(Disconnect::NoChannel),
            State::ExpectSetup { .. } | State::ExpectChannel { .. } | State::Mining { .. } => {
                self.handle_custom_timeout(now);
                self.handle_wish_timeout(now.monotonic);
                Ok(())
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called; to be asked again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        match self.state {
            State::ExpectSetup { deadline } | State::ExpectChannel { deadline, .. } => Some(deadline),
            State::Mining { .. } => self.custom_timeout().into_iter().chain(self.wish.poll_timeout()).min(),
        }
    }

    /// Whether these are the rules that the session goes by.
    #[must_use]
    pub fn goes_by(&self, config: &Arc<PoolConfig>) -> bool {
        Arc::ptr_eq(&self.config, config)
    }

    /// Goes by other rules from now on. What was agreed about open channels stays.
    pub fn handle_config(&mut self, config: Arc<PoolConfig>) {
        self.config = config;
    }

    /// The server winds down: the peer is sent to [`PoolConfig::successor`], if there is one (spec 3.6.5).
    ///
    /// Nothing else changes: shares are judged and acknowledged as before until the connection is closed.
    pub fn begin_drain(&mut self) {
        let config = Arc::clone(&self.config);
        if let Some(Successor { host, port }) = &config.successor {
            self.reconnect(host, *port);
        }
    }

    /// A block that was found, to be handed to every node before anything else happens.
    pub fn poll_block(&mut self) -> Option<FoundBlock> {
        self.blocks.as_mut()?.pop_front()
    }

    /// Whether [`Self::poll_block`] has something to give.
    #[must_use]
    pub fn has_block(&self) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| !blocks.is_empty())
    }

    /// Moves the records of accepted shares to the end of `into`, in the order that [`Self::handle_durable`] counts them.
    pub fn take_records(&mut self, into: &mut Vec<ShareRecord>) {
        into.append(&mut self.records);
        self.records.shrink_to(RECORDS_KEPT);
    }

    /// The shares that were accepted since the last call, where [`PoolConfig::relays_shares`].
    pub fn take_relayed(&mut self) -> Vec<RelayedShare> {
        self.relayed.as_mut().map(|shares| core::mem::take(&mut **shares)).unwrap_or_default()
    }

    /// What the session has to say; to be sent, then cleared.
    pub const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    /// How many accepted shares are not yet on stable storage as far as the session knows.
    ///
    /// A driver that stops reading while this is high keeps the peer connected; at [`UNACKNOWLEDGED_MAX`] the session ends.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// How many records wait for [`Self::take_records`].
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.records.len()
    }

    /// What has been accepted and refused so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many channels are open.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether `SetupConnection` has been answered, so that the peer is no newcomer any more.
    #[must_use]
    pub const fn is_set_up(&self) -> bool {
        match self.state {
            State::ExpectSetup { .. } => false,
            State::ExpectChannel { .. } | State::Mining { .. } => true,
        }
    }

    /// The device as it described itself, without what does not print; empty before `SetupConnection`, and where it says nothing of itself.
    #[must_use]
    pub const fn device(&self) -> &str {
        &self.device
    }

    /// Queues a message.
    fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        send(&mut self.frames, message);
    }
}

/// Queues a message.
fn send<'a>(frames: &mut FrameQueue, message: impl Into<Message<'a>>) {
    encode(message, frames).expect("no message of a pool is longer than a frame can carry");
}

/// Tells a channel its next target (spec 5.3.21).
fn send_target(frames: &mut FrameQueue, channel: ChannelId, target: Target) {
    let maximum_target = target.to_le_bytes();
    send(frames, mining::SetTarget { channel_id: channel.0, maximum_target: U256::from(&maximum_target) });
}

/// The place of a channel among those that are open.
fn place_of(channels: &[OpenChannel], id: ChannelId) -> Option<usize> {
    channels.binary_search_by_key(&id, |open| open.channel.id()).ok()
}

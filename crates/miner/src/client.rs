//! The client's side of one connection of the mining protocol, as a state machine.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::error_code::SubmitSharesError;
use adit_messages::flags::{MiningSetupFlags, MiningSuccessFlags};
use adit_messages::types::{Str0255, U256};
use adit_messages::{
    DecodeError, Message, PROTOCOL_VERSION, Protocol, Side, common, decode, encode, limits, mining,
};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{ChannelId, Hashrate, Monotonic, SequenceNumber, Shares, Target};

use crate::config::{ChannelKind, ConfigError, Device, check_texts};
use crate::work::{Solution, Work};

mod channel;

use channel::Channel;

/// What a client says of itself and asks for.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The host that was connected to, at most 255 bytes.
    pub host: String,
    /// The port that was connected to.
    pub port: u16,
    /// How to introduce oneself.
    pub device: Device,
    /// Whom the pool is to credit; at most 255 bytes.
    pub user: String,
    /// The kind of channel to open.
    pub channel: ChannelKind,
    /// The speed that the server sets the first target by.
    pub nominal_hashrate: Hashrate,
    /// The hardest target that the miner can work with; [`Target::MAX`] leaves it to the server.
    pub max_target: Target,
    /// The fewest bytes of extranonce that an extended channel needs.
    pub min_extranonce_size: u16,
}

/// What happened; see [`Client::poll_event`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The channel is open.
    Opened(ChannelId),
    /// There is something to hash, and nothing older is worth hashing any more.
    Work(Arc<Work>),
    /// Shares were accepted.
    Accepted {
        /// How many.
        submits: u32,
        /// What they were worth together.
        shares: Shares,
    },
    /// A share was refused.
    Rejected {
        /// Which one.
        sequence_number: SequenceNumber,
        /// Why.
        code: RejectCode,
    },
    /// The server asks to go elsewhere: close this connection and open one there, with the same authority (spec 3.6.5).
    Reconnect {
        /// The host, empty for the present one.
        host: String,
        /// The port, 0 for the present one.
        port: u16,
    },
}

/// Why a share was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectCode {
    /// A code that is written down.
    Known(SubmitSharesError),
    /// Another one, made printable.
    Other(String),
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server does not want the connection.
    #[error("the server refuses the connection: {code}{}", unsupported(*flags))]
    SetupRefused {
        /// The server's reason, made printable.
        code: String,
        /// The flags that it does not support.
        flags: MiningSetupFlags,
    },
    /// The server opens extended channels only.
    #[error("the server opens extended channels only; ask for one")]
    StandardChannelsRefused,
    /// The server does not want to open the channel.
    #[error("the server refuses to open a channel: {0}")]
    ChannelRefused(String),
    /// The server has closed the channel.
    #[error("the server closed the channel: {0}")]
    ChannelClosed(String),
    /// The server has not answered, or not said anything for very long.
    #[error("the server is silent")]
    Silent,
    /// The server sent what is no message.
    #[error("the server sent a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// The server sent a message that it may not send now.
    #[error("the server broke the protocol: {0}")]
    Misbehaved(&'static str),
}

impl ClientError {
    /// Whether the server has understood and said no; asking again will not help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::SetupRefused { .. } | Self::StandardChannelsRefused | Self::ChannelRefused(_) => true,
            Self::ChannelClosed(_) | Self::Silent | Self::Malformed(_) | Self::Misbehaved(_) => false,
        }
    }
}

fn unsupported(flags: MiningSetupFlags) -> String {
    if flags.is_empty() { String::new() } else { format!(", it does not support {flags:?}") }
}

/// A solution that is not worth sending: its work is not of the present tip, or the channel is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the solution is for work that is out of date")]
pub struct NotSubmitted;

/// One connection to a server of the mining protocol with one channel on it.
pub struct Client {
    config: ClientConfig,
    state: State,
    frames: FrameQueue,
    events: VecDeque<Event>,
    /// When the server's silence ends the connection.
    deadline: Monotonic,
}

/// Named by what is waited for.
enum State {
    /// The answer to `SetupConnection`.
    ExpectSetup,
    /// The answer to `Open*MiningChannel`.
    ExpectChannel(MiningSuccessFlags),
    /// Jobs and answers to shares.
    Open(Channel),
    /// Nothing; the connection is to be closed.
    Closed,
}

/// The only request that is made on a connection.
const REQUEST_ID: u32 = 1;

impl Client {
    /// How long the server may take to answer `SetupConnection`.
    pub const SETUP_PATIENCE: Duration = Duration::from_secs(10);
    /// How long the server may take to open the channel.
    pub const OPEN_PATIENCE: Duration = Duration::from_secs(30);
    /// How long the server may say nothing at all; with new jobs every minute or so that is a dead line.
    pub const QUIET_PATIENCE: Duration = Duration::from_secs(600);

    /// A client on a new connection; its first frame is already in [`Self::frames`].
    ///
    /// # Errors
    ///
    /// If a text is longer than the protocol carries.
    pub fn new(config: ClientConfig, now: Monotonic) -> Result<Self, ConfigError> {
        check_texts(&config.user, &config.device)?;
        let mut frames = FrameQueue::default();
        let text = |text| -> Result<Str0255<'_>, ConfigError> {
            let too_long = |_| ConfigError { field: "the host", length: config.host.len() };
            Str0255::try_from(text).map_err(too_long)
        };
        let setup = common::SetupConnection {
            protocol: common::Protocol::MiningProtocol,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: setup_flags(config.channel).bits(),
            endpoint_host: text(&config.host)?,
            endpoint_port: config.port,
            vendor: text(&config.device.vendor)?,
            hardware_version: text(&config.device.hardware_version)?,
            firmware: text(&config.device.firmware)?,
            device_id: text(&config.device.device_id)?,
        };
        push(&mut frames, setup);
        let deadline = now + Self::SETUP_PATIENCE;
        Ok(Self { config, state: State::ExpectSetup, frames, events: VecDeque::new(), deadline })
    }

    /// The most payload bytes that a frame may have now.
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        match self.state {
            State::ExpectSetup => limits::before_setup(Side::Client, header),
            State::ExpectChannel(_) | State::Open(_) | State::Closed => {
                limits::after_setup(Protocol::Mining, Side::Client, header)
            }
        }
    }

    /// Takes in a frame from the server.
    ///
    /// # Errors
    ///
    /// If the connection is of no more use; close it.
    pub fn handle_frame(&mut self, frame: Frame<'_>, now: Monotonic) -> Result<(), ClientError> {
        let message = match decode(Protocol::Mining, frame) {
            Ok(message) => message,
            // Extensions that nobody negotiated, and messages of a later version, are not for us (spec 3.4.1).
            Err(DecodeError::UnknownMessage { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match core::mem::replace(&mut self.state, State::Closed) {
            State::ExpectSetup => self.handle_setup(&message, now),
            State::ExpectChannel(flags) => self.handle_opening(flags, &message, now),
            State::Open(mut channel) => {
                self.deadline = now + Self::QUIET_PATIENCE;
                self.handle_mining(&mut channel, &message, now)?;
                self.state = State::Open(channel);
                Ok(())
            }
            State::Closed => Ok(()),
        }
    }

    /// Looks whether the server has been silent for too long.
    ///
    /// # Errors
    ///
    /// If it has; close the connection.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Result<(), ClientError> {
        if self.deadline <= now { Err(ClientError::Silent) } else { Ok(()) }
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Monotonic {
        self.deadline
    }

    /// The next thing that happened, or `None` if nothing more has.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent; send it and [`FrameQueue::clear`] it, or hand it to what does both.
    pub fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    /// Submits a share, and returns the number that the server's answer will name.
    ///
    /// # Errors
    ///
    /// If the work is of an earlier tip or another connection, so that the server would refuse the share.
    pub fn submit(&mut self, solution: &Solution) -> Result<SequenceNumber, NotSubmitted> {
        let State::Open(channel) = &mut self.state else { return Err(NotSubmitted) };
        channel.submit(solution, &mut self.frames)
    }

    /// Says goodbye to the server, if a channel is open; then send [`Self::frames`] and close the connection.
    pub fn close(&mut self) {
        if let State::Open(channel) = core::mem::replace(&mut self.state, State::Closed) {
            push(&mut self.frames, goodbye(channel.id()));
        }
    }

    fn handle_setup(&mut self, message: &Message<'_>, now: Monotonic) -> Result<(), ClientError> {
        match message {
            Message::SetupConnectionSuccess(success) => {
                if success.used_version != PROTOCOL_VERSION {
                    return Err(ClientError::Misbehaved("it chose a version that was not offered"));
                }
                let flags = MiningSuccessFlags::from_bits(success.flags);
                self.open_channel(flags)?;
                self.state = State::ExpectChannel(flags);
                self.deadline = now + Self::OPEN_PATIENCE;
                Ok(())
            }
            Message::SetupConnectionError(error) => Err(ClientError::SetupRefused {
                code: printable(&error.error_code),
                flags: MiningSetupFlags::from_bits(error.flags),
            }),
            _ => Err(ClientError::Misbehaved("it did not answer SetupConnection first")),
        }
    }

    fn open_channel(&mut self, flags: MiningSuccessFlags) -> Result<(), ClientError> {
        let config = &self.config;
        let user_identity = user_identity(config);
        let nominal_hash_rate = config.nominal_hashrate.to_wire();
        let max_target = config.max_target.to_le_bytes();
        match config.channel {
            ChannelKind::Standard if flags.contains(MiningSuccessFlags::REQUIRES_EXTENDED_CHANNELS) => {
                return Err(ClientError::StandardChannelsRefused);
            }
            ChannelKind::Standard => {
                let open = mining::OpenStandardMiningChannel {
                    request_id: REQUEST_ID,
                    user_identity,
                    nominal_hash_rate,
                    max_target: U256::from(&max_target),
                };
                push(&mut self.frames, open);
            }
            ChannelKind::Extended => {
                let open = mining::OpenExtendedMiningChannel {
                    request_id: REQUEST_ID,
                    user_identity,
                    nominal_hash_rate,
                    max_target: U256::from(&max_target),
                    min_extranonce_size: config.min_extranonce_size,
                };
                push(&mut self.frames, open);
            }
        }
        Ok(())
    }

    fn handle_opening(
        &mut self,
        flags: MiningSuccessFlags,
        message: &Message<'_>,
        now: Monotonic,
    ) -> Result<(), ClientError> {
        let channel = match (message, self.config.channel) {
            (Message::OpenStandardMiningChannelSuccess(success), ChannelKind::Standard)
                if success.request_id == REQUEST_ID =>
            {
                Channel::standard(success, flags)
            }
            (Message::OpenExtendedMiningChannelSuccess(success), ChannelKind::Extended)
                if success.request_id == REQUEST_ID =>
            {
                Channel::extended(success, flags, self.config.min_extranonce_size)?
            }
            (Message::OpenMiningChannelError(error), _) if error.request_id == REQUEST_ID => {
                return Err(ClientError::ChannelRefused(printable(&error.error_code)));
            }
            (Message::Reconnect(reconnect), _) => {
                self.redirect(reconnect);
                return Ok(());
            }
            _ => return Err(ClientError::Misbehaved("it did not answer Open*MiningChannel first")),
        };
        self.events.push_back(Event::Opened(channel.id()));
        self.deadline = now + Self::QUIET_PATIENCE;
        self.state = State::Open(channel);
        Ok(())
    }

    fn handle_mining(
        &mut self,
        channel: &mut Channel,
        message: &Message<'_>,
        now: Monotonic,
    ) -> Result<(), ClientError> {
        let work = match message {
            Message::NewMiningJob(job) => channel.handle_standard_job(job, now)?,
            Message::NewExtendedMiningJob(job) => channel.handle_extended_job(job, now)?,
            Message::SetNewPrevHash(prev_hash) => channel.handle_prev_hash(prev_hash, now)?,
            other => return self.handle_other(channel, other),
        };
        self.events.extend(work.map(Event::Work));
        Ok(())
    }

    /// What gives no work at once.
    fn handle_other(&mut self, channel: &mut Channel, message: &Message<'_>) -> Result<(), ClientError> {
        match message {
            Message::SetTarget(set) => channel.handle_target(set),
            Message::SetExtranoncePrefix(set) => channel.handle_extranonce_prefix(set),
            Message::SetGroupChannel(set) => channel.handle_group(set),
            Message::SubmitSharesSuccess(success) => self.handle_accepted(channel, success),
            Message::SubmitSharesError(error) => self.handle_rejected(channel, error),
            Message::Reconnect(reconnect) => self.redirect(reconnect),
            Message::CloseChannel(close) if channel.is_meant(close.channel_id) => {
                return Err(ClientError::ChannelClosed(printable(&close.reason_code)));
            }
            // About other channels, or answers to what this client never asks.
            Message::CloseChannel(_)
            | Message::UpdateChannelError(_)
            | Message::ChannelEndpointChanged(_) => {}
            _ => return Err(ClientError::Misbehaved("it sent a message out of turn")),
        }
        Ok(())
    }

    fn handle_accepted(&mut self, channel: &Channel, success: &mining::SubmitSharesSuccess) {
        if channel.is_meant(success.channel_id) {
            let (submits, shares) = (success.new_submits_accepted_count, Shares(success.new_shares_sum));
            self.events.push_back(Event::Accepted { submits, shares });
        }
    }

    fn handle_rejected(&mut self, channel: &Channel, error: &mining::SubmitSharesError<'_>) {
        if channel.is_meant(error.channel_id) {
            let code = match SubmitSharesError::from_wire(&error.error_code) {
                Some(code) => RejectCode::Known(code),
                None => RejectCode::Other(printable(&error.error_code)),
            };
            let sequence_number = SequenceNumber(error.sequence_number);
            self.events.push_back(Event::Rejected { sequence_number, code });
        }
    }

    fn redirect(&mut self, reconnect: &common::Reconnect<'_>) {
        let (host, port) = (printable(&reconnect.new_host), reconnect.new_port);
        self.events.push_back(Event::Reconnect { host, port });
    }
}

/// A miner of standard channels cannot make coinbases; everything else is left to the server.
fn setup_flags(channel: ChannelKind) -> MiningSetupFlags {
    match channel {
        ChannelKind::Standard => MiningSetupFlags::REQUIRES_STANDARD_JOBS,
        ChannelKind::Extended => MiningSetupFlags::NONE,
    }
}

/// The user as the wire carries it.
fn user_identity(config: &ClientConfig) -> Str0255<'_> {
    Str0255::try_from(&config.user).expect("`Client::new` checks its length")
}

fn goodbye(channel: ChannelId) -> mining::CloseChannel<'static> {
    let reason_code = Str0255::try_from("client stops").expect("that is shorter than 256 bytes");
    mining::CloseChannel { channel_id: channel.0, reason_code }
}

/// Appends a message; all that a client sends is short.
fn push<'a>(frames: &mut FrameQueue, message: impl Into<Message<'a>>) {
    encode(message, frames).expect("a client's messages are far shorter than a frame can be");
}

/// A server's text without what could disturb a terminal or a log (spec 3.5 forbids control characters).
fn printable(text: &Str0255<'_>) -> String {
    text.as_bytes().escape_ascii().to_string()
}

#[cfg(test)]
mod tests;

//! The connection to the pool: one extended channel, custom jobs, and the shares of all miners below.

use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::extensions::{RequestExtensions, WORKER_HASHRATE_TRACKING};
use adit_messages::flags::MiningSetupFlags;
use adit_messages::tlv::Tlv;
use adit_messages::types::{B032, Seq064K, Str0255, U256};
use adit_messages::{Message, Protocol, Side, common, encode_with_tlvs, limits, mining};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{ChannelId, Hashrate, JobId, Monotonic, Target};

use super::relay::Passed;
use super::setup::{SETUP_PATIENCE, check_deadline, introduce, printable, push, read, read_answer};
use super::upstream::{Server, UpstreamConfig, UpstreamError};
use super::{Proposal, Share};

/// The number of the request that opens the channel.
const OPEN_REQUEST: u32 = 1;

/// What the pool said.
#[derive(Debug)]
pub(super) enum PoolEvent {
    /// The channel is open.
    Opened,
    /// The channel's part of the extranonce is another one from now on.
    Moved,
    /// A custom job is accepted, with its number at the pool.
    JobAccepted { request: u32, job: JobId },
    /// A custom job is refused.
    JobRefused { request: u32, code: String },
    /// All shares up to that number are dealt with; so many were accepted.
    SharesAccepted { last: u32, count: u32 },
    /// A share is refused.
    ShareRefused { sequence_number: u32, code: String },
    /// The pool wants its miners elsewhere.
    Redirected { host: String, port: u16 },
}

/// The open channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    id: ChannelId,
    group: ChannelId,
    pub(super) prefix: Box<[u8]>,
    pub(super) extranonce_size: usize,
    /// What shares of jobs to come must meet.
    pub(super) target: Target,
}

/// One connection.
#[derive(Debug)]
pub(super) struct PoolSide {
    config: Arc<UpstreamConfig>,
    state: State,
    /// Whether shares carry the name of who found them (extension 0x0002).
    names_workers: bool,
    frames: FrameQueue,
    events: VecDeque<PoolEvent>,
    /// When the pool's silence ends the connection.
    deadline: Option<Monotonic>,
    last_sequence_number: u32,
}

#[derive(Debug)]
enum State {
    ExpectSetup,
    ExpectChannel,
    Open(Channel),
}

impl PoolSide {
    pub(super) fn new(config: Arc<UpstreamConfig>, now: Monotonic) -> Self {
        let flags = MiningSetupFlags::REQUIRES_WORK_SELECTION | MiningSetupFlags::REQUIRES_VERSION_ROLLING;
        let mut frames = FrameQueue::default();
        let (host, port) = &config.pool;
        introduce(common::Protocol::MiningProtocol, flags.bits(), (host, *port), &mut frames);
        Self {
            config,
            state: State::ExpectSetup,
            names_workers: false,
            frames,
            events: VecDeque::new(),
            deadline: Some(now + SETUP_PATIENCE),
            last_sequence_number: 0,
        }
    }

    pub(super) fn frame_limit(&self, header: &Header) -> usize {
        match self.state {
            State::ExpectSetup => limits::before_setup(Side::Client, header),
            State::ExpectChannel | State::Open(_) => {
                limits::after_setup(Protocol::Mining, Side::Client, header)
            }
        }
    }

    pub(super) const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    pub(super) fn poll_event(&mut self) -> Option<PoolEvent> {
        self.events.pop_front()
    }

    pub(super) const fn poll_timeout(&self) -> Option<Monotonic> {
        self.deadline
    }

    pub(super) fn handle_timeout(&self, now: Monotonic) -> Result<(), UpstreamError> {
        let what = match self.state {
            State::ExpectSetup => "an answer to SetupConnection",
            State::ExpectChannel | State::Open(_) => "the channel",
        };
        check_deadline(Server::Pool, self.deadline, what, now)
    }

    pub(super) const fn channel(&self) -> Option<&Channel> {
        match &self.state {
            State::Open(channel) => Some(channel),
            State::ExpectSetup | State::ExpectChannel => None,
        }
    }

    pub(super) fn handle_frame(&mut self, frame: Frame<'_>, now: Monotonic) -> Result<(), UpstreamError> {
        let Some(message) = read(Server::Pool, Protocol::Mining, frame)? else { return Ok(()) };
        match &mut self.state {
            State::ExpectSetup => {
                read_answer(Server::Pool, &message)?;
                self.open_channel();
                (self.state, self.deadline) = (State::ExpectChannel, Some(now + SETUP_PATIENCE));
            }
            State::ExpectChannel => return self.handle_opening(&message),
            State::Open(_) => return self.handle_open(&message),
        }
        Ok(())
    }

    /// Asks for the channel, and before that to be allowed to name workers, which no answer is waited for.
    fn open_channel(&mut self) {
        let extensions = Seq064K::new(vec![WORKER_HASHRATE_TRACKING]).expect("one element is few");
        if self.config.names_workers {
            push(&mut self.frames, RequestExtensions { request_id: 0, requested_extensions: extensions });
        }
        let max_target = Target::MAX.to_le_bytes();
        let open = mining::OpenExtendedMiningChannel {
            request_id: OPEN_REQUEST,
            user_identity: Str0255::try_from(&*self.config.user)
                .expect("the config's check limits its length"),
            nominal_hash_rate: self.config.nominal_hashrate.to_wire(),
            max_target: U256::from(&max_target),
            min_extranonce_size: self.config.min_extranonce_size,
        };
        push(&mut self.frames, open);
    }

    fn handle_opening(&mut self, message: &Message<'_>) -> Result<(), UpstreamError> {
        match message {
            Message::OpenExtendedMiningChannelSuccess(success) if success.request_id == OPEN_REQUEST => {
                let prefix: Box<[u8]> = success.extranonce_prefix.as_bytes().into();
                let (size, least) = (success.extranonce_size, self.config.min_extranonce_size);
                if size < least || prefix.len() + usize::from(size) > 32 {
                    return Err(UpstreamError::Extranonce { prefix: prefix.len(), size, least });
                }
                let channel = Channel {
                    id: ChannelId(success.channel_id),
                    group: ChannelId(success.group_channel_id),
                    prefix,
                    extranonce_size: size.into(),
                    target: Target::from_le_bytes(*success.target.as_array()),
                };
                (self.state, self.deadline) = (State::Open(channel), None);
                self.events.push_back(PoolEvent::Opened);
            }
            Message::OpenMiningChannelError(error) => {
                return Err(UpstreamError::ChannelRefused(printable(error.error_code.as_bytes())));
            }
            other => self.handle_any(other)?,
        }
        Ok(())
    }

    fn handle_open(&mut self, message: &Message<'_>) -> Result<(), UpstreamError> {
        let State::Open(channel) = &mut self.state else { return Ok(()) };
        let is_meant = |id: u32| [channel.id, channel.group].contains(&ChannelId(id));
        match message {
            Message::SetTarget(set) if is_meant(set.channel_id) => {
                channel.target = Target::from_le_bytes(*set.maximum_target.as_array());
            }
            Message::SetExtranoncePrefix(set) if set.channel_id == channel.id.0 => {
                let prefix = set.extranonce_prefix.as_bytes();
                if prefix.len() + channel.extranonce_size > 32 {
                    let (prefix, least) = (prefix.len(), self.config.min_extranonce_size);
                    return Err(UpstreamError::Extranonce { prefix, size: least, least });
                }
                channel.prefix = prefix.into();
                self.events.push_back(PoolEvent::Moved);
            }
            Message::SetGroupChannel(set) if set.channel_ids.iter().any(|&id| id == channel.id.0) => {
                channel.group = ChannelId(set.group_channel_id);
            }
            Message::SetCustomMiningJobSuccess(success) => {
                let (request, job) = (success.request_id, JobId(success.job_id));
                self.events.push_back(PoolEvent::JobAccepted { request, job });
            }
            Message::SetCustomMiningJobError(error) => {
                let code = printable(error.error_code.as_bytes());
                self.events.push_back(PoolEvent::JobRefused { request: error.request_id, code });
            }
            Message::SubmitSharesSuccess(success) if success.channel_id == channel.id.0 => {
                let (last, count) = (success.last_sequence_number, success.new_submits_accepted_count);
                self.events.push_back(PoolEvent::SharesAccepted { last, count });
            }
            Message::SubmitSharesError(error) if error.channel_id == channel.id.0 => {
                let (sequence_number, code) = (error.sequence_number, printable(error.error_code.as_bytes()));
                self.events.push_back(PoolEvent::ShareRefused { sequence_number, code });
            }
            Message::CloseChannel(close) if is_meant(close.channel_id) => {
                return Err(UpstreamError::ChannelClosed(printable(close.reason_code.as_bytes())));
            }
            other => self.handle_any(other)?,
        }
        Ok(())
    }

    /// What may come at any time; the pool's own jobs and what is about other channels are not for us.
    fn handle_any(&mut self, message: &Message<'_>) -> Result<(), UpstreamError> {
        match message {
            Message::RequestExtensionsSuccess(success) => {
                let mut supported = success.supported_extensions.iter();
                self.names_workers = supported.any(|&extension| extension == WORKER_HASHRATE_TRACKING);
            }
            Message::Reconnect(reconnect) => self.events.push_back(PoolEvent::Redirected {
                host: printable(reconnect.new_host.as_bytes()),
                port: reconnect.new_port,
            }),
            Message::SetupConnectionSuccess(_) | Message::SetupConnectionError(_) => {
                let what = "it answered SetupConnection twice";
                return Err(UpstreamError::Misbehaved { server: Server::Pool, what });
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks the pool to pay for a job; nothing is sent before the channel is open.
    pub(super) fn set_custom_job(&mut self, request: u32, token: &[u8], proposal: &Proposal) {
        if let State::Open(channel) = &self.state {
            push(&mut self.frames, proposal.set(channel.id, request, token, &proposal.outputs()));
        }
    }

    /// Says how fast the miners below are together.
    pub(super) fn update(&mut self, nominal: Hashrate) {
        if let State::Open(channel) = &self.state {
            push(
                &mut self.frames,
                mining::UpdateChannel {
                    channel_id: channel.id.0,
                    nominal_hash_rate: nominal.to_wire(),
                    maximum_target: U256::from(&Target::MAX.to_le_bytes()),
                },
            );
        }
    }

    /// Submits a share; the answer is the number that the pool's answer will name, or `None` if its extranonce is too short for the channel.
    ///
    /// The pool puts the prefix before it that the channel had when the job was accepted, whatever it has now (spec 5.3.10).
    pub(super) fn submit(&mut self, passed: &Passed) -> Option<u32> {
        let State::Open(channel) = &self.state else { return None };
        let Passed { job, share } = passed;
        let Share { version, ntime, nonce, extranonce, worker, .. } = share;
        let (_, rolled) =
            extranonce.split_at_checked(extranonce.len().checked_sub(channel.extranonce_size)?)?;
        self.last_sequence_number = self.last_sequence_number.wrapping_add(1);
        let submit = mining::SubmitSharesExtended {
            channel_id: channel.id.0,
            sequence_number: self.last_sequence_number,
            job_id: job.0,
            nonce: *nonce,
            ntime: *ntime,
            version: *version,
            extranonce: B032::try_from(rolled).ok()?,
        };
        let name = worker.as_ref().filter(|_| self.names_workers);
        let name = name.and_then(|worker| Tlv::user_identity(worker.as_str()).ok());
        encode_with_tlvs(submit, name.as_slice(), &mut self.frames).expect("a share is short");
        Some(self.last_sequence_number)
    }
}

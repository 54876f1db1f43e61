//! Channels are opened, updated and closed (spec 5.3.2 to 5.3.9).

use adit_channel::{
    Channel, ChannelKind, ChannelTerms, ExtranoncePrefix, Reward, RewardKind, TargetOutOfRange, UserIdentity,
    Vardiff,
};
use adit_messages::error_code::{OpenMiningChannelError as OpenCode, UpdateChannelError as UpdateCode};
use adit_messages::mining;
use adit_messages::types::{B032, U256};
use adit_units::{ChannelId, Hashrate, Monotonic, Now, Target, Work as Hashes};
use tracing::debug;

use super::acknowledge::Report;
use super::breaker::Patience;
use super::custom::OwnJobs;
use super::{IDLE_TIMEOUT, OpenChannel, Session, State, Tally, place_of, send_target};
use crate::{Disconnect, Distribution};

/// By how many times an update must make shares harder for the session to ask for the next job.
const WISH_FACTOR: u128 = 4;

/// A request for a channel, of either kind.
#[derive(Clone, Copy)]
struct Request<'a> {
    request_id: u32,
    kind: ChannelKind,
    user_identity: &'a [u8],
    nominal_hash_rate: f32,
    max_target: Target,
    min_extranonce_size: u16,
}

impl Session {
    /// Takes in `OpenStandardMiningChannel` (spec 5.3.2).
    pub(super) fn handle_open_standard(
        &mut self,
        open: &mining::OpenStandardMiningChannel<'_>,
        now: Now,
    ) -> Result<(), Disconnect> {
        let request = Request {
            request_id: open.request_id,
            kind: ChannelKind::Standard,
            user_identity: open.user_identity.as_bytes(),
            nominal_hash_rate: open.nominal_hash_rate,
            max_target: Target::from_le_bytes(open.max_target.to_array()),
            min_extranonce_size: 0,
        };
        self.handle_open(&request, now)
    }

    /// Takes in `OpenExtendedMiningChannel` (spec 5.3.4).
    pub(super) fn handle_open_extended(
        &mut self,
        open: &mining::OpenExtendedMiningChannel<'_>,
        now: Now,
    ) -> Result<(), Disconnect> {
        let request = Request {
            request_id: open.request_id,
            kind: ChannelKind::Extended,
            user_identity: open.user_identity.as_bytes(),
            nominal_hash_rate: open.nominal_hash_rate,
            max_target: Target::from_le_bytes(open.max_target.to_array()),
            min_extranonce_size: open.min_extranonce_size,
        };
        self.handle_open(&request, now)
    }

    /// Opens a channel or says why not; where no extranonce prefix is left for one, asks the peer to connect anew.
    ///
    /// The answer comes first and alone, because there is firmware that waits for exactly that; then the job, as a future job, and
    /// the tip that makes it active.
    fn handle_open(&mut self, request: &Request<'_>, now: Now) -> Result<(), Disconnect> {
        if self.config.require_worker_names && !self.state.terms().worker_names {
            return Err(Disconnect::WorkerNamesRequired);
        }
        if self.extranonces.is_exhausted() && !self.is_full() {
            // No channel will ever be opened here again, and nothing but a new connection helps.
            self.reconnect("", 0);
            return Err(Disconnect::PrefixesExhausted);
        }
        if let State::ExpectChannel { may_negotiate, .. } = &mut self.state {
            *may_negotiate = false;
        }
        match self.try_open(request, now) {
            Ok(open) => {
                self.state = State::Mining { terms: self.state.terms() };
                if self.channels.is_empty() {
                    self.jobs.forget_untold(self.reserve.as_ref().map(|ahead| ahead.id()));
                }
                self.send_open_success(request.request_id, &open.channel);
                self.send_first_job(open, now);
            }
            Err(code) => {
                debug!(connection = self.connection.0, %code, "channel refused");
                let request_id = request.request_id;
                self.send(mining::OpenMiningChannelError { request_id, error_code: code.to_wire() });
            }
        }
        Ok(())
    }

    /// The channel that a request asks for.
    fn try_open(&mut self, request: &Request<'_>, now: Now) -> Result<OpenChannel, OpenCode> {
        let Request { kind, max_target, .. } = *request;
        if kind == ChannelKind::Extended && self.state.terms().standard_jobs_only {
            return Err(OpenCode::ExtendedChannelsNotSupportedForStandardJobs);
        }
        if !self.serves(kind) {
            return Err(OpenCode::StandardChannelsNotSupportedForCustomWork);
        }
        let (user, reward) = self.user(request.user_identity)?;
        if self.custom.is_some() && reward != Reward::Pooled {
            // The miner's own coinbase says whom it pays.
            return Err(OpenCode::InvalidUserIdentity);
        }
        let nominal =
            Hashrate::from_wire(request.nominal_hash_rate).map_err(|_| OpenCode::InvalidNominalHashrate)?;
        if usize::from(request.min_extranonce_size) > self.extranonces.base().rollable_len() {
            return Err(OpenCode::MinExtranonceSizeTooLarge);
        }
        let active = self.jobs.active();
        let network = active.map_or(Target::ZERO, |(_, work)| work.tip().target);
        let vardiff = Vardiff::new(self.config.vardiff, nominal, max_target, network)
            .map_err(|TargetOutOfRange { .. }| OpenCode::MaxTargetOutOfRange)?;
        let first = active.map_or_else(|| self.jobs.next_activation(), |(activation, _)| activation);
        let own_jobs = self.custom.as_ref().map(|_| Box::<OwnJobs>::default());
        let first = own_jobs.as_ref().map_or(first, |jobs| jobs.next_activation());
        let distribution = Distribution::of(&reward);
        let known = self.groups.of(&distribution);
        if self.is_full() || known.is_none() && !self.groups.has_room() {
            return Err(OpenCode::ChannelCapacityExhausted);
        }
        let extranonce = self.extranonces.next_prefix().ok_or(OpenCode::ChannelCapacityExhausted)?;
        let id = self.next_number();
        let group = known.unwrap_or_else(|| self.open_group(distribution));
        let (connection, channel) = (self.connection.0, id.0);
        debug!(connection, channel, ?kind, %user, ?reward, %nominal, "channel opened");
        let payee = reward.payee(&user);
        let terms = ChannelTerms { id, kind, user, extranonce, group };
        let pooled = match reward {
            Reward::Donated => RewardKind::Donated,
            Reward::Pooled | Reward::Solo(_) | Reward::Split { .. } => RewardKind::Pooled,
        };
        Ok(OpenChannel {
            channel: Channel::new(terms, vardiff, first, self.seen_key),
            own_jobs,
            report: Report::default(),
            patience: Patience::new(now.monotonic),
            pooled,
            payee,
            prefix_untold: false,
            tally: Tally::new(max_target, now.monotonic),
        })
    }

    /// Whether the connection has as many channels as it may have.
    fn is_full(&self) -> bool {
        self.channels.len() >= usize::from(self.config.channels_per_connection)
    }

    /// A number that nothing on this connection has had (spec 5.2.3).
    fn next_number(&mut self) -> ChannelId {
        let next = self.last_number.0.checked_add(1);
        // Each takes an extranonce or an operation of ours: no peer can bring that many about.
        self.last_number =
            ChannelId(next.expect("a connection ends before it has had 2^32 channels and groups"));
        self.last_number
    }

    /// A group for a way to pay that no channel has had.
    pub(super) fn open_group(&mut self, distribution: Distribution) -> ChannelId {
        let id = self.next_number();
        self.groups.open(id, distribution);
        id
    }

    /// Who the shares of a channel are credited to, and who pays for them.
    fn user(&self, bytes: &[u8]) -> Result<(UserIdentity, Reward), OpenCode> {
        let user = UserIdentity::from_wire(bytes).map_err(|_| OpenCode::InvalidUserIdentity)?;
        if self.config.any_user {
            return Ok((user, Reward::Pooled));
        }
        match Reward::of(&user, self.config.network) {
            Ok(Reward::Solo(_) | Reward::Split { .. }) if !self.config.solo => {
                debug!(connection = self.connection.0, %user, "asks for a block of its own");
                Err(OpenCode::InvalidUserIdentity)
            }
            Ok(reward) => Ok((user, reward)),
            Err(reason) => {
                debug!(connection = self.connection.0, %user, %reason, "cannot be paid");
                Err(OpenCode::InvalidUserIdentity)
            }
        }
    }

    /// Answers that a channel is open (spec 5.3.3, 5.3.5).
    fn send_open_success(&mut self, request_id: u32, channel: &Channel) {
        let (target, prefix) = (channel.target().to_le_bytes(), channel.extranonce());
        let (channel_id, group_channel_id) = (channel.id().0, channel.group().0);
        match channel.kind() {
            ChannelKind::Standard => {
                let extranonce_prefix = prefix.to_full();
                self.send(mining::OpenStandardMiningChannelSuccess {
                    request_id,
                    channel_id,
                    target: U256::from(&target),
                    extranonce_prefix: prefix_bytes(extranonce_prefix.as_bytes()),
                    group_channel_id,
                });
            }
            ChannelKind::Extended => self.send(mining::OpenExtendedMiningChannelSuccess {
                request_id,
                channel_id,
                target: U256::from(&target),
                extranonce_size: rollable_len(&prefix),
                extranonce_prefix: prefix_bytes(prefix.as_bytes()),
                group_channel_id,
            }),
        }
    }

    /// Takes in `UpdateChannel` (spec 5.3.7).
    pub(super) fn handle_update(&mut self, update: &mining::UpdateChannel<'_>, now: Monotonic) {
        let channel_id = update.channel_id;
        match self.try_update(update, now) {
            Ok(None) => {}
            Ok(Some(target)) => send_target(&mut self.frames, ChannelId(channel_id), target),
            Err(code) => {
                self.send(mining::UpdateChannelError { channel_id, error_code: code.to_wire() });
            }
        }
    }

    /// The target that an update makes necessary at once.
    fn try_update(
        &mut self,
        update: &mining::UpdateChannel<'_>,
        now: Monotonic,
    ) -> Result<Option<Target>, UpdateCode> {
        let place = place_of(&self.channels, ChannelId(update.channel_id));
        let open =
            place.and_then(|place| self.channels.get_mut(place)).ok_or(UpdateCode::InvalidChannelId)?;
        let nominal =
            Hashrate::from_wire(update.nominal_hash_rate).map_err(|_| UpdateCode::InvalidNominalHashrate)?;
        let max_target = Target::from_le_bytes(update.maximum_target.to_array());
        let before = open.channel.target();
        let announced = match &open.own_jobs {
            Some(jobs) => open.channel.update(nominal, max_target, jobs),
            None => open.channel.update(nominal, max_target, &self.jobs),
        };
        let announced = announced.map_err(|TargetOutOfRange { .. }| UpdateCode::MaxTargetOutOfRange)?;
        open.tally.max_target = max_target;
        if self.custom.is_none() && announced.is_some_and(|target| is_much_harder(target, before)) {
            self.wish.note_told(now);
        }
        Ok(announced)
    }

    /// Takes in `CloseChannel`; the number of a group means all of its channels (spec 5.3.9).
    ///
    /// A channel that is not there needs no closing and gets no answer.
    pub(super) fn handle_close(&mut self, close: &mining::CloseChannel<'_>, now: Now) {
        self.close(ChannelId(close.channel_id), now);
    }

    /// Closes a channel or all channels of a group; whether there were any.
    pub(super) fn close(&mut self, id: ChannelId, now: Now) -> bool {
        let before = self.channels.len();
        self.channels.retain(|open| open.channel.id() != id && open.channel.group() != id);
        let closed = before - self.channels.len();
        debug!(connection = self.connection.0, channel = id.0, closed, "channel closed");
        if closed == 0 {
            return false;
        }
        self.channels.shrink_to(1);
        self.count_remembered();
        self.forget_groups();
        self.forget_workers();
        if let (true, State::Mining { terms }) = (self.channels.is_empty(), self.state) {
            let deadline = now.monotonic + IDLE_TIMEOUT;
            self.state = State::ExpectChannel { deadline, terms, may_negotiate: false };
            self.jobs.forget_past();
        }
        true
    }

    /// Forgets the groups whose jobs no channel can submit shares for any more.
    pub(super) fn forget_groups(&mut self) {
        let channels = &self.channels;
        self.groups.retain(|group| channels.iter().any(|open| open.channel.works_for(group)));
    }
}

/// Whether so many more hashes make a share than before that the miner should not have to wait for it.
fn is_much_harder(target: Target, before: Target) -> bool {
    let hashes = |target: Target| Hashes::to_hashes(target.to_work());
    hashes(target) / WISH_FACTOR > hashes(before)
}

/// What is left to an extended channel, as its message carries it.
fn rollable_len(prefix: &ExtranoncePrefix) -> u16 {
    u16::try_from(prefix.rollable_len()).expect("an extranonce is at most 32 bytes long")
}

/// An extranonce prefix as messages carry it.
pub(super) fn prefix_bytes(prefix: &[u8]) -> B032<'_> {
    B032::new(prefix).expect("no extranonce is longer than 32 bytes")
}

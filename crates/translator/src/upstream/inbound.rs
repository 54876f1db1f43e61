//! What the pool says, and what it changes.

use adit_messages::extensions::WORKER_HASHRATE_TRACKING;
use adit_messages::{DecodeError, Direction, Message, Protocol, decode, extensions, mining};
use adit_transport::Frame;
use adit_units::{Monotonic, Target};

use super::channel::{Channel, Speed};
use super::error::refusal;
use super::jobs::{ChainEnd, JobBody, Made};
use super::setup::{EXTENSIONS_REQUEST, ask_for_names, check_required, code, printable, read_answer};
use super::{EXTENSIONS_PATIENCE, Event, OPEN_PATIENCE, Outcome, State, Upstream, UpstreamError};

impl Upstream {
    /// Takes in a frame.
    pub(super) fn hear(&mut self, frame: Frame<'_>, now: Monotonic) -> Result<(), UpstreamError> {
        let message = match decode(Protocol::Mining, frame) {
            Ok(message) => message,
            // Extensions that nobody agreed on, and messages of a later version, are not for us (spec 3.4.1).
            Err(DecodeError::UnknownMessage { .. }) if !matches!(self.state, State::ExpectSetup { .. }) => {
                self.ignored.unknown += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if let State::ExpectSetup { .. } = self.state {
            self.fixed_version = read_answer(&message)?;
            self.negotiate(now);
            return Ok(());
        }
        if message.info().direction == Direction::ToServer {
            return Err(UpstreamError::Misbehaved("it sent a message that only clients send"));
        }
        self.hear_of_channels(&message, now)
    }

    /// Asks for extensions if any are wanted; what no answer comes to is gone without.
    fn negotiate(&mut self, now: Monotonic) {
        if self.config.names_workers {
            ask_for_names(&mut self.frames);
            self.state = State::ExpectExtensions { deadline: now + EXTENSIONS_PATIENCE };
        } else {
            self.be_ready();
        }
    }

    fn hear_of_channels(&mut self, message: &Message<'_>, now: Monotonic) -> Result<(), UpstreamError> {
        match message {
            Message::OpenExtendedMiningChannelSuccess(success) => self.handle_opened(success, now)?,
            Message::OpenMiningChannelError(error) => self.handle_refused(error, now),
            Message::NewExtendedMiningJob(job) => self.handle_job(job)?,
            Message::SetNewPrevHash(set) => self.handle_prev_hash(set, now)?,
            Message::SetTarget(set) => self.handle_target(set),
            Message::SetExtranoncePrefix(set) => self.handle_prefix(set)?,
            Message::SetGroupChannel(set) => self.handle_group(set)?,
            Message::SubmitSharesSuccess(success) => self.handle_accepted(success),
            Message::SubmitSharesError(error) => self.handle_share_refused(error),
            Message::CloseChannel(close) => self.handle_close(close),
            Message::UpdateChannelError(error) => {
                let is_open = self.registry.by_id(error.channel_id).is_some();
                let counter = if is_open { &mut self.ignored.updates } else { &mut self.ignored.strays };
                *counter += 1;
            }
            other => return self.hear_of_connection(other),
        }
        Ok(())
    }

    fn hear_of_connection(&mut self, message: &Message<'_>) -> Result<(), UpstreamError> {
        match message {
            Message::RequestExtensionsSuccess(success) => self.handle_extensions(success),
            Message::RequestExtensionsError(error) if self.has_asked(error.request_id) => {
                check_required(error)?;
                self.end_negotiation();
            }
            Message::Reconnect(reconnect) => self.events.push_back(Event::Reconnect {
                host: printable(reconnect.new_host.as_bytes()),
                port: reconnect.new_port,
            }),
            Message::SetupConnectionSuccess(_) | Message::SetupConnectionError(_) => {
                return Err(UpstreamError::Misbehaved("it answered SetupConnection twice"));
            }
            Message::NewMiningJob(job) if !self.registry.addressed(job.channel_id).is_empty() => {
                return Err(UpstreamError::Misbehaved("it sent a standard job to an extended channel"));
            }
            Message::OpenStandardMiningChannelSuccess(success)
                if self.registry.is_asked(success.request_id) =>
            {
                return Err(UpstreamError::Misbehaved(
                    "it opened a standard channel instead of an extended one",
                ));
            }
            Message::NewMiningJob(_) => self.ignored.strays += 1,
            Message::ChannelEndpointChanged(_) => self.ignored.unknown += 1,
            // What is left answers what is never asked here.
            _ => self.ignored.answers += 1,
        }
        Ok(())
    }

    fn has_asked(&self, request: u16) -> bool {
        self.config.names_workers && request == EXTENSIONS_REQUEST
    }

    fn handle_extensions(&mut self, success: &extensions::RequestExtensionsSuccess<'_>) {
        if !self.has_asked(success.request_id) {
            self.ignored.answers += 1;
            return;
        }
        let mut supported = success.supported_extensions.iter();
        self.names_workers = supported.any(|&extension| extension == WORKER_HASHRATE_TRACKING);
        self.end_negotiation();
    }

    fn end_negotiation(&mut self) {
        if let State::ExpectExtensions { .. } = self.state {
            self.be_ready();
        }
    }

    /// One more request for a channel is answered.
    fn note_answer(&mut self, now: Monotonic) {
        let is_asked = self.registry.opening_len() > 0;
        self.opening_deadline = is_asked.then(|| now + OPEN_PATIENCE);
    }

    fn handle_opened(
        &mut self,
        success: &mining::OpenExtendedMiningChannelSuccess<'_>,
        now: Monotonic,
    ) -> Result<(), UpstreamError> {
        let Some(opening) = self.registry.answer(success.request_id) else {
            // A pool that leaves any number of bytes has not read what was asked for, and the channel is nobody's.
            match self.probe.take_if(|probe| *probe == success.request_id) {
                Some(_) => self.send_close(success.channel_id, "nobody needs it"),
                None => self.ignored.answers += 1,
            }
            return Ok(());
        };
        self.note_answer(now);
        self.registry.check_new(success.channel_id)?;
        let Some(key) = opening.key else {
            self.send_close(success.channel_id, "the machine left");
            return Ok(());
        };
        let mut channel = Channel::new(success, self.config.min_extranonce_size, key, opening.user, now)?;
        channel.speed = Speed::told(opening.nominal, opening.asked_at);
        channel.speed.become_now(opening.is);
        self.registry.insert(channel);
        self.events.push_back(Event::Opened { key });
        Ok(())
    }

    fn handle_refused(&mut self, error: &mining::OpenMiningChannelError<'_>, now: Monotonic) {
        let Some(opening) = self.registry.answer(error.request_id) else {
            let is_probe = self.probe.take_if(|probe| *probe == error.request_id).is_some();
            self.ignored.answers += u64::from(!is_probe);
            return;
        };
        self.note_answer(now);
        let code = refusal(printable(error.error_code.as_bytes()));
        self.events.extend(opening.key.map(|key| Event::Refused { key, code }));
    }

    fn handle_job(&mut self, job: &mining::NewExtendedMiningJob<'_>) -> Result<(), UpstreamError> {
        let ids = self.addressed(job.channel_id);
        if ids.is_empty() {
            return Ok(());
        }
        let body = JobBody::new(job, self.fixed_version, &self.budget)?;
        let (min_ntime, mut made) = (job.min_ntime.as_ref().copied(), Made::like(self.newest.take()));
        for id in ids {
            let take = |channel: &mut Channel| channel.take_job(&body, min_ntime, &mut made);
            let work = self.registry.change(id, take).transpose()?.flatten();
            self.events.extend(work.map(Event::Work));
        }
        self.newest = made.into_newest();
        Ok(())
    }

    fn handle_prev_hash(
        &mut self,
        set: &mining::SetNewPrevHash<'_>,
        now: Monotonic,
    ) -> Result<(), UpstreamError> {
        let ids = self.addressed(set.channel_id);
        if ids.is_empty() {
            return Ok(());
        }
        self.last_generation += 1;
        let chain = ChainEnd::new(set, self.last_generation);
        let (mut made, mut is_known) = (Made::like(self.newest.take()), false);
        for id in ids {
            let take = |channel: &mut Channel| channel.take_tip(chain, set.job_id, &mut made, now);
            let work = self.registry.change(id, take).transpose()?.flatten();
            is_known |= work.is_some();
            self.events.extend(work.map(Event::Work));
        }
        self.newest = made.into_newest();
        // A member that came after the job waits for one of its own.
        if is_known {
            Ok(())
        } else {
            Err(UpstreamError::Misbehaved("SetNewPrevHash names a job that was not sent as a future job"))
        }
    }

    fn handle_target(&mut self, set: &mining::SetTarget<'_>) {
        let target = Target::from_le_bytes(*set.maximum_target.as_array());
        for id in self.addressed(set.channel_id) {
            if let Some(channel) = self.registry.by_id(id) {
                channel.set_target(target);
            }
        }
    }

    /// A group has no prefix (spec 5.3.10).
    fn handle_prefix(&mut self, set: &mining::SetExtranoncePrefix<'_>) -> Result<(), UpstreamError> {
        match self.registry.by_id(set.channel_id) {
            Some(channel) => channel.set_prefix(set.extranonce_prefix.as_bytes()),
            None => {
                self.ignored.strays += 1;
                Ok(())
            }
        }
    }

    fn handle_group(&mut self, set: &mining::SetGroupChannel<'_>) -> Result<(), UpstreamError> {
        for &id in set.channel_ids.iter() {
            let is_open = self.registry.regroup(id, set.group_channel_id)?;
            self.ignored.strays += u64::from(!is_open);
        }
        Ok(())
    }

    /// All shares up to that one which were not refused are accepted (spec 5.3.13).
    fn handle_accepted(&mut self, success: &mining::SubmitSharesSuccess) {
        let Some(channel) = self.registry.by_id(success.channel_id) else {
            self.ignored.strays += 1;
            return;
        };
        let before = channel.pending.len();
        while let Some(tag) = channel.pending.pop_up_to(success.last_sequence_number) {
            self.events.push_back(Event::Settled { tag, outcome: Outcome::Accepted });
        }
        let settled = before - channel.pending.len();
        self.pending = self.pending.saturating_sub(settled);
        if settled > 0 {
            self.silence.hear_answer(settled);
        }
        self.ignored.answers += u64::from(settled == 0);
    }

    fn handle_share_refused(&mut self, error: &mining::SubmitSharesError<'_>) {
        let told = (error.channel_id, error.sequence_number);
        if self.doubtful.take_if(|doubtful| *doubtful == told).is_some() {
            self.silence.hear_refusal_of_doubt();
            return;
        }
        let Some(channel) = self.registry.by_id(error.channel_id) else {
            self.ignored.strays += 1;
            return;
        };
        let Some(tag) = channel.pending.remove(error.sequence_number) else {
            self.ignored.answers += 1;
            return;
        };
        self.pending = self.pending.saturating_sub(1);
        // Refusals are not held back where others are, so they tell nothing of how many are.
        self.silence.hear_answer(0);
        let outcome = Outcome::Refused(code(error.error_code.as_bytes()));
        self.events.push_back(Event::Settled { tag, outcome });
    }

    /// The number of a group means all of its channels (spec 5.3.9).
    fn handle_close(&mut self, close: &mining::CloseChannel<'_>) {
        let reason = printable(close.reason_code.as_bytes());
        for id in self.addressed(close.channel_id) {
            self.close_for(id, &reason);
        }
    }

    /// Whom a message is for; one for nobody is counted.
    fn addressed(&mut self, id: u32) -> Vec<u32> {
        let ids = self.registry.addressed(id);
        self.ignored.strays += u64::from(ids.is_empty());
        ids
    }
}

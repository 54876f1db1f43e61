//! The client's side of one connection to an SV2 pool: any number of extended channels, their work, and their shares on the way up.
//!
//! A shell gives an [`Upstream`] what comes from the pool, frame by frame, sends what is in [`Upstream::frames`], and calls it when
//! [`Upstream::poll_timeout`] says so. Who wants to mine opens a channel under a key of its own and gets [`Event::Work`] for it. Nothing
//! that the pool sends makes it panic or grow without bound; what no pool may send ends the connection with an error that names it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::tlv::Tlv;
use adit_messages::types::{B032, U256};
use adit_messages::{Protocol, Side, encode_with_tlvs, limits, mining};
use adit_share::{Extranonce, Job, MAX_EXTRANONCE_LEN};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{Hashrate, Monotonic, Target};

mod channel;
mod error;
mod event;
mod inbound;
mod jobs;
pub mod payout;
mod registry;
mod setup;
mod silence;

pub use channel::PENDING_MAX;
pub use error::UpstreamError;
pub use event::{
    ChannelView, ChannelWork, Event, Ignored, NotOpened, NotSubmitted, Outcome, Source, UpShare,
};
pub use registry::CHANNELS_MAX;
pub use setup::UpstreamConfig;
pub use silence::{
    ANSWER_PATIENCE, CROWD, CROWD_AT_FIRST, DOUBT_AFTER, DOUBT_AFTER_MAX, DOUBT_AFTER_NEXT_MAX, PROBE_AFTER,
    PROBE_PATIENCE, PROBE_PAUSE,
};

use channel::{Channel, Speed};
use jobs::Budget;
pub(crate) use jobs::height;
use registry::{Opening, Registry};
use setup::{cut, introduce, push, text};
use silence::{Finding, Silence};

/// How long the pool may take to answer `SetupConnection`.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(10);

/// How long the pool may take to answer a request for extensions before it is treated as one that knows of none.
///
/// Nothing is lost by being hasty: an answer that comes later still holds, and a pool that answers one thing after the other gives it
/// before it opens a channel, so before any share. A pool that never answers costs a failover no more than this.
pub const EXTENSIONS_PATIENCE: Duration = Duration::from_millis(300);

/// How long the pool may go without answering any of the requests for channels that it has.
pub const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// How long a channel may be without a job before it is given up.
pub const WORK_PATIENCE: Duration = Duration::from_secs(30);

/// How long a pool with open channels may say nothing at all, if no shares wait for its answer; with new jobs every minute or so that is a
/// dead line.
pub const QUIET_PATIENCE: Duration = Duration::from_secs(600);

/// How long to wait at least before the pool is told of another speed of a channel.
pub const HASHRATE_INTERVAL: Duration = Duration::from_secs(10);

/// The same where the speed is more than twice what the pool knows, because until then shares come far more often than it wants them.
pub const GROWTH_INTERVAL: Duration = Duration::from_secs(1);

/// The most shares of a connection that may wait for the pool's answer.
pub const PENDING_TOTAL_MAX: usize = 1 << 18;

/// A number that no job has: pools count them from one, or draw them, and then a share with no work in it is refused for another reason.
const NO_JOB: u32 = u32::MAX;

/// One connection to a pool.
#[derive(Debug)]
pub struct Upstream {
    config: Arc<UpstreamConfig>,
    state: State,
    /// Whether shares carry the name of who found them (extension 0x0002).
    names_workers: bool,
    /// Whether the pool takes no other version than that of the job.
    fixed_version: bool,
    frames: FrameQueue,
    events: VecDeque<Event>,
    registry: Registry,
    budget: Budget,
    /// What jobs of other channels are likely to have in common with the next ones.
    newest: Option<Arc<Job>>,
    /// How many shares wait for an answer, of all channels.
    pending: usize,
    last_generation: u64,
    silence: Silence,
    /// The request that the pool was last sent to see whether it is there.
    probe: Option<u32>,
    /// The channel and the number of the share that the pool was last given to refuse.
    doubtful: Option<(u32, u32)>,
    /// When the pool must have answered one more request for a channel.
    opening_deadline: Option<Monotonic>,
    ignored: Ignored,
}

/// Named by what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The answer to `SetupConnection`.
    ExpectSetup { deadline: Monotonic },
    /// The answer to `RequestExtensions`.
    ExpectExtensions { deadline: Monotonic },
    /// Nothing in particular.
    Ready,
}

impl Upstream {
    /// A connection that was just made; its first frame is already in [`Self::frames`].
    #[must_use]
    pub fn new(config: &Arc<UpstreamConfig>, now: Monotonic) -> Self {
        let mut frames = FrameQueue::default();
        introduce(config, &mut frames);
        Self {
            config: Arc::clone(config),
            state: State::ExpectSetup { deadline: now + SETUP_PATIENCE },
            names_workers: false,
            fixed_version: false,
            frames,
            events: VecDeque::new(),
            registry: Registry::default(),
            budget: Budget::default(),
            newest: None,
            pending: 0,
            last_generation: 0,
            silence: Silence::new(config.doubt_after, now),
            probe: None,
            doubtful: None,
            opening_deadline: None,
            ignored: Ignored::default(),
        }
    }

    /// The most payload bytes that a frame may have now.
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        match self.state {
            State::ExpectSetup { .. } => limits::before_setup(Side::Client, header),
            State::ExpectExtensions { .. } | State::Ready => {
                limits::after_setup(Protocol::Mining, Side::Client, header)
            }
        }
    }

    /// What is to be sent; send it and [`FrameQueue::clear`] it, or hand it to what does both.
    pub const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    /// The next thing that happened, or `None` if nothing more has; to be asked after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes in a frame from the pool.
    ///
    /// # Errors
    ///
    /// If the connection is of no more use; take the events that are left, and then close it.
    pub fn handle_frame(&mut self, frame: Frame<'_>, now: Monotonic) -> Result<(), UpstreamError> {
        self.silence.hear(now);
        self.hear(frame, now)
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If the pool has been silent for too long; close the connection.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Result<(), UpstreamError> {
        match self.state {
            State::ExpectSetup { deadline } if deadline <= now => {
                return Err(UpstreamError::Silent("an answer to SetupConnection"));
            }
            State::ExpectExtensions { deadline } if deadline <= now => self.be_ready(),
            State::ExpectSetup { .. } | State::ExpectExtensions { .. } | State::Ready => {}
        }
        if self.opening_deadline.is_some_and(|deadline| deadline <= now) {
            return Err(UpstreamError::Silent("an answer to OpenExtendedMiningChannel"));
        }
        if self.quiet_deadline().is_some_and(|deadline| deadline <= now) {
            return Err(UpstreamError::Silent("anything"));
        }
        self.check_shares(now)?;
        self.tell_hashrates(now);
        while let Some((since, id)) = self.registry.longest_idle()
            && since + WORK_PATIENCE <= now
        {
            self.send_close(id, "no job came");
            self.close_for(id, "the pool sent no job for it");
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called; to be asked again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let setup = match self.state {
            State::ExpectSetup { deadline } | State::ExpectExtensions { deadline } => Some(deadline),
            State::Ready => None,
        };
        let idle = self.registry.longest_idle().map(|(since, _)| since + WORK_PATIENCE);
        let hashrate = self.registry.first_due().map(|(due, _)| due);
        let check = self.check_due();
        let times = [setup, self.opening_deadline, self.quiet_deadline(), check, idle, hashrate];
        times.into_iter().flatten().min()
    }

    fn quiet_deadline(&self) -> Option<Monotonic> {
        (self.registry.open_len() > 0).then(|| self.silence.deadline())
    }

    /// When to look after shares that wait.
    fn check_due(&self) -> Option<Monotonic> {
        (self.pending > 0).then(|| self.silence.next_check())
    }

    /// That shares do not wait for the answer of a pool that gives none any more.
    fn check_shares(&mut self, now: Monotonic) -> Result<(), UpstreamError> {
        if self.check_due().is_none_or(|due| now < due) {
            return Ok(());
        }
        let crowd = self.silence.crowd();
        let is_crowded =
            self.pending > crowd && self.registry.channels().any(|channel| channel.pending.len() > crowd);
        match self.silence.check(is_crowded, now) {
            Finding::Fine => {}
            Finding::Ask => self.send_probe(),
            Finding::Doubt => self.send_doubtful_share(),
            Finding::Dead(what) => return Err(UpstreamError::Silent(what)),
        }
        Ok(())
    }

    /// Asks for what no pool can give, which each must refuse (spec 5.3.5): SV2 has no message that is there to be answered.
    fn send_probe(&mut self) {
        let request_id = self.registry.next_request();
        self.probe = Some(request_id);
        let max_target = Target::MAX.to_le_bytes();
        let open = mining::OpenExtendedMiningChannel {
            request_id,
            user_identity: text(cut(&self.config.user, UpstreamConfig::TEXT_MAX)),
            nominal_hash_rate: Hashrate::from_hashes_per_second(1).to_wire(),
            max_target: U256::from(&max_target),
            min_extranonce_size: u16::MAX,
        };
        push(&mut self.frames, open);
    }

    /// Submits a share of a job that there is not, which no pool can accept (spec 5.3.14), to see whether shares are judged at all.
    fn send_doubtful_share(&mut self) {
        let waits = |channel: &&mut Channel| channel.pending.len() > 0;
        let Some(channel) = self.registry.channels_mut().find(waits) else { return };
        let number = channel.pending.next_number();
        let zeros = [0; MAX_EXTRANONCE_LEN];
        let share = UpShare {
            tag: 0,
            key: channel.key,
            source: Source { channel: channel.id, job: NO_JOB, generation: 0 },
            nonce: 0,
            ntime: 0,
            version: 0,
            extranonce: Extranonce::join(
                zeros.get(..channel.extranonce_size().into()).unwrap_or(&zeros),
                &[],
            ),
            worker: None,
        };
        self.doubtful = Some((channel.id, number));
        let name = self.names_workers.then_some(&*channel.user);
        push_share(&mut self.frames, &share, number, name);
    }

    /// Asks for a channel that its owner calls `key` until it is closed; shares are credited to `user`, or to the config's if that is empty.
    ///
    /// # Errors
    ///
    /// If it was not asked for; nothing more will be heard of it.
    pub fn open(&mut self, key: u64, user: &str, nominal: Hashrate, now: Monotonic) -> Result<(), NotOpened> {
        let config = Arc::clone(&self.config);
        let user = if user.is_empty() { cut(&config.user, UpstreamConfig::TEXT_MAX) } else { user };
        if !self.is_ready() {
            return Err(NotOpened::NotReady);
        }
        if self.registry.has_key(key) {
            return Err(NotOpened::Taken);
        }
        if self.registry.is_full() {
            return Err(NotOpened::Full);
        }
        if user.len() > UpstreamConfig::TEXT_MAX {
            return Err(NotOpened::UserTooLong(user.len()));
        }
        let opening = Opening { key: Some(key), user: user.into(), nominal, is: nominal, asked_at: now };
        let max_target = Target::MAX.to_le_bytes();
        let open = mining::OpenExtendedMiningChannel {
            request_id: self.registry.ask(key, opening),
            user_identity: text(user),
            nominal_hash_rate: nominal.to_wire(),
            max_target: U256::from(&max_target),
            min_extranonce_size: config.min_extranonce_size,
        };
        push(&mut self.frames, open);
        self.opening_deadline.get_or_insert(now + OPEN_PATIENCE);
        Ok(())
    }

    /// The owner does not want the channel any more: the pool is told now, or as soon as it has opened it. The key may be used again.
    ///
    /// Shares that wait for an answer are settled as lost, because pools do not answer on channels that are closed.
    pub fn close(&mut self, key: u64) {
        if let Some(mut channel) = self.registry.leave(key) {
            self.send_close(channel.id, "the machine left");
            self.lose(&mut channel);
        }
    }

    /// Sends a share up.
    ///
    /// # Errors
    ///
    /// If it cannot be sent; then it is not settled later.
    pub fn submit(&mut self, share: &UpShare) -> Result<(), NotSubmitted> {
        let Source { channel: id, generation, .. } = share.source;
        let (pending, names_workers) = (self.pending, self.names_workers);
        let channel = self.registry.by_id(id).filter(|channel| channel.key == share.key);
        let channel = channel.ok_or(NotSubmitted::Closed)?;
        if !channel.is_of_late(generation) {
            return Err(NotSubmitted::Stale);
        }
        let (extranonce, size) = (share.extranonce.as_bytes(), channel.extranonce_size());
        if extranonce.len() != usize::from(size) {
            return Err(NotSubmitted::Extranonce { given: extranonce.len(), size });
        }
        self.silence.note_share(pending == 0);
        let number = channel.pending.next_number();
        // Once that is agreed on, every share must have a name (extension 0x0002, section 1.2).
        let worker = share.worker.as_ref().map_or(&*channel.user, |worker| worker.as_str());
        push_share(&mut self.frames, share, number, names_workers.then_some(worker));

        let is_over = channel.pending.len() >= PENDING_MAX || pending >= PENDING_TOTAL_MAX;
        channel.pending.push(number, share.tag);
        let lost = if is_over { channel.pending.pop() } else { None };
        self.pending += usize::from(!is_over);
        self.events.extend(lost.map(|tag| Event::Settled { tag, outcome: Outcome::Lost }));
        Ok(())
    }

    /// Those behind a channel have this speed together; the pool is told when it differs by more than a fifth from what it knows, at most
    /// every [`HASHRATE_INTERVAL`] ([`GROWTH_INTERVAL`] if it has more than doubled), and never before the channel is open.
    pub fn set_hashrate(&mut self, key: u64, hashrate: Hashrate, now: Monotonic) {
        if let Some(opening) = self.registry.opening_by_key(key) {
            opening.is = hashrate;
        }
        let Some(id) = self.registry.id_of(key) else { return };
        self.registry.change(id, |channel| channel.speed.become_now(hashrate));
        self.tell_hashrates(now);
    }

    /// The connection is gone: all shares that wait for an answer are settled as lost.
    pub fn abandon(&mut self) {
        self.pending = 0;
        for tag in self.registry.channels_mut().flat_map(|channel| channel.pending.drain()) {
            self.events.push_back(Event::Settled { tag, outcome: Outcome::Lost });
        }
    }

    /// How long shares may wait on the next connection to this pool before it is given one that it must refuse, if this one ends now.
    #[must_use]
    pub fn doubt_after_next(&self) -> Duration {
        self.silence.doubt_after_next()
    }

    /// Whether channels may be opened.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether shares carry the name of who found them; a pool that is late may say so after [`Event::Ready`].
    #[must_use]
    pub const fn names_workers(&self) -> bool {
        self.names_workers
    }

    /// Whether versions may be rolled, as far as the connection goes; each job has its own say too.
    #[must_use]
    pub const fn allows_version_rolling(&self) -> bool {
        !self.fixed_version
    }

    /// How many shares wait for an answer.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// What the pool said that meant nothing.
    #[must_use]
    pub const fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// The channels that are open, by their numbers.
    pub fn channels(&self) -> impl Iterator<Item = ChannelView<'_>> {
        self.registry.channels().map(|channel| ChannelView {
            key: channel.key,
            channel_id: channel.id,
            group_channel_id: channel.group,
            user: &channel.user,
            nominal: channel.speed.told,
            target: channel.target(),
            prefix: channel.prefix(),
            extranonce_size: channel.extranonce_size(),
            pending: channel.pending.len(),
        })
    }

    /// Tells the pool of speeds that it is time to tell of.
    fn tell_hashrates(&mut self, now: Monotonic) {
        while let Some((due, id)) = self.registry.first_due()
            && due <= now
        {
            let told = self.registry.change(id, |channel| {
                channel.speed = Speed::told(channel.speed.is, now);
                channel.speed.told
            });
            let easiest = Target::MAX.to_le_bytes();
            let update = mining::UpdateChannel {
                channel_id: id,
                nominal_hash_rate: told.unwrap_or_default().to_wire(),
                maximum_target: U256::from(&easiest),
            };
            push(&mut self.frames, update);
        }
    }

    /// Channels may be opened now.
    fn be_ready(&mut self) {
        self.state = State::Ready;
        self.events.push_back(Event::Ready { names_workers: self.names_workers });
    }

    fn send_close(&mut self, channel_id: u32, reason: &str) {
        push(&mut self.frames, mining::CloseChannel { channel_id, reason_code: text(reason) });
    }

    /// Closes a channel whose owner did not ask for that.
    fn close_for(&mut self, id: u32, reason: &str) {
        let Some(mut channel) = self.registry.remove(id) else { return };
        self.lose(&mut channel);
        self.events.push_back(Event::Closed { key: channel.key, reason: reason.to_owned() });
    }

    /// Nobody will answer the shares of this channel, nor the one that was to be refused.
    fn lose(&mut self, channel: &mut Channel) {
        if self.doubtful.take_if(|(id, _)| *id == channel.id).is_some() {
            self.silence.forget_doubt();
        }
        self.pending = self.pending.saturating_sub(channel.pending.len());
        let lost = channel.pending.drain().map(|tag| Event::Settled { tag, outcome: Outcome::Lost });
        self.events.extend(lost);
    }
}

/// Appends a share, with as much of a name as it can carry.
fn push_share(frames: &mut FrameQueue, share: &UpShare, sequence_number: u32, name: Option<&str>) {
    let submit = mining::SubmitSharesExtended {
        channel_id: share.source.channel,
        sequence_number,
        job_id: share.source.job,
        nonce: share.nonce,
        ntime: share.ntime,
        version: share.version,
        extranonce: B032::try_from(share.extranonce.as_bytes()).expect("an extranonce has at most 32 bytes"),
    };
    let name = name.and_then(|name| Tlv::user_identity(cut(name, Tlv::USER_IDENTITY_MAX)).ok());
    encode_with_tlvs(submit, name.as_slice(), frames).expect("a share is short");
}

#[cfg(test)]
mod tests;

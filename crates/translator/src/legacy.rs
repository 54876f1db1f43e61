//! The client's side of one SV1 connection to a pool, for a farm that keeps its old pool as the last resort.
//!
//! [`LegacyUpstream`] takes lines from the pool and makes the same [`Event`]s of them as an SV2 upstream does, so that whoever drives one can
//! drive the other. It has one channel. Nothing that the pool sends makes it panic or grow without bound; what no pool may send ends the
//! connection with an error that names it. `client.reconnect` is never followed: nothing proves that it is the pool who sent it.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use adit_channel::prints;
use adit_share::{Extranonce, MAX_EXTRANONCE_LEN, VERSION_ROLLING_MASK};
use adit_units::{Difficulty, Hashrate, Monotonic, Target};

use crate::upstream::{ChannelView, Event, Ignored, NotOpened, NotSubmitted, Outcome, UpShare};

mod error;
mod message;
mod work;
mod write;

pub use error::LegacyError;

use message::{Call, Message, Reply};
use work::{Issue, Space};

/// Most bytes of a line from the pool; what it needs is a tenth of that.
pub const LINE_MAX: usize = 64 * 1024;

/// Jobs whose shares can still be sent, of the newest block and the one before.
pub const JOBS_KEPT: usize = 64;

/// Shares that may wait for the pool's answer.
pub const PENDING_MAX: usize = 8_192;

/// Steps from the coinbase to the merkle root; a block has room for fewer transactions than this leads to.
pub const MERKLE_STEPS_MAX: usize = 32;

/// Lines in a row that mean nothing before the connection is given up.
pub const MALFORMED_MAX: u32 = 16;

/// Bytes that may wait to be sent before the pool's requests are answered no more.
pub const ANSWERS_MAX: usize = 16 * 1024;

/// How long the pool may take to let us in.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(15);

/// How long the pool may take to send its first job.
pub const WORK_PATIENCE: Duration = Duration::from_secs(30);

/// How long the pool may leave shares without an answer to any of them. SV1 has each answered by itself, so one that goes on with jobs and
/// answers none is as dead as one that says nothing.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// How long the pool may say nothing at all; with new jobs every minute or so that is a dead line.
pub const QUIET_PATIENCE: Duration = Duration::from_secs(600);

/// Messages for people that are logged of one connection.
const SHOWN_MAX: u64 = 16;

/// The numbers of our first requests; shares have greater ones.
const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;
const EXTRANONCE_SUBSCRIBE: u64 = 4;

/// A pool, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyConfig {
    /// Whom the pool credits.
    pub user: String,
    /// What goes with that name; nearly all pools take anything, and some read a difficulty from it.
    pub password: String,
    /// The version bits that machines may roll; those of them that the pool allows go with each job.
    pub version_mask: u32,
}

/// One connection to a pool.
///
/// A job keeps the difficulty that it was issued with: that is what SV1 says a pool must credit. Pools that apply a new one to jobs that are
/// already out refuse some shares after it has risen, which costs nothing and is counted; to hold back what such a pool would refuse would cost
/// what all others pay for.
#[derive(Debug)]
pub struct LegacyUpstream {
    config: Arc<LegacyConfig>,
    output: Vec<u8>,
    events: VecDeque<Event>,
    is_subscribed: bool,
    is_authorized: bool,
    is_ready: bool,
    /// What is left of the extranonce in jobs to come; `None` until the subscription is answered.
    space: Option<Space>,
    difficulty: Difficulty,
    /// The version bits that the pool lets us roll in jobs to come.
    version_mask: u32,
    /// The last jobs, the newest last.
    jobs: VecDeque<Issue>,
    last_job: u32,
    generation: u64,
    /// Who has the channel.
    channel: Option<Owner>,
    pending: BTreeMap<u64, u64>,
    /// When the first share was sent after the last answer to any.
    waiting: Option<Monotonic>,
    last_request: u64,
    ignored: Ignored,
    malformed: u32,
    shown: u64,
    started: Monotonic,
    heard: Monotonic,
}

/// Who works for the pool.
#[derive(Clone, Copy, Debug)]
struct Owner {
    key: u64,
    nominal: Hashrate,
    since: Monotonic,
}

impl LegacyUpstream {
    /// A connection that was just made; the first lines are already in [`Self::output`].
    #[must_use]
    pub fn new(config: &Arc<LegacyConfig>, now: Monotonic) -> Self {
        let mut output = Vec::new();
        write::configure(&mut output, CONFIGURE, config.version_mask);
        write::subscribe(&mut output, SUBSCRIBE);
        Self {
            config: Arc::clone(config),
            output,
            events: VecDeque::new(),
            is_subscribed: false,
            is_authorized: false,
            is_ready: false,
            space: None,
            difficulty: Difficulty::ONE,
            version_mask: 0,
            jobs: VecDeque::new(),
            last_job: 0,
            generation: 0,
            channel: None,
            pending: BTreeMap::new(),
            waiting: None,
            last_request: EXTRANONCE_SUBSCRIBE,
            ignored: Ignored::default(),
            malformed: 0,
            shown: 0,
            started: now,
            heard: now,
        }
    }

    /// Bytes for the pool; to be taken when they are sent.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// The bytes of the extranonce that the pool leaves; `None` until it has said so.
    #[must_use]
    pub fn extranonce_size(&self) -> Option<u16> {
        self.space.as_ref().map(|space| space.size)
    }

    /// The next thing that happened, or `None` if nothing more has; to be asked after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes in a line from the pool.
    ///
    /// # Errors
    ///
    /// If the connection is of no more use; take the events that are left, and then close it.
    pub fn handle_line(&mut self, line: &[u8], now: Monotonic) -> Result<(), LegacyError> {
        self.heard = now;
        let Some(message) = Message::parse(line) else {
            self.malformed += 1;
            return if self.malformed < MALFORMED_MAX { Ok(()) } else { Err(LegacyError::Malformed) };
        };
        self.malformed = 0;
        match message {
            Message::Reply { id, reply } => self.handle_reply(id, &reply),
            Message::Call(call) => self.handle_call(&call),
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If the pool has been silent for too long; close the connection.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Result<(), LegacyError> {
        match self.deadline() {
            (deadline, what) if deadline <= now => Err(LegacyError::Silent(what)),
            _ => Ok(()),
        }
    }

    /// When [`Self::handle_timeout`] is to be called; to be asked again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        Some(self.deadline().0)
    }

    /// What is waited for, and until when.
    fn deadline(&self) -> (Monotonic, &'static str) {
        if !self.is_subscribed {
            return (self.started + SETUP_PATIENCE, "an answer to mining.subscribe");
        }
        if !self.is_ready {
            return (self.started + SETUP_PATIENCE, "an answer to mining.authorize");
        }
        match self.channel {
            Some(owner) if self.jobs.is_empty() => (owner.since + WORK_PATIENCE, "a job"),
            Some(_) | None => {
                let quiet = (self.heard + QUIET_PATIENCE, "anything");
                let waiting = self.waiting.map(|since| (since + ANSWER_PATIENCE, "an answer to any share"));
                waiting.map_or(quiet, |waiting| waiting.min(quiet))
            }
        }
    }

    /// Gives the only channel to whoever calls it `key`. The pool credits the config's user, whoever it is.
    ///
    /// # Errors
    ///
    /// If it is not to be had.
    pub fn open(&mut self, key: u64, nominal: Hashrate, now: Monotonic) -> Result<(), NotOpened> {
        if !self.is_ready {
            return Err(NotOpened::NotReady);
        }
        match self.channel {
            Some(owner) if owner.key == key => return Err(NotOpened::Taken),
            Some(_) => return Err(NotOpened::Single),
            None => {}
        }
        self.channel = Some(Owner { key, nominal, since: now });
        self.events.push_back(Event::Opened { key });
        self.events.extend(self.jobs.back().map(|issue| Event::Work(issue.work(key, true))));
        Ok(())
    }

    /// The owner does not want the channel any more. Shares that wait for an answer are settled as lost.
    pub fn close(&mut self, key: u64) {
        if self.channel.take_if(|owner| owner.key == key).is_some() {
            self.abandon();
        }
    }

    /// Sends a share up.
    ///
    /// # Errors
    ///
    /// If it cannot be sent; then it is not settled later.
    pub fn submit(&mut self, share: &UpShare, now: Monotonic) -> Result<(), NotSubmitted> {
        if self.channel.is_none_or(|owner| owner.key != share.key) {
            return Err(NotSubmitted::Closed);
        }
        let issue = self.jobs.iter().rfind(|issue| issue.source == share.source);
        let issue = issue.ok_or(NotSubmitted::Stale)?;
        let (given, size) = (share.extranonce.as_bytes().len(), issue.space.size);
        if given != usize::from(size) {
            return Err(NotSubmitted::Extranonce { given, size });
        }
        if (share.version ^ issue.job.version()) & !issue.version_mask != 0 {
            return Err(NotSubmitted::Version);
        }
        self.last_request += 1;
        write::submit(&mut self.output, self.last_request, (&self.config.user, issue), share);
        self.pending.insert(self.last_request, share.tag);
        self.waiting.get_or_insert(now);
        if self.pending.len() > PENDING_MAX {
            let lost = self.pending.pop_first();
            self.events.extend(lost.map(|(_, tag)| Event::Settled { tag, outcome: Outcome::Lost }));
        }
        Ok(())
    }

    /// Those behind the channel have this speed together. SV1 has no words for it: pools measure.
    pub const fn set_hashrate(&mut self, key: u64, hashrate: Hashrate) {
        if let Some(owner) = &mut self.channel
            && owner.key == key
        {
            owner.nominal = hashrate;
        }
    }

    /// The connection is gone: all shares that wait for an answer are settled as lost.
    pub fn abandon(&mut self) {
        self.waiting = None;
        let lost = core::mem::take(&mut self.pending).into_values();
        self.events.extend(lost.map(|tag| Event::Settled { tag, outcome: Outcome::Lost }));
    }

    /// Whether the channel may be opened.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether the pool lets machines roll any of the version bits that they may.
    #[must_use]
    pub fn allows_version_rolling(&self) -> bool {
        self.rolled_mask() != 0
    }

    /// The version bits that machines may roll in jobs to come: what they are promised, what the pool allows, and what a job allows at all.
    fn rolled_mask(&self) -> u32 {
        self.config.version_mask & self.version_mask & VERSION_ROLLING_MASK
    }

    /// How many shares wait for an answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What the pool said that meant nothing.
    #[must_use]
    pub const fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// The channel, if it is open.
    #[must_use]
    pub fn channel(&self) -> Option<ChannelView<'_>> {
        let (owner, space) = (self.channel?, self.space.as_ref()?);
        Some(ChannelView {
            key: owner.key,
            channel_id: 0,
            group_channel_id: 0,
            user: &self.config.user,
            nominal: owner.nominal,
            target: self.target(),
            prefix: space.prefix.as_bytes(),
            extranonce_size: space.size,
            pending: self.pending.len(),
        })
    }

    fn target(&self) -> Target {
        self.difficulty.to_target()
    }

    fn handle_reply(&mut self, id: u64, reply: &Reply<'_>) -> Result<(), LegacyError> {
        match id {
            CONFIGURE => {
                // One that does not know what that is answers with an error, and allows nothing.
                self.version_mask = reply.version_mask().unwrap_or_default();
                Ok(())
            }
            SUBSCRIBE if !self.is_subscribed => {
                let refusal = || LegacyError::Refused { what: "mining.subscribe", reason: reply.reason() };
                let (prefix, size) = reply.subscription().ok_or_else(refusal)?;
                self.space = Some(space(&prefix, size)?);
                self.is_subscribed = true;
                write::authorize(&mut self.output, AUTHORIZE, (&self.config.user, &self.config.password));
                Ok(())
            }
            AUTHORIZE if self.is_subscribed && !self.is_authorized => {
                if !reply.is_accepted() {
                    return Err(LegacyError::Refused { what: "mining.authorize", reason: reply.reason() });
                }
                self.is_authorized = true;
                self.is_ready = true;
                // Asked last, because some pools close the connection over what they do not know before a user is named.
                write::extranonce_subscribe(&mut self.output, EXTRANONCE_SUBSCRIBE);
                self.events.push_back(Event::Ready { names_workers: false });
                Ok(())
            }
            EXTRANONCE_SUBSCRIBE => Ok(()),
            id => {
                match self.pending.remove(&id) {
                    Some(tag) => {
                        self.waiting = None;
                        let accepted = reply.is_accepted();
                        let outcome =
                            if accepted { Outcome::Accepted } else { Outcome::Refused(reply.code()) };
                        self.events.push_back(Event::Settled { tag, outcome });
                    }
                    None => self.ignored.answers += 1,
                }
                Ok(())
            }
        }
    }

    fn handle_call(&mut self, call: &Call<'_>) -> Result<(), LegacyError> {
        match call.method.as_ref() {
            "mining.set_difficulty" => {
                self.difficulty =
                    call.difficulty().ok_or(LegacyError::Unreadable("mining.set_difficulty"))?;
            }
            "mining.notify" => return self.handle_notify(call),
            "mining.set_extranonce" => {
                let (prefix, size) =
                    call.extranonce().ok_or(LegacyError::Unreadable("mining.set_extranonce"))?;
                // A pool may say so before it has answered the subscription; then that counts.
                if self.is_subscribed {
                    self.space = Some(space(&prefix, size)?);
                }
            }
            "mining.set_version_mask" => {
                let unreadable = LegacyError::Unreadable("mining.set_version_mask");
                self.version_mask = call.version_mask().ok_or(unreadable)?;
            }
            "client.reconnect" => {
                self.ignored.strays += 1;
                if self.may_show() {
                    tracing::warn!(
                        "the pool, or someone on the way, wants the machines elsewhere; staying, because nothing proves who it is"
                    );
                }
            }
            "client.show_message" => {
                if self.may_show() {
                    tracing::info!(message = call.text(), "the pool has a message");
                }
            }
            "mining.ping" => self.answer(call, "pong"),
            "client.get_version" => self.answer(call, write::VERSION),
            _ => self.ignored.unknown += 1,
        }
        Ok(())
    }

    fn handle_notify(&mut self, call: &Call<'_>) -> Result<(), LegacyError> {
        // What comes before the subscription is answered has no place for an extranonce.
        let Some(space) = self.space else {
            self.ignored.strays += 1;
            return Ok(());
        };
        let notify = call.notify()?;
        let before = self.jobs.back();
        let is_new_tip = notify.is_clean || before.is_none_or(|issue| !notify.is_on(issue.job.tip()));
        self.generation += u64::from(is_new_tip);
        self.last_job = self.last_job.checked_add(1).ok_or(LegacyError::TooMuch("jobs"))?;
        let version_mask = self.rolled_mask();
        let numbers = (self.last_job, self.generation);
        let issue = Issue::new(notify, space, (numbers, version_mask), self.target())?;
        if is_new_tip {
            let oldest = self.generation.saturating_sub(1);
            self.jobs.retain(|issue| issue.source.generation >= oldest);
        }
        if self.jobs.len() >= JOBS_KEPT {
            self.jobs.pop_front();
        }
        if let Some(owner) = self.channel {
            self.events.push_back(Event::Work(issue.work(owner.key, is_new_tip)));
        }
        self.jobs.push_back(issue);
        Ok(())
    }

    /// Answers the pool, unless it asks without reading.
    fn answer(&mut self, call: &Call<'_>, result: &str) {
        if let Some(id) = call.id.filter(|_| self.output.len() < ANSWERS_MAX) {
            write::answer(&mut self.output, id, result);
        }
    }

    /// Whether people are to hear of it; a pool may not fill the log.
    const fn may_show(&mut self) -> bool {
        self.shown = self.shown.saturating_add(1);
        self.shown <= SHOWN_MAX
    }
}

/// What the pool leaves of the extranonce.
fn space(prefix: &[u8], size: u64) -> Result<Space, LegacyError> {
    let too_long = LegacyError::Extranonce { prefix: prefix.len(), size };
    let room = MAX_EXTRANONCE_LEN.checked_sub(prefix.len());
    let fits = u16::try_from(size).ok().filter(|&size| room.is_some_and(|room| usize::from(size) <= room));
    Ok(Space { prefix: Extranonce::join(prefix, &[]), size: fits.ok_or(too_long)? })
}

/// A pool's text for people, without what could disturb a terminal or a log, and not too long.
fn printable(text: &str) -> String {
    text.chars().filter(|&character| prints(character)).take(TEXT_MAX).collect()
}

/// The most characters of a text that are shown.
const TEXT_MAX: usize = 128;

#[cfg(test)]
mod tests;

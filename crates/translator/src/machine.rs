//! The server's side of one SV1 connection, from the first line to the last.
//!
//! Pure: lines, jobs and time come in, bytes for the socket, shares for the upstream and news for the shell come out. A share is judged here
//! before anything else happens to it; what is accepted and meets the upstream's target goes up.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{LinkId, Vardiff, WorkerName};
use adit_share::{Extranonce, SeenHashes};
use adit_units::{Difficulty, Hashrate, Monotonic, Now, ShareRate, Target, UnixTime, Work};

use crate::device::{Device, Override};
use crate::job::{EXTRANONCE1_LEN, NUMBER_STEP, Route, Sv1Job};
use crate::status::ShareCounts;
use crate::sv1::{self, Call, Fault, Id, Request};

mod coinbase;
mod difficulty;
mod meter;
mod ntime;
mod pings;
mod setup;
mod shares;
mod storm;

use difficulty::Easing;
use meter::Meter;
use ntime::Told;
use pings::{Due, Pings};
use shares::Assignments;
use storm::{Remedy, Storm};

/// User names that one connection may authorize; proxies bring hundreds of machines over one.
pub const USERS_MAX: usize = 4_096;

/// Lines in a row that are no requests before a machine is disconnected.
pub const MALFORMED_MAX: u32 = 16;

/// Jobs of one tip whose shares are still taken.
pub const JOBS_KEPT: usize = 8;

/// Shares that are remembered for each block that jobs stood on, so that none is taken twice.
pub const SEEN_MAX: usize = 65_536;

/// Most of them that are remembered of all former blocks together, two of ten minutes at ten a minute; but all of the last one are, however many
/// they are. Upstreams that are not of one mind send machines back and forth between it and the newest.
const SEEN_FORMER_MAX: usize = 256;

/// Bytes that each share on the newest block takes on average: eight for a place in a table that is from a third to two thirds full. Those on
/// former blocks are packed, and take half of that.
const SEEN_COST: usize = 16;

/// How long a machine may take to subscribe and to name its user.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(60);

/// How long a machine is not told that the upstream is gone: its shares that nobody above would miss are taken meanwhile.
pub const OUTAGE_GRACE: Duration = Duration::from_secs(5);

/// The lowest difficulty that can be named.
const EASIEST: Difficulty = Difficulty::from_trillionths(1);

/// The highest number that the first job of a machine which resumes may be above the job's own; as many more are left for the job to be given anew.
const RESUMED_OFFSET_MAX: u8 = 0x7f;
const _: () = assert!(2 * (RESUMED_OFFSET_MAX as u64 + 1) <= NUMBER_STEP, "numbers of two jobs do not meet");

/// What we say that we are.
const VERSION: &str = concat!("adit/", env!("CARGO_PKG_VERSION"));

/// How often evidence for another difficulty is looked at between jobs.
const VARDIFF_INTERVAL: Duration = Duration::from_secs(5);

/// What holds for all machines of a translator.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// How many shares a minute a machine is meant to submit.
    pub rate: ShareRate,
    /// The version bits that machines may roll, if they ask for them and the upstream allows it: those of BIP 320 by default, which is what
    /// firmware knows and SV1 pools grant.
    pub version_mask: u32,
    /// Bytes of the extranonce that are left to a machine, 2 to 16.
    pub extranonce2_len: u8,
    /// No share is easier than this, but where the upstream asks for less: it pays by its own difficulty, however hard a share is.
    pub least_difficulty: Difficulty,
    /// Whether difficulties follow the machines' speed; otherwise they stay what the device's class or its password says.
    pub follows_speed: bool,
    /// What the operator knows better about devices.
    pub devices: Vec<Override>,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            rate: ShareRate::from_shares_per_minute(10),
            version_mask: sv1::DEFAULT_VERSION_MASK,
            extranonce2_len: 8,
            least_difficulty: EASIEST,
            follows_speed: true,
            devices: Vec::new(),
        }
    }
}

/// What one machine is given when it connects.
#[derive(Clone, Copy, Debug)]
pub struct MachineTerms {
    /// Unlike that of any other machine that is connected, and not all zeros.
    pub extranonce1: [u8; EXTRANONCE1_LEN],
    /// Keys the duplicate check; random, and unknown to machines.
    pub seen_key: [u8; 16],
}

/// Who hands out the first halves of extranonces.
pub trait Lender {
    /// Exchanges `present` for `wanted`, which the machine had in a session before; the answer is whether it may have that.
    fn exchange(&mut self, present: [u8; EXTRANONCE1_LEN], wanted: [u8; EXTRANONCE1_LEN]) -> bool;

    /// What the machine had found that had this extranonce1 before, as [`Machine::take_memory`] gave it, if that was kept. It is asked for
    /// after an exchange, and has a new owner then.
    fn memory(&mut self, _extranonce1: [u8; EXTRANONCE1_LEN]) -> Option<Memory> {
        None
    }
}

/// The shares that a machine has had accepted, so that none is taken twice if it comes back, and the time of the job that it had, so that it
/// does not search for them twice.
#[derive(Debug)]
pub struct Memory {
    seen: SeenHashes,
    told: Option<Told>,
    bytes: usize,
}

impl Memory {
    /// About how many bytes it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of that size.
    #[cfg(test)]
    pub(crate) const fn of_bytes(bytes: usize) -> Self {
        Self { seen: SeenHashes::new([1; 16], SEEN_MAX), told: None, bytes }
    }
}

/// For a machine that is alone: each keeps the extranonce1 that it has.
impl Lender for () {
    fn exchange(&mut self, _present: [u8; EXTRANONCE1_LEN], _wanted: [u8; EXTRANONCE1_LEN]) -> bool {
        false
    }
}

/// A share for the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Where it goes.
    pub route: Route,
    /// The header's nonce.
    pub nonce: u32,
    /// The header's time.
    pub ntime: u32,
    /// The header's version.
    pub version: u32,
    /// What stands behind the upstream's prefix.
    pub extranonce: Extranonce,
    /// What the upstream pays for it.
    pub work: Work,
    /// Whether it is a block, which must not wait for anything.
    pub is_block: bool,
    /// Who found it.
    pub worker: Option<WorkerName>,
}

/// What the shell is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has subscribed and named its first user: it wants work. Comes once.
    Ready {
        /// The first user name.
        user: Box<str>,
    },
    /// The upstream's coinbase is longer than its class of devices is known to take. Comes once.
    LongCoinbase {
        /// The coinbase's bytes.
        length: usize,
        /// The bytes that such a device takes.
        longest: usize,
    },
}

/// Why a machine is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// It sent too much that is no request.
    #[error("too many lines in a row are no requests")]
    Malformed,
    /// It has not said who it is.
    #[error("it has not subscribed and authorized in time")]
    Idle,
    /// Everything that it submits is refused, and nothing helps.
    #[error("all its shares have been refused for three minutes")]
    Storm,
    /// It answered when it was asked whether it is there, and does so no more.
    #[error("it has said nothing for minutes, although it was asked")]
    Silent,
}

/// A job that the machine has been given.
#[derive(Debug)]
struct Issued {
    number: u64,
    job: Arc<Sv1Job>,
    /// What it was issued with.
    target: Target,
}

/// The upstream is gone.
#[derive(Debug)]
struct Outage {
    since: Monotonic,
    /// The links of former jobs that are still up.
    ways: Vec<LinkId>,
}

/// One machine.
#[derive(Debug)]
pub struct Machine {
    config: Arc<MachineConfig>,
    extranonce1: [u8; EXTRANONCE1_LEN],
    /// What it says of itself, shared with reports.
    identity: Arc<Identity>,
    device: Device,
    is_subscribed: bool,
    users: Vec<User>,
    /// Bytes of all their names.
    names_len: usize,
    /// Whether it has asked for a new extranonce1 when there is one, and was told the one it has.
    follows_extranonce: bool,
    version_mask: Option<u32>,
    /// What it was told last of the version bits, where the job decides.
    told_mask: Option<u32>,
    demands: Demands,
    /// Whether a suggestion that came after the first job was taken up.
    is_suggested: bool,
    vardiff: Option<Vardiff>,
    easing: Option<Easing>,
    /// What it was told last.
    announced: Option<Target>,
    issued: VecDeque<Issued>,
    /// The time that came with the last job.
    told: Option<Told>,
    /// Jobs with smaller numbers are stale.
    stale_below: u64,
    /// Shares of the newest job cannot be sent up, and those of others only where a link is left.
    outage: Option<Outage>,
    /// The newest job's time, in seconds since 1970, and when that job came.
    network_time: (u32, Monotonic),
    /// How far the first numbers of its jobs are above the jobs' own; not zero for a machine that has its former extranonce1 back.
    number_offset: u64,
    /// What that becomes if it gets it back.
    resumed_offset: u8,
    seen: SeenHashes,
    assignments: Assignments,
    counts: ShareCounts,
    best: Option<Target>,
    /// Bytes of the first coinbase that was too long for the device.
    long_coinbase: Option<usize>,
    meter: Meter,
    storm: Storm,
    pings: Pings,
    malformed: u32,
    connected: Monotonic,
    last_share: Option<Monotonic>,
    next_look: Monotonic,
    output: Vec<u8>,
    shares: VecDeque<Share>,
    events: VecDeque<Event>,
}

/// A user that the machine has authorized.
#[derive(Debug)]
struct User {
    name: Box<str>,
    worker: Option<WorkerName>,
}

/// What the machine, or who set it up, asks of difficulties.
#[derive(Clone, Copy, Debug, Default)]
struct Demands {
    /// Always this one.
    fixed: Option<Difficulty>,
    /// Not less than this.
    least: Option<Difficulty>,
    /// To begin with.
    first: Option<Difficulty>,
    /// To begin with, as a speed.
    speed: Option<Hashrate>,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What it calls itself.
    pub user_agent: String,
    /// The user names that it has authorized, the first ones.
    pub users: Vec<String>,
}

/// What a machine has done so far. It is made with nearly every share, so it takes no memory of its own.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it says of itself.
    pub identity: Arc<Identity>,
    /// The class of devices that it was taken for.
    pub class: &'static str,
    /// Our part of its extranonce.
    pub extranonce1: [u8; EXTRANONCE1_LEN],
    /// The version bits that it may roll.
    pub version_mask: Option<u32>,
    /// What its shares must meet now.
    pub target: Target,
    /// Measured over its last shares.
    pub hashrate: Hashrate,
    /// What became of its shares.
    pub shares: ShareCounts,
    /// When it connected.
    pub connected: Monotonic,
    /// When its last share was accepted.
    pub last_share: Option<Monotonic>,
    /// The hash of the hardest share.
    pub best: Option<Target>,
    /// Bytes of the first coinbase that was longer than its class of devices is known to take.
    pub long_coinbase: Option<usize>,
}

/// User names that a report has at most.
const USERS_REPORTED: usize = 8;

impl Machine {
    /// A machine that has just connected.
    #[must_use]
    pub fn new(config: Arc<MachineConfig>, terms: MachineTerms, now: Monotonic) -> Self {
        let device = Device::of("", &config.devices);
        Self {
            config,
            extranonce1: terms.extranonce1,
            identity: Arc::default(),
            device,
            is_subscribed: false,
            users: Vec::new(),
            names_len: 0,
            follows_extranonce: false,
            version_mask: None,
            told_mask: None,
            demands: Demands::default(),
            is_suggested: false,
            vardiff: None,
            easing: None,
            announced: None,
            issued: VecDeque::new(),
            told: None,
            stale_below: 0,
            outage: Some(Outage { since: now, ways: Vec::new() }),
            network_time: (0, now),
            number_offset: 0,
            // Seven bits of the key are no help to anybody who would guess the rest.
            resumed_offset: terms.seen_key[0] & RESUMED_OFFSET_MAX,
            seen: SeenHashes::new(terms.seen_key, SEEN_MAX).with_former_max(SEEN_FORMER_MAX),
            assignments: Assignments::default(),
            counts: ShareCounts::default(),
            best: None,
            long_coinbase: None,
            meter: Meter::new(now),
            storm: Storm::default(),
            pings: Pings::new(now),
            malformed: 0,
            connected: now,
            last_share: None,
            next_look: now,
            output: Vec::new(),
            shares: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Bytes for the machine; to be taken when they are sent.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// The next share for the upstream.
    pub fn poll_share(&mut self) -> Option<Share> {
        self.shares.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Our part of its extranonce.
    #[must_use]
    pub const fn extranonce1(&self) -> [u8; EXTRANONCE1_LEN] {
        self.extranonce1
    }

    /// What it has found, for when it comes back; `None` if that is nothing. It is not known here any more.
    pub fn take_memory(&mut self) -> Option<Memory> {
        // Nothing is judged any more, so the key does not matter.
        let seen = core::mem::replace(&mut self.seen, SeenHashes::new([0; 16], SEEN_MAX));
        let bytes = seen.len() * SEEN_COST;
        (bytes > 0).then_some(Memory { seen, told: self.told, bytes })
    }

    /// About how many bytes it has us hold: names, shares that are not to be taken twice, and what it has not read.
    #[must_use]
    pub fn held(&self) -> usize {
        let users = self.users.len() * size_of::<User>() + self.names_len;
        users + self.seen.len() * SEEN_COST + self.output.len()
    }

    /// Whether it has subscribed and named its user.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_subscribed && !self.users.is_empty()
    }

    /// Takes in a line that it sent.
    ///
    /// # Errors
    ///
    /// If it is to be disconnected; what is in [`Self::output`] is still to be sent.
    pub fn handle_line(&mut self, line: &[u8], lender: &mut impl Lender, now: Now) -> Result<(), Disconnect> {
        let Request { id, call } = match sv1::parse(line) {
            Ok(request) => request,
            Err(malformed) => {
                self.pings.hear(false, now.monotonic);
                self.malformed += 1;
                if let Some(id) = &malformed.id {
                    sv1::write_error(&mut self.output, id, malformed.fault());
                }
                return if self.malformed < MALFORMED_MAX { Ok(()) } else { Err(Disconnect::Malformed) };
            }
        };
        self.malformed = 0;
        self.pings.hear(matches!(call, Call::Answer(_)), now.monotonic);
        let was_ready = self.is_ready();
        match call {
            Call::Submit(submit) => self.handle_submit(id.as_ref(), &submit, now)?,
            call => self.handle_call(id.as_ref(), call, lender, now.monotonic),
        }
        if !was_ready && self.is_ready() {
            self.begin(now.monotonic);
        }
        Ok(())
    }

    fn handle_call(&mut self, id: Option<&Id>, call: Call, lender: &mut impl Lender, now: Monotonic) {
        match call {
            Call::Configure(configure) => self.handle_configure(id, &configure),
            Call::Subscribe { user_agent, session } => {
                self.handle_subscribe(id, user_agent, session, lender);
            }
            Call::Authorize { user, password } => self.handle_authorize(id, &user, &password),
            Call::SuggestDifficulty(difficulty) => self.handle_suggestion(id, difficulty, now),
            Call::SuggestTarget(target) => {
                self.handle_suggestion(id, target.map(Difficulty::from_target), now);
            }
            Call::ExtranonceSubscribe => {
                self.reply_true(id);
                // A machine that has been told once has nothing to gain from being told again.
                if self.is_subscribed && !core::mem::replace(&mut self.follows_extranonce, true) {
                    let len = self.config.extranonce2_len;
                    sv1::write_set_extranonce(&mut self.output, self.extranonce1, len);
                    self.reissue(false, now);
                }
            }
            Call::Ping => {
                if let Some(id) = id {
                    sv1::write_pong(&mut self.output, id);
                }
            }
            Call::GetTransactions => self.reply_fault(id, Fault::Unsupported),
            Call::GetVersion => {
                if let Some(id) = id {
                    sv1::write_result(&mut self.output, id, VERSION);
                }
            }
            Call::Answer { .. } | Call::Submit(_) => {}
            Call::Unknown(_) => self.reply_fault(id, Fault::Other("Unknown method")),
        }
    }

    fn reply_true(&mut self, id: Option<&Id>) {
        if let Some(id) = id {
            sv1::write_true(&mut self.output, id);
        }
    }

    fn reply_fault(&mut self, id: Option<&Id>, fault: Fault) {
        if let Some(id) = id {
            sv1::write_error(&mut self.output, id, fault);
        }
    }

    /// There is another job, or the first, and its shares can be sent up. A machine that has the job already is not told again. Nothing is sent
    /// to one that has not said yet who it is: it gets the job when it has.
    pub fn handle_job(&mut self, job: &Arc<Sv1Job>, now: Monotonic) {
        self.outage = None;
        if self.issued.back().is_none_or(|issued| !Arc::ptr_eq(issued.job.job(), job.job())) {
            self.network_time = (job.job().min_ntime(), now);
        }
        if self.issued.back().is_some_and(|issued| issued.job.number() == job.number()) {
            return;
        }
        // The one that it works on may have been forgotten since. Others that were forgotten with it are not worked on any more.
        let is_void = self.issued.back().is_none_or(|issued| issued.number < self.stale_below);
        // A machine that was busy may have missed the job that made all before it stale.
        let is_first = job.floor() > self.stale_below;
        if is_first {
            self.stale_below = job.floor();
            self.issued.clear();
        }
        self.put(job.number() + self.number_offset, job, is_first || is_void, now);
    }

    /// Jobs of links that are not up any more, or were not at some time while the upstream was gone, are forgotten: their shares have nowhere to go,
    /// and the machine is not to be told that they are good. To be called before [`Self::handle_job`], when the newest job is one of a link that is up.
    pub fn handle_links(&mut self, is_up: impl Fn(LinkId) -> bool) {
        let has_way = |link| self.outage.as_ref().is_none_or(|outage| outage.ways.contains(&link));
        let gone = |issued: &Issued| {
            let link = issued.job.route().link;
            !is_up(link) || !has_way(link)
        };
        if let Some(last) = self.issued.iter().rfind(|issued| gone(issued)) {
            self.stale_below = self.stale_below.max(last.number + 1);
        }
        self.issued.retain(|issued| !gone(issued));
    }

    /// The upstream is gone, and shares of its jobs can no longer be sent up, but those of jobs that came from links which are still up. If no other
    /// comes in time all others are refused, so that the machine goes to its own backup pool.
    pub fn handle_upstream_lost(&mut self, is_up: impl Fn(LinkId) -> bool, now: Monotonic) {
        let links = || self.issued.iter().map(|issued| issued.job.route().link).collect();
        let outage = self.outage.get_or_insert_with(|| Outage { since: now, ways: links() });
        // One that comes back to the machine has another channel for it, which knows no job of the one before.
        outage.ways.retain(|&link| is_up(link));
    }

    /// Whether the upstream is gone, and no job has come since.
    #[must_use]
    pub const fn has_lost_upstream(&self) -> bool {
        self.outage.is_some()
    }

    /// What the network holds for the time, as far as we know. A clock that is behind would have every share refused whose time is that of its
    /// job, so the newest job's time counts, and what has passed since it came.
    fn network_now(&self, now: Now) -> UnixTime {
        let (time, since) = self.network_time;
        let by_job = Now { monotonic: since, unix: UnixTime::from_secs(time) };
        now.unix.max(by_job.after(now.monotonic.saturating_since(since)).unix)
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If it is to be disconnected.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Result<(), Disconnect> {
        if !self.is_ready() {
            return if now >= self.connected + SETUP_PATIENCE { Err(Disconnect::Idle) } else { Ok(()) };
        }
        if !self.device.quirks.answers_pings {
            return Ok(());
        }
        match self.pings.poll(now) {
            None => {}
            Some(Due::Ping(id)) => sv1::write_ping(&mut self.output, id),
            Some(Due::GiveUp) => return Err(Disconnect::Silent),
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        if !self.is_ready() {
            return Some(self.connected + SETUP_PATIENCE);
        }
        self.pings.due().filter(|_| self.device.quirks.answers_pings)
    }

    /// It wants work from now on.
    fn begin(&mut self, now: Monotonic) {
        let user = self.users.first().map(|user| user.name.clone()).unwrap_or_default();
        self.events.push_back(Event::Ready { user });
        // A job may have come before: it could not be sent, because its difficulty depends on who the machine is. Without an upstream nobody
        // would take its shares any more.
        let job = self.issued.pop_back().filter(|_| self.outage.is_none());
        self.issued.clear();
        if let Some(Issued { job, .. }) = job {
            self.put(job.number() + self.number_offset, &job, true, now);
        }
    }

    /// Sends a job, and the difficulty before it if that is another one.
    fn put(&mut self, number: u64, job: &Arc<Sv1Job>, is_clean: bool, now: Monotonic) {
        if !self.is_ready() {
            self.issued.clear();
            self.issued.push_back(Issued { number, job: Arc::clone(job), target: Target::MAX });
            return;
        }
        let target = self.next_target(job, now);
        if self.announced != Some(target) {
            self.announced = Some(target);
            sv1::write_set_difficulty(&mut self.output, Difficulty::from_target(target));
        }
        self.tell_mask(job);
        self.watch_coinbase(job);
        let told = Told::next(self.told, job, now);
        self.told = Some(told);
        job.write(number, told.ntime(), is_clean, &mut self.output);
        if self.issued.len() >= JOBS_KEPT {
            self.issued.pop_front();
        }
        self.issued.push_back(Issued { number, job: Arc::clone(job), target });
    }

    /// Sends the newest job again, under a number of its own, because firmware passes over a job that it has. One that has lost its upstream is not.
    fn reissue(&mut self, is_clean: bool, now: Monotonic) {
        let newest = self.issued.back().filter(|_| self.outage.is_none());
        let Some(Issued { number, job, .. }) = newest else { return };
        let (next, job) = (number + 1, Arc::clone(job));
        if next / NUMBER_STEP == job.number() / NUMBER_STEP && self.is_ready() {
            self.put(next, &job, is_clean, now);
        }
    }

    /// Says which version bits may be rolled, where that is another thing with this job.
    fn tell_mask(&mut self, job: &Sv1Job) {
        let Some(mask) = self.version_mask else { return };
        let mask = mask & job.version_mask();
        if self.told_mask != Some(mask) {
            self.told_mask = Some(mask);
            sv1::write_set_version_mask(&mut self.output, mask);
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn report(&self, now: Monotonic) -> Report {
        Report {
            identity: Arc::clone(&self.identity),
            class: self.device.class.name,
            extranonce1: self.extranonce1,
            version_mask: self.version_mask,
            target: self.announced.unwrap_or(Target::MAX),
            hashrate: self.meter.hashrate(now),
            shares: self.counts,
            connected: self.connected,
            last_share: self.last_share,
            best: self.best,
            long_coinbase: self.long_coinbase,
        }
    }

    /// How fast the upstream is told that it is: what was measured, once it has submitted enough, and until then what is expected of it, as far as
    /// its shares bear that out.
    ///
    /// What it says of itself adds nothing. The pool makes a channel's shares as hard as all machines behind it are fast, so boasts would take the
    /// others' shares from them. One that has not subscribed and named its user does not mine.
    #[must_use]
    pub fn nominal(&self, now: Monotonic) -> Hashrate {
        if !self.is_ready() {
            return Hashrate::default();
        }
        self.meter.settled(now).unwrap_or_else(|| self.expected().min(self.meter.proven(now)))
    }

    /// How fast it is taken to be while it has a channel of its own and no shares: what its class lets expect, or less if it says less.
    #[must_use]
    pub fn expected(&self) -> Hashrate {
        self.presumed_speed().min(self.device.nominal)
    }

    /// Nothing more is said to it but where to go: it is to connect anew, for a program that ends cannot keep it.
    pub fn handle_drain(&mut self) {
        sv1::write_reconnect(&mut self.output, None, 0);
    }
}

#[cfg(test)]
mod tests;

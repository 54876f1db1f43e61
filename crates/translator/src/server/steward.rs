//! Between the machines and the links: which upstream is used, and what each machine works on.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use adit_channel::{Attempt, Credit, Failed, LinkId, Roster};
use adit_net::{Bulletin, Clock, OsRng, Timer};
use adit_units::{Hashrate, Monotonic};
use rand_core::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::time::interval_at;

use super::board::{Board, Joining, Uplink};
use super::link::{Command, Destination, Link, LinkError, Report};
use super::registry::lock;
use super::{Hall, Mode, Pool, TranslatorConfig};
use crate::credential::{user_of, worker_name};
use crate::job::{EXTRANONCE1_LEN, NUMBER_STEP, Sv1Job};
use crate::legacy::LegacyConfig;
use crate::status::{ChannelStatus, UpstreamShares, UpstreamState};
use crate::upstream::{ChannelWork, DOUBT_AFTER, UpstreamConfig, payout};

mod desk;
mod overview;

use desk::Desk;
pub(super) use overview::{Known, Overview};
use overview::{add, follow};

/// What the channel is called that serves all machines; machines count from one.
pub(super) const COMMON: u64 = 0;

/// How long an upstream may take to hear what was passed on last, when all ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often upstreams are told how fast the machines are, and jobs are looked at that have got old.
const TICK: Duration = Duration::from_secs(1);

/// Ticks from one look at the machines' speed to the next.
const HASHRATE_TICKS: u32 = 10;

/// How long a machine whose channel was refused waits for the next attempt.
const REOPEN_PAUSE: Duration = Duration::from_secs(30);

/// What SV1 pools want to be there, and nearly all do not look at.
const USUAL_PASSWORD: &str = "x";

/// Links of which it is known whose they are.
const OWNERS_MAX: usize = 256;

/// Reports of links that may wait.
const REPORTS_MAX: usize = 1_024;

/// Reports that are looked at between two machines that come or go, if so many wait.
const REPORTS_PER_JOINING: usize = 16;

/// A link, and where it goes.
#[derive(Debug)]
struct Line {
    link: Link,
    to: Destination,
    /// Channels may be opened.
    is_ready: bool,
    /// Whose channels it does not open, or has closed.
    refused: BTreeSet<u64>,
    /// How often it has sent us on to where nobody goes.
    unfollowed: u64,
}

impl Line {
    /// It is not followed once more; the answer is how often by now, if the operator is to hear of it. That is ever more seldom, because a pool
    /// can send its miners on thousands of times a second.
    const fn note_unfollowed(&mut self) -> Option<u64> {
        self.unfollowed += 1;
        if self.unfollowed.is_power_of_two() { Some(self.unfollowed) } else { None }
    }
}

/// Holds everything together.
pub(super) struct Steward {
    hall: Arc<Hall>,
    config: Arc<TranslatorConfig>,
    joined: mpsc::Receiver<Joining>,
    /// Nobody else changes it, and it is held for moments only.
    overview: Arc<Mutex<Overview>>,
    roster: Roster<Line, ()>,
    uplinks: Arc<[Uplink]>,
    desks: BTreeMap<u64, Desk>,
    /// How long shares may wait at each upstream before it is doubted.
    doubt_after: Vec<Duration>,
    /// The number that the last job was given.
    last_number: u64,
    /// Refusals of channels that the operator has not been told of, and the reason of the last one.
    turned_away: (u64, String),
    /// Whose each link is or was, oldest first: shares are settled after their link has ended.
    owners: VecDeque<(LinkId, usize)>,
    reports: mpsc::Receiver<(LinkId, Report)>,
    reporter: mpsc::Sender<(LinkId, Report)>,
}

impl Steward {
    pub(super) fn new(
        hall: Arc<Hall>,
        common: Bulletin<Board>,
        joined: mpsc::Receiver<Joining>,
        overview: Arc<Mutex<Overview>>,
    ) -> Self {
        let (config, now) = (Arc::clone(&hall.config), Clock.now());
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        let mut desks = BTreeMap::new();
        if config.mode == Mode::Aggregated {
            desks.insert(COMMON, Desk::new(common, String::new(), config.first_guess, now.monotonic));
        }
        // Numbers go on from the time, so that no job has the id of one from before a restart.
        let last_number = u64::from(now.unix.to_secs()) << 24;
        Self {
            roster: Roster::new(config.upstreams.len(), now.monotonic),
            uplinks: Arc::new([]),
            turned_away: (0, String::new()),
            owners: VecDeque::new(),
            doubt_after: vec![DOUBT_AFTER; config.upstreams.len()],
            hall,
            config,
            joined,
            overview,
            desks,
            last_number,
            reports,
            reporter,
        }
    }

    /// Serves until the program ends.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut timer = Timer::default();
        let mut tick = interval_at(Clock.instant(Clock.monotonic() + TICK), TICK);
        let mut ticks = 0_u32;
        loop {
            self.act();
            timer.set(self.roster.poll_timeout());
            tokio::select! {
                biased;
                // Reports come last but for a timer that is looked at in every round: an upstream that never stops talking holds up nobody.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    self.handle_tick(ticks);
                }
                Some(joining) = self.joined.recv() => self.handle_joining(joining),
                Some((link, report)) = self.reports.recv() => self.handle_report(link, report),
                () = timer.fired() => {}
            }
        }
        for Line { link, .. } in self.roster.into_links() {
            // One that has much to report has nobody to report it to any more.
            if !link.task.finish(LAST_WORDS).await {
                tracing::warn!("an upstream did not take its last shares in time");
            }
        }
    }

    /// Does what is due: attempts to begin, links to let go.
    fn act(&mut self) {
        let now = Clock.monotonic();
        if let Some(link) = self.roster.poll_jobless(true, now) {
            self.leave(link, &LinkError::Jobless);
        }
        let gives_up = self.roster.handle_timeout(now);
        while let Some(upstream) = self.roster.poll_attempt(now) {
            let Some(to) = self.destination(upstream) else { continue };
            self.begin((upstream, 0), to);
        }
        if gives_up {
            tracing::warn!("no upstream can be had: machines stay connected, and wait until one comes back");
        }
        self.note_uplinks();
    }

    /// Where the next attempt at that upstream goes.
    fn destination(&self, upstream: usize) -> Option<Destination> {
        self.config.destination(upstream, *self.doubt_after.get(upstream)?)
    }

    fn begin(&mut self, (upstream, hops): (usize, u8), to: Destination) {
        tracing::debug!(upstream, pool = %to.pool.address(), "connecting");
        let (reporter, owners) = (self.reporter.clone(), &mut self.owners);
        self.roster.begin((upstream, hops), |id| {
            owners.push_back((id, upstream));
            Line {
                link: Link::begin(id, to.clone(), reporter),
                to,
                is_ready: false,
                refused: BTreeSet::new(),
                unfollowed: 0,
            }
        });
        if self.owners.len() > OWNERS_MAX {
            self.owners.pop_front();
        }
        // Machines work on for the one in use while the place that it sends them to is tried.
        if self.roster.used().is_none_or(|used| used.upstream != upstream) {
            self.set_state(upstream, UpstreamState::Connecting);
        }
    }

    /// Machines learn which links take shares.
    fn note_uplinks(&mut self) {
        let mut links = self.roster.attempts().map(|attempt| attempt.id);
        let is_same =
            self.uplinks.iter().all(|uplink| links.next() == Some(uplink.link)) && links.next().is_none();
        if is_same {
            return;
        }
        self.uplinks = self.roster.attempts().map(|attempt| attempt.link.link.uplink.clone()).collect();
        for desk in self.desks.values_mut() {
            desk.note_uplinks(&self.uplinks);
        }
    }

    /// Takes some of what waits, so that machines which come in crowds do not hold up the jobs of those that are there.
    fn take_reports(&mut self) {
        for _ in 0..REPORTS_PER_JOINING {
            let Ok((link, report)) = self.reports.try_recv() else { return };
            self.handle_report(link, report);
        }
    }

    fn handle_report(&mut self, link: LinkId, report: Report) {
        match report {
            Report::Ready => self.handle_ready(link),
            Report::Work(work) => self.handle_work(link, &work),
            Report::Refused { key, reason, was_open } => self.handle_refused(link, key, (reason, was_open)),
            Report::Redirected { host, port } => self.redirect(link, &host, port),
            Report::Tally { machines, channels, pending } => {
                self.handle_tally(link, machines, (channels, pending))
            }
            Report::Ended { reason, doubt_after, credit } => {
                let owner = self.owner(link);
                if let Some(known) = owner.and_then(|upstream| self.doubt_after.get_mut(upstream)) {
                    *known = doubt_after;
                }
                self.fail(link, &reason, credit);
            }
        }
    }

    /// A link is set up: everybody wants a channel there. Where there is nobody yet, that is all there is to wait for.
    fn handle_ready(&mut self, id: LinkId) {
        let Some(attempt) = self.roster.attempt_mut(id) else { return };
        attempt.link.is_ready = true;
        let all: Vec<u64> = self.desks.keys().copied().collect();
        all.iter().for_each(|&key| self.open(key));
        if all.is_empty() {
            self.use_link(id);
        }
    }

    /// Machines work for this link from now on, if it is better than what there is; the answer is whether they do.
    fn use_link(&mut self, id: LinkId) -> bool {
        if self.roster.used().is_some_and(|used| used.id == id) {
            return true;
        }
        let Some(attempt) = self.roster.attempt(id) else { return false };
        let (upstream, address) = (attempt.upstream, attempt.link.to.pool.address());
        let before = self.roster.used().map(|used| used.upstream);
        if !self.roster.handle_ready(id, (), Clock.monotonic()) {
            self.set_state(upstream, UpstreamState::Idle);
            return false;
        }
        tracing::info!(upstream, pool = %address, "machines work for this upstream");
        if let Some(before) = before.filter(|&before| before != upstream) {
            self.set_state(before, UpstreamState::Idle);
            self.forget_channels(before);
        }
        self.set_state(upstream, UpstreamState::InUse);
        if self.desks.is_empty() {
            self.roster.handle_job();
        }
        true
    }

    fn handle_work(&mut self, id: LinkId, work: &ChannelWork) {
        let (Some(attempt), Some(desk)) = (self.roster.attempt_mut(id), self.desks.get(&work.key)) else {
            return;
        };
        // A link on its way out goes on for those that the better one has given no work yet, and for those whose work has gone with it.
        let is_leaving = attempt.is_leaving();
        if is_leaving && !desk.works_for(id) && desk.live_job().is_some() {
            return;
        }
        attempt.link.refused.remove(&work.key);
        let target = self.config.upstreams.get(attempt.upstream);
        if let Some(expected) = target.and_then(|target| target.expects.as_ref())
            && let Err(error) =
                payout::check(&work.job, work.prefix.as_bytes(), work.extranonce_size, expected)
        {
            return self.leave(id, &error.into());
        }
        let number = self.last_number + NUMBER_STEP;
        let (now, used) = (Clock.monotonic(), self.roster.used().map(|used| used.id));
        let floor = if desk.ends_former(id, work) { number } else { desk.floor };
        let job = match Sv1Job::new(work, id, (number, floor), self.config.machine.extranonce2_len) {
            Ok(job) if self.config.mode == Mode::Aggregated => Arc::new(job.rendered()),
            Ok(job) => Arc::new(job),
            Err(error) => return self.leave(id, &error.into()),
        };
        if is_leaving {
            self.roster.keep(id, now);
        } else {
            if used != Some(id) && !self.use_link(id) {
                return;
            }
            self.roster.handle_job();
            self.note_uplinks();
        }
        self.last_number = number;
        if let Some(desk) = self.desks.get_mut(&work.key) {
            desk.floor = floor;
            desk.put(job, &self.uplinks, now);
        }
    }

    /// A channel was not opened, or was closed. An upstream that has none for anybody is left.
    fn handle_refused(&mut self, id: LinkId, key: u64, (reason, was_open): (String, bool)) {
        let machines = self.desks.len();
        let (Some(attempt), Some(desk)) = (self.roster.attempt_mut(id), self.desks.get_mut(&key)) else {
            return;
        };
        if was_open {
            desk.drop_jobs(id, &self.uplinks);
        }
        if attempt.is_leaving() {
            return;
        }
        attempt.link.refused.insert(key);
        if attempt.link.refused.len() >= machines {
            let error = if was_open { LinkError::Closed(reason) } else { LinkError::Refused(reason) };
            return self.leave(id, &error);
        }
        tracing::debug!(
            machine = key,
            reason,
            "the upstream has no channel for the machine; asking again later"
        );
        let pause = if was_open { TICK } else { REOPEN_PAUSE };
        desk.reopen = Some(Clock.monotonic() + pause);
        self.turned_away = (self.turned_away.0 + 1, reason);
    }

    /// An upstream sends us on, to another host with the same authority.
    fn redirect(&mut self, id: LinkId, host: &str, port: u16) {
        let Some(attempt) = self.roster.attempt(id).filter(|attempt| !attempt.is_leaving()) else { return };
        let to = attempt.link.to.clone();
        // SV1 has no authority, so nobody is followed there; its links never tell of such a thing.
        let Pool::Sv2(url) = &to.pool else { return };
        let reason = match url.redirected(host, port) {
            Err(error) => error.to_string(),
            Ok(elsewhere) => match self.roster.redirect(id, Clock.monotonic()) {
                None => "it does so too often".to_owned(),
                Some(next) => {
                    tracing::info!(from = %to.pool.address(), to = %elsewhere.address(), "the upstream sends its miners on");
                    return self.begin(next, to.at(elsewhere));
                }
            },
        };
        let times = self.roster.attempt_mut(id).and_then(|attempt| attempt.link.note_unfollowed());
        if let Some(times) = times {
            tracing::warn!(times, host, port, reason, "the upstream sends its miners on; staying");
        }
    }

    fn handle_tally(
        &self,
        id: LinkId,
        machines: BTreeMap<u64, UpstreamShares>,
        (channels, pending): (Vec<ChannelStatus>, u64),
    ) {
        let upstream = self.owner(id);
        let is_used = self.roster.used().is_some_and(|used| used.id == id);
        let overview = &mut *lock(&self.overview);
        let mut known = upstream.and_then(|upstream| overview.upstreams.get_mut(upstream));
        for (machine, shares) in machines {
            if let Some(known) = &mut known {
                add(&mut known.shares, &shares);
            }
            follow(overview.machines.entry(machine).or_default(), &shares);
        }
        if let Some(known) = known.filter(|_| is_used) {
            known.channels = channels;
            known.shares.pending = pending;
        }
    }

    /// Whose a link is or was.
    fn owner(&self, id: LinkId) -> Option<usize> {
        // One in use for long is not forgotten, however many others were tried meanwhile.
        let known = || self.owners.iter().rfind(|(link, _)| *link == id).map(|(_, upstream)| *upstream);
        self.roster.attempt(id).map(|attempt| attempt.upstream).or_else(known)
    }

    /// Shares that were accepted here and found no way to their link are lost to its upstream, whether their machine is still there or not.
    fn count_unsent(&self) {
        for (link, count) in self.hall.registry.take_unsent() {
            let upstream = self.owner(link);
            tracing::warn!(upstream, count, "accepted shares found no way up");
            if let Some(upstream) = upstream {
                self.note(upstream, |known| known.shares.lost += count);
            }
        }
    }

    /// A link is to end.
    fn leave(&mut self, id: LinkId, reason: &LinkError) {
        self.fail(id, reason, Credit::Given);
    }

    /// A link has ended, or is to end.
    fn fail(&mut self, id: LinkId, reason: &LinkError, credit: Credit) {
        let mut jitter = [0];
        OsRng.fill_bytes(&mut jitter);
        let [jitter] = jitter;
        let to = self.roster.attempt(id).filter(|attempt| !attempt.is_leaving());
        let to = to.map(|attempt| attempt.link.to.pool.address());
        let failed = self.roster.handle_failed(id, credit, Clock.monotonic(), jitter);
        let Some(Failed { upstream, was_used }) = failed else {
            if let Some(to) = to {
                tracing::warn!(to, %reason, "the upstream sends its miners to where they cannot work; staying");
            }
            return;
        };
        tracing::warn!(upstream, %reason, was_used, "upstream failed");
        self.forget_channels(upstream);
        self.set_state(upstream, UpstreamState::Failed { reason: reason.to_string() });
        self.note_uplinks();
    }

    /// An upstream that is not used has no channels to show.
    fn forget_channels(&self, upstream: usize) {
        self.note(upstream, |known| {
            known.channels.clear();
            known.shares.pending = 0;
        });
    }

    /// Notes something of an upstream.
    fn note(&self, upstream: usize, change: impl FnOnce(&mut Known)) {
        if let Some(known) = lock(&self.overview).upstreams.get_mut(upstream) {
            change(known);
        }
    }

    fn set_state(&self, upstream: usize, state: UpstreamState) {
        self.note(upstream, |known| known.state = state);
    }

    fn handle_joining(&mut self, joining: Joining) {
        match joining {
            Joining::Joined { machine, user, nominal, board } => {
                board.modify(|board| board.uplinks = Arc::clone(&self.uplinks));
                let desk =
                    Desk::new(board, worker_name(&user).as_str().to_owned(), nominal, Clock.monotonic());
                self.desks.insert(machine, desk);
                self.open(machine);
            }
            Joining::Left { machine } => {
                self.desks.remove(&machine);
                self.close(machine);
            }
        }
        self.take_reports();
    }

    /// Asks for a machine's channel wherever channels may be opened.
    fn open(&mut self, key: u64) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        let ready = |attempt: &&Attempt<Line, ()>| attempt.link.is_ready && !attempt.is_leaving();
        for attempt in self.roster.attempts().filter(ready) {
            let user = self.config.user(attempt.upstream, &desk.worker);
            let is_told = attempt.link.link.task.tell(Command::Open { key, user, nominal: desk.nominal });
            if !is_told {
                desk.reopen = Some(Clock.monotonic() + TICK);
            }
        }
    }

    /// A machine is gone, and needs no channel anywhere.
    fn close(&mut self, key: u64) {
        let all: Vec<LinkId> = self.roster.attempts().map(|attempt| attempt.id).collect();
        for id in all {
            if let Some(attempt) = self.roster.attempt_mut(id) {
                attempt.link.refused.remove(&key);
                // There is room for as many as a connection may have channels; a link that is so far behind has other troubles.
                let _ = attempt.link.link.task.tell(Command::Close { key });
            }
        }
    }

    fn handle_tick(&mut self, ticks: u32) {
        let now = Clock.now();
        self.renew(now.monotonic);
        self.keep_needed(now.monotonic);
        let due: Vec<u64> = self
            .desks
            .iter_mut()
            .filter_map(|(&key, desk)| desk.reopen.take_if(|due| *due <= now.monotonic).map(|_| key))
            .collect();
        due.into_iter().for_each(|key| self.open(key));
        // A machine may be gone before it could say that it is there.
        let gone = self.desks.iter().filter(|(_, desk)| desk.post.is_unread()).map(|(&key, _)| key);
        for key in gone.collect::<Vec<_>>() {
            self.desks.remove(&key);
            self.close(key);
        }
        // One sum is quickly found, and a farm that starts should not flood the pool for long.
        if self.config.mode == Mode::Aggregated || ticks.is_multiple_of(HASHRATE_TICKS) {
            self.tell_hashrates();
        }
        if ticks.is_multiple_of(HASHRATE_TICKS) {
            if let (times @ 1.., reason) = core::mem::take(&mut self.turned_away) {
                tracing::warn!(
                    times,
                    reason,
                    "the upstream has no channels for some machines, which have no work of it; asking again"
                );
            }
            self.forget_machines();
        }
        self.count_unsent();
    }

    /// A link on its way out stays for as long as machines have no other work than its own: the better upstream may take long to open thousands
    /// of channels, or have none for some.
    fn keep_needed(&mut self, now: Monotonic) {
        let leaving = self.roster.attempts().filter(|attempt| attempt.is_leaving());
        let needed = |id: &LinkId| self.desks.values().any(|desk| desk.works_for(*id));
        for id in leaving.map(|attempt| attempt.id).filter(needed).collect::<Vec<_>>() {
            self.roster.keep(id, now);
        }
    }

    /// Machines are given jobs again that have been the newest for long, because some take a server that says nothing for dead.
    fn renew(&mut self, now: Monotonic) {
        // What would be too old when this is looked at next is renewed now.
        let soon = now + TICK;
        for desk in self.desks.values_mut().filter(|desk| desk.posted + self.config.keepalive < soon) {
            let Some(job) = desk.live_job() else { continue };
            self.last_number += NUMBER_STEP;
            desk.put(Arc::new(job.renewed(self.last_number)), &self.uplinks, now);
        }
    }

    fn tell_hashrates(&mut self) {
        for (key, nominal) in self.speeds() {
            for attempt in self.roster.attempts().filter(|attempt| attempt.link.is_ready) {
                // What was not heard is told again.
                let _ = attempt.link.link.task.tell(Command::Hashrate { key, nominal });
            }
        }
    }

    /// How fast those behind each channel are, where that is to be told.
    fn speeds(&mut self) -> Vec<(u64, Hashrate)> {
        let rates: HashMap<u64, u64> = if self.config.mode == Mode::Aggregated {
            HashMap::from([(COMMON, self.hall.registry.nominal())])
        } else {
            self.hall.registry.machines().iter().map(|slot| (slot.id, slot.hashrate())).collect()
        };
        let told = self.desks.iter_mut().filter_map(|(&key, desk)| {
            // While nobody is there the last speed holds, or what the operator expects: a pool that is told of none makes its target as easy as
            // can be, and those who come back would be given its next job with that.
            let rate = *rates.get(&key).filter(|&&rate| rate > 0)?;
            desk.nominal = Hashrate::from_hashes_per_second(rate);
            Some((key, desk.nominal))
        });
        told.collect()
    }

    /// What became of the shares of machines that are gone is told no more, once their last answers have had time to come.
    fn forget_machines(&self) {
        let here: HashMap<u64, ()> = self.hall.registry.machines().iter().map(|slot| (slot.id, ())).collect();
        lock(&self.overview).machines.retain(|machine, _| here.contains_key(machine));
    }
}

impl TranslatorConfig {
    /// Where an attempt at that upstream goes.
    pub(super) fn destination(&self, upstream: usize, doubt_after: Duration) -> Option<Destination> {
        let target = self.upstreams.get(upstream)?;
        let own = u16::try_from(EXTRANONCE1_LEN).unwrap_or(u16::MAX);
        let config = UpstreamConfig {
            host: target.pool.url().host().to_owned(),
            port: target.pool.url().port(),
            user: target.user.clone(),
            min_extranonce_size: own.saturating_add(self.machine.extranonce2_len.into()),
            names_workers: true,
            doubt_after,
        };
        let legacy = LegacyConfig {
            user: target.user.clone(),
            password: target.password.clone().unwrap_or_else(|| USUAL_PASSWORD.to_owned()),
            version_mask: self.machine.version_mask,
        };
        Some(Destination {
            pool: target.pool.clone(),
            insecure: self.insecure,
            upstream: Arc::new(config),
            legacy: Arc::new(legacy),
            rest: self.rest.clone(),
        })
    }

    /// Whom an upstream is to credit for the channel of whoever has that name.
    fn user(&self, upstream: usize, worker: &str) -> String {
        let user = self.upstreams.get(upstream).map(|target| target.user.as_str()).unwrap_or_default();
        match (self.mode, worker) {
            (Mode::Aggregated, _) | (Mode::PerMachine, "") => user.to_owned(),
            (Mode::PerMachine, worker) => user_of(user, worker),
        }
    }
}

#[cfg(test)]
mod tests;

//! One connection to an upstream, in a task of its own.

use core::future::pending;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use adit_channel::{Credit, LinkId};
use adit_net::{
    Clock, ConnectError, Intake, IoError, QueueError, Rest, TaskHandle, Timer, Urgent, Url, at_once,
};
use adit_transport::OpenError;
use adit_units::{Hashrate, Monotonic, Work};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::board::{Up, Uplink};
use super::departure::Departure;
use super::newest::Newest;
use super::pool::Pool;
use super::wire::{Speaker, Wire};
use crate::job::NoRoom;
use crate::legacy::{LegacyConfig, LegacyError};
use crate::status::{ChannelStatus, UpstreamShares};
use crate::sv1::LineTooLong;
use crate::upstream::payout::PayoutError;
use crate::upstream::{ChannelWork, Event, NotOpened, Outcome, UpShare, UpstreamConfig, UpstreamError};

/// Commands that may wait for a link that is busy.
const COMMANDS_MAX: usize = 65_536;

/// Shares that may wait for a link that is busy; more are lost, and counted.
const SHARES_MAX: usize = 16_384;

/// Blocks that may wait for a link that is busy; they go before all shares.
const BLOCKS_MAX: usize = 1_024;

/// Shares that there is room for from the beginning, when they are sent up at once.
const SHARES_BATCH: usize = 256;

/// How long shares are left to gather after others went up, so that in busy times one write serves many. After a quiet time none waits, and a
/// block never does.
const GATHERING: Duration = Duration::from_millis(5);

/// How much longer the last ones wait when busy times end all at once. Until then it is a machine's next share that sends all up, in a wake-up that
/// takes place anyway.
const LULL: Duration = Duration::from_millis(20);

/// How long an upstream may take to hear the last of a link that is given up.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How often the steward hears what became of shares.
const TALLY_INTERVAL: Duration = Duration::from_secs(1);

/// Different codes of refusals that are counted apart.
const CODES_MAX: usize = 16;

/// Channels that are shown one by one.
const CHANNELS_SHOWN: usize = 2_048;

/// How often at most a pool is read from before it is judged by what it has not said. Together that is about what a socket holds, and a pool
/// that never stops talking gains nothing by it.
const CATCH_UP_READS: usize = 256;

/// Reports that may wait before no more is read from the pool that causes them.
const OUTGOING_MAX: usize = 1_024;

/// What a link is told.
#[derive(Debug)]
pub(super) enum Command {
    /// A channel is wanted.
    Open { key: u64, user: String, nominal: Hashrate },
    /// It is wanted no longer.
    Close { key: u64 },
    /// Those behind it have this speed.
    Hashrate { key: u64, nominal: Hashrate },
}

/// What a link tells.
#[derive(Debug)]
pub(super) enum Report {
    /// Channels may be opened.
    Ready,
    /// There is work.
    Work(ChannelWork),
    /// A channel is not opened, or is no longer open.
    Refused { key: u64, reason: String, was_open: bool },
    /// It wants its clients elsewhere.
    Redirected { host: String, port: u16 },
    /// What has become of shares since this was told last, and the channels as they are.
    Tally { machines: BTreeMap<u64, UpstreamShares>, channels: Vec<ChannelStatus>, pending: u64 },
    /// It is over, and the next one is to have this patience.
    Ended { reason: LinkError, doubt_after: Duration, credit: Credit },
}

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    #[error("the pool is no SV1 pool: {0}")]
    TooLong(#[from] LineTooLong),
    #[error("the connection is lost: {0}")]
    Broken(io::Error),
    #[error("the pool does not read")]
    Deaf,
    #[error("the connection is lost: {0}")]
    Io(#[from] IoError),
    #[error("the pool sent what cannot be read: {0}")]
    Open(#[from] OpenError),
    #[error("the pool does not read: {0}")]
    Queue(#[from] QueueError),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Payout(#[from] PayoutError),
    #[error("the pool opens no channel: {0}")]
    Refused(String),
    #[error("the pool closed the channel: {0}")]
    Closed(String),
    #[error("the pool sends no work")]
    Jobless,
    #[error("it is of no more use")]
    Dismissed,
}

/// Where a link goes.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) pool: Pool,
    /// Whether a server elsewhere may do without a key that it is known by.
    pub(super) insecure: bool,
    /// For a pool that speaks SV2.
    pub(super) upstream: Arc<UpstreamConfig>,
    /// For a pool that speaks SV1.
    pub(super) legacy: Arc<LegacyConfig>,
    /// The rest of the thread, which ends when the pool says something.
    pub(super) rest: Option<Arc<Rest>>,
}

impl Destination {
    /// The same upstream at the address that it sends its clients to, which its server there is told, too.
    pub(super) fn at(&self, url: Url) -> Self {
        let mut upstream = UpstreamConfig::clone(&self.upstream);
        (upstream.host, upstream.port) = (url.host().to_owned(), url.port());
        Self { pool: Pool::Sv2(url), upstream: Arc::new(upstream), ..self.clone() }
    }
}

/// A handle on a link, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    /// What the link is told.
    pub(super) task: TaskHandle<Command>,
    /// Shares go past whoever tells it things.
    pub(super) uplink: Uplink,
}

impl Link {
    /// Begins an attempt. What it reports comes with its number.
    pub(super) fn begin(id: LinkId, to: Destination, reports: mpsc::Sender<(LinkId, Report)>) -> Self {
        let (shares, submitted) = mpsc::channel(SHARES_MAX);
        let (blocks, found) = mpsc::channel(BLOCKS_MAX);
        let submitted = Submitted { shares: submitted, blocks: found };
        let desk = Desk::new(id, reports);
        let uplink = Uplink { link: id, shares, blocks, departure: Arc::clone(&desk.departure) };
        let task = TaskHandle::spawn(COMMANDS_MAX, move |told| desk.serve(to, told, submitted));
        Self { task, uplink }
    }
}

/// What machines send up.
struct Submitted {
    shares: mpsc::Receiver<Up>,
    blocks: mpsc::Receiver<Up>,
}

impl Submitted {
    /// Waits for what comes next: a block, or a share if one is wanted. A share that is not wanted yet wakes nobody up.
    async fn recv(&mut self, wants_share: bool) -> Up {
        tokio::select! {
            biased;
            Some(up) = self.blocks.recv() => up,
            Some(up) = self.shares.recv(), if wants_share => up,
            else => pending().await,
        }
    }

    /// Takes what has come so far.
    fn take_rest(&mut self, gathered: &mut Vec<Up>) {
        for queue in [&mut self.blocks, &mut self.shares] {
            // Whoever goes on sending is not waited for.
            gathered.extend((0..SHARES_MAX).map_while(|_| queue.try_recv().ok()));
        }
    }

    /// Takes no more.
    fn close(&mut self) {
        self.blocks.close();
        self.shares.close();
    }
}

/// What is known of shares on their way.
#[derive(Debug, Default)]
struct Tally {
    /// How many shares were sent.
    last_tag: u64,
    has_accepted: bool,
    /// By what they are called.
    pending: HashMap<u64, Sent>,
    /// What became of the shares of each machine since this was told last; `pending` counts those that were sent since then.
    machines: BTreeMap<u64, UpstreamShares>,
    /// The shares of each channel, by what its owner calls it.
    channels: HashMap<u64, OnChannel>,
}

/// What was sent up on a channel.
#[derive(Debug, Default)]
struct OnChannel {
    /// What became of it.
    shares: UpstreamShares,
    /// Blocks among it, whatever became of them.
    blocks: u64,
}

impl Tally {
    /// A share goes up; the answer is what it is called from now on.
    fn note_sent(&mut self, sent: Sent) -> u64 {
        self.last_tag += 1;
        self.machines.entry(sent.machine).or_default().pending += 1;
        self.channels.entry(sent.key).or_default().blocks += u64::from(sent.is_block);
        self.pending.insert(self.last_tag, sent);
        self.last_tag
    }

    /// What became of the shares until now.
    const fn credit(&self) -> Credit {
        if self.has_accepted || self.last_tag == 0 { Credit::Given } else { Credit::Withheld }
    }

    /// Counts what became of a share; a second word about the same share is passed over.
    fn settle(&mut self, tag: u64, outcome: &Outcome) {
        let Some(Sent { machine, key, work, .. }) = self.pending.remove(&tag) else { return };
        self.has_accepted |= *outcome == Outcome::Accepted;
        if let Outcome::Refused(code) = outcome {
            tracing::debug!(machine, code, "share refused upstream");
        }
        // The last shares of a machine that has left are settled when its channel is closed, and nobody would take an entry away again.
        if let Some(channel) = self.channels.get_mut(&key) {
            note(&mut channel.shares, outcome, work);
        }
        note(self.machines.entry(machine).or_default(), outcome, work);
    }
}

/// A share that the pool has not answered.
#[derive(Clone, Copy, Debug)]
struct Sent {
    machine: u64,
    key: u64,
    work: Work,
    is_block: bool,
}

/// The task's state.
struct Desk {
    id: LinkId,
    reports: mpsc::Sender<(LinkId, Report)>,
    tally: Tally,
    /// Shares that wait to be sent up: the first one, while others gather behind it.
    gathered: Vec<Up>,
    /// When they go up, and before when none goes up alone.
    shares_due: Monotonic,
    /// Whether several went up together last, so that more are sure to come, and the first one after that time is to say so.
    is_busy: bool,
    /// Where machines see that.
    departure: Arc<Departure>,
    /// What the steward has had no room for yet. Whatever it is busy with, as with thousands of jobs for a new tip, shares go up meanwhile.
    outgoing: VecDeque<Report>,
    /// Work for it, which comes after that.
    newest: Newest,
}

impl Desk {
    fn new(id: LinkId, reports: mpsc::Sender<(LinkId, Report)>) -> Self {
        Self {
            id,
            reports,
            tally: Tally::default(),
            gathered: Vec::with_capacity(SHARES_BATCH),
            shares_due: Monotonic::default(),
            is_busy: false,
            departure: Arc::default(),
            outgoing: VecDeque::new(),
            newest: Newest::default(),
        }
    }

    async fn serve(mut self, to: Destination, mut commands: mpsc::Receiver<Command>, mut shares: Submitted) {
        let mut upstream = Speaker::new(&to, Clock.monotonic());
        let ended = self.run(&to, &mut upstream, (&mut commands, &mut shares)).await;
        upstream.abandon();
        // What machines have sent in the meantime is lost too.
        shares.close();
        shares.take_rest(&mut self.gathered);
        for up in self.gathered.drain(..) {
            let machine = self.tally.machines.entry(up.machine).or_default();
            (machine.pending, machine.lost) = (machine.pending + 1, machine.lost + 1);
        }
        self.take_events(&mut upstream);
        self.add_tally(&upstream);
        let reason = ended.err().unwrap_or(LinkError::Dismissed);
        let (doubt_after, credit) = (upstream.doubt_after_next(), self.tally.credit());
        self.outgoing.push_back(Report::Ended { reason, doubt_after, credit });
        // Its work is of no more use.
        for report in self.outgoing {
            let _ = self.reports.send((self.id, report)).await;
        }
    }

    /// Connects and serves until there is a reason to end.
    async fn run(
        &mut self,
        to: &Destination,
        upstream: &mut Speaker,
        (commands, shares): (&mut mpsc::Receiver<Command>, &mut Submitted),
    ) -> Result<(), LinkError> {
        let mut connection = tokio::select! {
            biased;
            () = dismissed(commands) => return Ok(()),
            connection = Wire::dial(to) => connection?,
        };
        let _urgent = to.rest.as_ref().and_then(|rest| urgent(rest, &connection));
        // The deadlines of the setup run from when there is somebody to answer.
        *upstream = Speaker::new(to, Clock.monotonic());
        let mut timer = Timer::default();
        let mut tally_due = Clock.monotonic() + TALLY_INTERVAL;
        loop {
            self.take_events(upstream);
            if self.tell().is_err() {
                return Ok(());
            }
            connection.queue(upstream)?;
            let (new_work, has_reports) = self.waiting();
            let intake = self.intake();
            let times = [upstream.poll_timeout(), self.gathered_due(), new_work, Some(tally_due)];
            timer.set(times.into_iter().flatten().min());
            tokio::select! {
                biased;
                // What the pool sends comes last, so that one that never stops cannot keep the rest from being looked at.
                () = timer.fired() => {
                    self.judge(&mut connection, upstream).await?;
                    if self.gathered_due().is_some_and(|due| due <= Clock.monotonic()) {
                        self.send_rest(upstream, shares);
                    }
                    if Clock.monotonic() >= tally_due {
                        tally_due = Clock.monotonic() + TALLY_INTERVAL;
                        if self.outgoing.is_empty() {
                            self.add_tally(upstream);
                        }
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => {
                        // The last shares of a machine that leaves come before that it has left.
                        self.send_rest(upstream, shares);
                        self.obey(upstream, command);
                    }
                    None => {
                        self.send_rest(upstream, shares);
                        connection.queue(upstream)?;
                        connection.close(CLOSE_PATIENCE).await;
                        return Ok(());
                    }
                },
                up = shares.recv(self.gathered_due().is_none()) => self.gather(up, upstream, shares),
                () = self.departure.come(), if self.is_busy => self.send_rest(upstream, shares),
                () = has_room(&self.reports), if has_reports => {}
                io = connection.io(intake) => {
                    io?;
                    self.hear(&mut connection, upstream)?;
                }
            }
        }
    }

    /// Takes in what the pool has said.
    fn hear(&mut self, connection: &mut Wire, upstream: &mut Speaker) -> Result<(), LinkError> {
        while connection.read_one(upstream)? {
            self.take_events(upstream);
        }
        Ok(())
    }

    /// Tells the protocol the time. Where that can end the link, the pool is heard first: after a pause of the whole process, what it has said in
    /// time waits to be read.
    async fn judge(&mut self, connection: &mut Wire, upstream: &mut Speaker) -> Result<(), LinkError> {
        let due = upstream.poll_timeout().is_some_and(|due| due <= Clock.monotonic());
        for _ in 0..if due { CATCH_UP_READS } else { 0 } {
            let Some(io) = at_once(connection.io(self.intake())).await else { break };
            io?;
            self.hear(connection, upstream)?;
        }
        upstream.handle_timeout(Clock.monotonic())
    }

    /// Whether more is read; whatever waits to be written goes out in any case, as it may be a block.
    fn intake(&self) -> Intake {
        if self.outgoing.len() < OUTGOING_MAX { Intake::Open } else { Intake::Paused }
    }

    /// Sends a share up, or has it wait for others. A block waits for nothing.
    fn gather(&mut self, up: Up, upstream: &mut Speaker, shares: &mut Submitted) {
        let is_due = up.share.is_block || self.shares_due <= Clock.monotonic();
        self.gathered.push(up);
        if is_due {
            self.send_rest(upstream, shares);
        }
    }

    /// When those that wait go up at the latest. Where they come one by one and none waits, there is nothing to wake up for.
    fn gathered_due(&self) -> Option<Monotonic> {
        if self.is_busy {
            return Some(self.shares_due + LULL);
        }
        (!self.gathered.is_empty()).then_some(self.shares_due)
    }

    /// Sends what machines have sent so far.
    fn send_rest(&mut self, upstream: &mut Speaker, shares: &mut Submitted) {
        shares.take_rest(&mut self.gathered);
        self.is_busy = self.gathered.len() > 1;
        if !self.gathered.is_empty() {
            self.shares_due = Clock.monotonic() + GATHERING;
        }
        self.departure.plan(self.is_busy.then_some(self.shares_due));
        self.submit(upstream);
    }

    fn obey(&mut self, upstream: &mut Speaker, command: Command) {
        let now = Clock.monotonic();
        match command {
            Command::Open { key, user, nominal } => match upstream.open(key, &user, nominal, now) {
                Ok(()) | Err(NotOpened::Taken) => {}
                Err(error) => {
                    let refused = Report::Refused { key, reason: error.to_string(), was_open: false };
                    self.outgoing.push_back(refused);
                }
            },
            Command::Close { key } => {
                upstream.close(key);
                self.newest.forget(key);
                self.tally.channels.remove(&key);
            }
            Command::Hashrate { key, nominal } => upstream.set_hashrate(key, nominal, now),
        }
    }

    fn submit(&mut self, upstream: &mut Speaker) {
        let mut gathered = core::mem::take(&mut self.gathered);
        for Up { machine, share } in gathered.drain(..) {
            let (key, work, is_block) = (share.route.key, share.work, share.is_block);
            let tag = self.tally.note_sent(Sent { machine, key, work, is_block });
            let up = UpShare {
                tag,
                key,
                source: share.route.source,
                nonce: share.nonce,
                ntime: share.ntime,
                version: share.version,
                extranonce: share.extranonce,
                worker: share.worker,
            };
            if let Err(error) = upstream.submit(&up) {
                tracing::debug!(machine, %error, "share cannot be sent up");
                self.tally.settle(tag, &Outcome::Lost);
            }
        }
        // Its room is used again.
        self.gathered = gathered;
    }

    /// Takes what the protocol has to tell.
    fn take_events(&mut self, upstream: &mut Speaker) {
        while let Some(event) = upstream.poll_event() {
            let report = match event {
                Event::Opened { .. } => continue,
                Event::Settled { tag, outcome } => {
                    self.tally.settle(tag, &outcome);
                    continue;
                }
                Event::Work(work) => {
                    self.newest.put(work, Clock.monotonic());
                    continue;
                }
                Event::Ready { .. } => Report::Ready,
                Event::Refused { key, code } => Report::Refused { key, reason: code, was_open: false },
                Event::Closed { key, reason } => {
                    self.newest.forget(key);
                    Report::Refused { key, reason, was_open: true }
                }
                Event::Reconnect { host, port } => Report::Redirected { host, port },
            };
            self.outgoing.push_back(report);
        }
    }

    /// Reports as much as there is room for.
    fn tell(&mut self) -> Result<(), Gone> {
        let now = Clock.monotonic();
        loop {
            let room = match self.reports.try_reserve() {
                Ok(room) => room,
                Err(TrySendError::Full(())) => return Ok(()),
                Err(TrySendError::Closed(())) => return Err(Gone),
            };
            let report = self.outgoing.pop_front().or_else(|| self.newest.pop(now).map(Report::Work));
            let Some(report) = report else { return Ok(()) };
            room.send((self.id, report));
        }
    }

    /// When there will be work to report, and whether there is something now that there was no room for.
    fn waiting(&self) -> (Option<Monotonic>, bool) {
        let (now, due) = (Clock.monotonic(), self.newest.next_due());
        let is_due = due.is_some_and(|due| due <= now);
        (due.filter(|_| !is_due), is_due || !self.outgoing.is_empty())
    }

    /// What has become of shares since this was told last, and the channels as they are.
    fn add_tally(&mut self, upstream: &Speaker) {
        let machines = core::mem::take(&mut self.tally.machines);
        let known = &self.tally.channels;
        let unused = OnChannel::default();
        let channels = upstream.channels().take(CHANNELS_SHOWN).map(|channel| {
            let OnChannel { shares, blocks } = known.get(&channel.key).unwrap_or(&unused);
            ChannelStatus {
                channel_id: channel.channel_id,
                machine: (channel.key != super::steward::COMMON).then_some(channel.key),
                user: channel.user.to_owned(),
                nominal: channel.nominal,
                target: channel.target,
                extranonce_prefix: channel.prefix.into(),
                extranonce_size: channel.extranonce_size,
                version_rolling: upstream.allows_version_rolling(),
                shares: UpstreamShares { pending: channel.pending as u64, ..shares.clone() },
                blocks: *blocks,
            }
        });
        let channels: Vec<_> = channels.collect();
        let pending = upstream.pending() as u64;
        self.outgoing.push_back(Report::Tally { machines, channels, pending });
    }
}

/// Nobody listens to reports any more.
struct Gone;

/// Waits until nobody has anything to say to the link any more. What is said before it is up is of no use.
async fn dismissed(commands: &mut mpsc::Receiver<Command>) {
    while commands.recv().await.is_some() {}
}

/// Waits until there is room for a report, or nobody to take it.
async fn has_room(reports: &mpsc::Sender<(LinkId, Report)>) {
    let _ = reports.reserve().await;
}

/// Counts what became of a share.
fn note(shares: &mut UpstreamShares, outcome: &Outcome, work: Work) {
    match outcome {
        Outcome::Accepted => {
            shares.accepted += 1;
            shares.work = shares.work.saturating_add(work.to_hashes());
        }
        Outcome::Lost => shares.lost += 1,
        Outcome::Refused(code) => {
            shares.refused += 1;
            count_code(&mut shares.refusals, code.clone(), 1);
        }
    }
}

/// Counts a code apart from others, as long as there are not too many of them.
pub(super) fn count_code(codes: &mut Vec<(String, u64)>, code: String, times: u64) {
    if let Some((_, count)) = codes.iter_mut().find(|(known, _)| *known == code) {
        *count = count.saturating_add(times);
    } else if codes.len() < CODES_MAX {
        codes.push((code, times));
    }
}

/// Has rests end for what the pool says.
fn urgent(rest: &Arc<Rest>, connection: &Wire) -> Option<Urgent> {
    let urgent = rest.ends_for(connection.socket());
    urgent
        .inspect_err(|error| tracing::warn!(%error, "jobs may come four milliseconds late: a pool's connection cannot be watched; allow more open files"))
        .ok()
}

#[cfg(test)]
mod tests;

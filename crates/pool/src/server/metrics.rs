//! Numbers about a running pool, kept without locks and added up once per batch of shares.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_messages::error_code::SubmitSharesError;
use adit_net::{Clock, Draining, Refused};
use adit_share::Tip;
use adit_units::{Hashrate, Height, Monotonic};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Counters, Work};

/// The time over which [`Metrics::hashrate`] is taken; less right after the start.
pub const HASHRATE_WINDOW: Duration = Duration::from_secs(120);

/// How often the accepted work is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Most moments that are remembered while shares are not written; after that many seconds the newest are left out.
const LAG_SAMPLES_MAX: usize = 3_600;

/// Ways to refuse a share.
const CODES: usize = SubmitSharesError::ALL.len();

/// The pool's numbers at one moment; each is exact, but they are read one after the other while shares come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Open connections, those in their handshake included.
    pub connections: u64,
    /// Connections that were refused since the start, by the limit that they ran into.
    pub refused_connections: [(Refused, u64); Refused::ALL.len()],
    /// Open channels.
    pub channels: u64,
    /// What the miners' hash rate must have been for the work of the last [`HASHRATE_WINDOW`].
    pub hashrate: Hashrate,
    /// Accepted work since the start.
    pub work: adit_units::Work,
    /// Accepted shares since the start, blocks among them.
    pub accepted: u64,
    /// Refused shares since the start, for each code.
    pub rejected: [(SubmitSharesError, u64); CODES],
    /// Blocks found since the start.
    pub blocks_found: u64,
    /// Blocks that the node has taken into its best chain, those of earlier runs that were handed over again included.
    pub blocks_accepted: u64,
    /// Blocks that lost against another.
    pub blocks_stale: u64,
    /// Blocks that a node says break a rule; another may take one all the same.
    pub blocks_refused: u64,
    /// Height of the block that is mined now; `None` before the first template.
    pub height: Option<Height>,
    /// The time since the last template came.
    pub template_age: Option<Duration>,
    /// How long it took at the present tip from hearing of it until it was on its way to the first miner; `None` while it is not.
    pub tip_to_first_miner: Option<Duration>,
    /// The same until the last miner that has been told so far.
    pub tip_to_last_miner: Option<Duration>,
    /// How long miners have worked on empty blocks since the start, because templates came later than their tips.
    pub time_on_empty_work: Duration,
    /// Accepted shares that are not known to be on stable storage, and so not acknowledged.
    pub unwritten: u64,
    /// For how long the oldest of them has been waiting, to the second; nothing, if none has for a whole one.
    pub log_lag: Duration,
    /// Found blocks that failed our own check; this program is at fault.
    pub blocks_faulty: u64,
}

/// The counters behind [`Metrics`].
#[derive(Debug)]
pub(super) struct Gauges {
    started: Monotonic,
    connections: AtomicU64,
    channels: AtomicU64,
    accepted: AtomicU64,
    rejected: [AtomicU64; CODES],
    work: WideCounter,
    hashrate: AtomicU64,
    pub(super) blocks_found: AtomicU64,
    pub(super) blocks_accepted: AtomicU64,
    pub(super) blocks_stale: AtomicU64,
    pub(super) blocks_refused: AtomicU64,
    height: AtomicU64,
    /// Microseconds of the monotonic clock, plus one; zero before the first template.
    template_at: AtomicU64,
    fan_out: FanOut,
    /// Accepted shares that need no more waiting for: on stable storage, or of connections that are gone.
    written: AtomicU64,
    /// In microseconds.
    log_lag: AtomicU64,
    pub(super) blocks_faulty: AtomicU64,
}

/// How a new tip reaches miners; all in microseconds of the monotonic clock.
#[derive(Debug, Default)]
struct FanOut {
    /// When the present tip was first heard of.
    tip_seen: AtomicU64,
    /// From there to the first miner, plus one; zero until then.
    to_first: AtomicU64,
    /// From there to the last miner so far, plus one; zero until the first.
    to_last: AtomicU64,
    /// Since when miners have been on empty work, plus one; zero while they are not.
    empty_since: AtomicU64,
    /// How long they were on empty work before.
    on_empty: AtomicU64,
}

impl FanOut {
    /// Notes the work that is up from now on.
    fn work(&self, work: &Work, now: Monotonic) {
        let seen = work.tip_seen().to_micros();
        if self.tip_seen.swap(seen, Relaxed) != seen {
            self.to_first.store(0, Relaxed);
            self.to_last.store(0, Relaxed);
        }
        let empty_since = if work.is_interim() { now.to_micros() + 1 } else { 0 };
        match self.empty_since.load(Relaxed).checked_sub(1) {
            Some(_) if work.is_interim() => {}
            Some(since) => {
                self.on_empty.fetch_add(now.to_micros().saturating_sub(since), Relaxed);
                self.empty_since.store(0, Relaxed);
            }
            None => self.empty_since.store(empty_since, Relaxed),
        }
    }

    /// Notes that a miner is told of the work's tip.
    fn told(&self, work: &Work, now: Monotonic) {
        let seen = work.tip_seen().to_micros();
        if self.tip_seen.load(Relaxed) == seen {
            let delay = now.to_micros().saturating_sub(seen).saturating_add(1);
            // Only the first finds nothing there.
            let _ = self.to_first.compare_exchange(0, delay, Relaxed, Relaxed);
            self.to_last.fetch_max(delay, Relaxed);
        }
    }

    fn on_empty(&self, now: Monotonic) -> Duration {
        let since = self.empty_since.load(Relaxed).checked_sub(1);
        let present = since.map_or(0, |since| now.to_micros().saturating_sub(since));
        Duration::from_micros(self.on_empty.load(Relaxed).saturating_add(present))
    }
}

/// A duration that is stored plus one, so that zero is none.
fn delay(stored: &AtomicU64) -> Option<Duration> {
    stored.load(Relaxed).checked_sub(1).map(Duration::from_micros)
}

impl Gauges {
    pub(super) fn new(started: Monotonic) -> Self {
        Self {
            started,
            connections: AtomicU64::default(),
            channels: AtomicU64::default(),
            accepted: AtomicU64::default(),
            rejected: Default::default(),
            work: WideCounter::default(),
            hashrate: AtomicU64::default(),
            blocks_found: AtomicU64::default(),
            blocks_accepted: AtomicU64::default(),
            blocks_stale: AtomicU64::default(),
            blocks_refused: AtomicU64::default(),
            height: AtomicU64::default(),
            template_at: AtomicU64::default(),
            fan_out: FanOut::default(),
            written: AtomicU64::default(),
            log_lag: AtomicU64::default(),
            blocks_faulty: AtomicU64::default(),
        }
    }

    /// Notes that a template came.
    pub(super) fn template(&self, tip: &Tip, now: Monotonic) {
        self.height.store(u64::from(tip.height.0), Relaxed);
        self.template_at.store(now.to_micros().saturating_add(1), Relaxed);
    }

    /// Notes the work that is up from now on.
    pub(super) fn work(&self, work: &Work, now: Monotonic) {
        self.fan_out.work(work, now);
    }

    /// Height of the block that is mined now.
    pub(super) fn height(&self) -> Option<Height> {
        self.template_at()?;
        u32::try_from(self.height.load(Relaxed)).ok().map(Height)
    }

    /// When the server was started.
    pub(super) fn started(&self) -> Monotonic {
        self.started
    }

    /// What was written is read first, so that no share seems to be written before it was accepted.
    fn unwritten(&self) -> u64 {
        let written = self.written.load(Relaxed);
        self.accepted.load(Relaxed).saturating_sub(written)
    }

    fn template_at(&self) -> Option<Monotonic> {
        self.template_at.load(Relaxed).checked_sub(1).map(Monotonic::from_micros)
    }

    /// The time since the last template came.
    pub(super) fn template_age(&self, now: Monotonic) -> Option<Duration> {
        self.template_at().map(|at| now - at)
    }

    /// The numbers as they stand; the door knows best who was `refused`.
    pub(super) fn read(&self, refused: [(Refused, u64); Refused::ALL.len()], now: Monotonic) -> Metrics {
        let mut rejected = [(SubmitSharesError::InvalidShare, 0); CODES];
        for (slot, (&code, count)) in
            rejected.iter_mut().zip(SubmitSharesError::ALL.iter().zip(&self.rejected))
        {
            *slot = (code, count.load(Relaxed));
        }
        Metrics {
            connections: self.connections.load(Relaxed),
            refused_connections: refused,
            channels: self.channels.load(Relaxed),
            hashrate: Hashrate::from_hashes_per_second(self.hashrate.load(Relaxed)),
            work: adit_units::Work::from_hashes(self.work.read()),
            accepted: self.accepted.load(Relaxed),
            rejected,
            blocks_found: self.blocks_found.load(Relaxed),
            blocks_accepted: self.blocks_accepted.load(Relaxed),
            blocks_stale: self.blocks_stale.load(Relaxed),
            blocks_refused: self.blocks_refused.load(Relaxed),
            height: self.height(),
            template_age: self.template_age(now),
            tip_to_first_miner: delay(&self.fan_out.to_first),
            tip_to_last_miner: delay(&self.fan_out.to_last),
            time_on_empty_work: self.fan_out.on_empty(now),
            unwritten: self.unwritten(),
            log_lag: Duration::from_micros(self.log_lag.load(Relaxed)),
            blocks_faulty: self.blocks_faulty.load(Relaxed),
        }
    }
}

/// One connection's part in the counters; dropping it takes the connection and its channels out.
#[derive(Debug)]
pub(super) struct Meter {
    gauges: Arc<Gauges>,
    channels: u64,
    /// How many of its accepted shares need no more waiting for.
    written: u64,
    /// What of the session's counters has been added already.
    counted: Counters,
}

impl Meter {
    pub(super) fn new(gauges: Arc<Gauges>) -> Self {
        gauges.connections.fetch_add(1, Relaxed);
        Self { gauges, channels: 0, written: 0, counted: Counters::default() }
    }

    /// Adds what has been new since the last call: refused shares, channels, and the accepted shares in `records`.
    pub(super) fn add(&mut self, counters: &Counters, channels: usize, records: &[ShareRecord]) {
        if !records.is_empty() {
            let work = records
                .iter()
                .map(|record| record.work)
                .fold(adit_units::Work::ZERO, adit_units::Work::saturating_add);
            self.gauges.accepted.fetch_add(records.len() as u64, Relaxed);
            self.gauges.work.add(work.to_hashes());
        }
        if counters.rejected_total() != self.counted.rejected_total() {
            for (&code, count) in SubmitSharesError::ALL.iter().zip(&self.gauges.rejected) {
                let new = counters.rejected(code).saturating_sub(self.counted.rejected(code));
                count.fetch_add(new, Relaxed);
            }
        }
        self.counted = *counters;
        self.set_channels(channels as u64);
    }

    /// Notes that so many of the connection's shares are on stable storage.
    pub(super) fn written(&mut self, count: u64) {
        let count = count.min(self.counted.accepted);
        self.gauges.written.fetch_add(count.saturating_sub(self.written), Relaxed);
        self.written = self.written.max(count);
    }

    /// Notes that the connection's miners, if it has any, are told of this work's tip.
    pub(super) fn told(&self, work: &Work, now: Monotonic) {
        if self.channels > 0 {
            self.gauges.fan_out.told(work, now);
        }
    }

    fn set_channels(&mut self, channels: u64) {
        if channels != self.channels {
            // Wraps to a subtraction where there are fewer.
            self.gauges.channels.fetch_add(channels.wrapping_sub(self.channels), Relaxed);
            self.channels = channels;
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.set_channels(0);
        self.written(self.counted.accepted);
        self.gauges.connections.fetch_sub(1, Relaxed);
    }
}

/// A sum of 128 bits from two atomics of 64.
#[derive(Debug, Default)]
struct WideCounter {
    low: AtomicU64,
    high: AtomicU64,
}

impl WideCounter {
    fn add(&self, amount: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "these are the two halves")]
        let (low, high) = (amount as u64, (amount >> 64) as u64);
        let carry = self.low.fetch_add(low, Relaxed).checked_add(low).is_none();
        if carry || high > 0 {
            self.high.fetch_add(high.wrapping_add(u64::from(carry)), Relaxed);
        }
    }

    /// The sum. In the nanoseconds between the two halves of an addition that carries, it is short by 2^64.
    fn read(&self) -> u128 {
        let mut high = self.high.load(Relaxed);
        loop {
            let low = self.low.load(Relaxed);
            let again = self.high.load(Relaxed);
            if again == high {
                return (u128::from(high) << 64) | u128::from(low);
            }
            high = again;
        }
    }
}

/// Keeps the hash rate current until the server drains.
pub(super) async fn sample(gauges: Arc<Gauges>, mut draining: Draining) {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut window, mut lag) = (Window::new(gauges.started), Lag::default());
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => return,
            _ = ticks.tick() => {}
        }
        let now = Clock.monotonic();
        let rate = window.add(now, gauges.work.read());
        gauges.hashrate.store(rate.to_hashes_per_second(), Relaxed);
        let written = gauges.written.load(Relaxed);
        let lag = lag.add(now, gauges.accepted.load(Relaxed), written);
        gauges.log_lag.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// How many shares were accepted at moments since the oldest of them that is not written.
#[derive(Debug, Default)]
struct Lag {
    samples: VecDeque<(Monotonic, u64)>,
}

impl Lag {
    /// Adds a moment and gives for how long at least the oldest share has been waiting at it.
    fn add(&mut self, now: Monotonic, accepted: u64, written: u64) -> Duration {
        // The first sample that has a share which is not written: that one is no younger.
        while self.samples.front().is_some_and(|&(_, accepted)| accepted <= written) {
            self.samples.pop_front();
        }
        let lag = self.samples.front().map_or(Duration::ZERO, |&(at, _)| now - at);
        let is_news = self.samples.back().is_none_or(|&(_, known)| known < accepted);
        if is_news && accepted > written && self.samples.len() < LAG_SAMPLES_MAX {
            self.samples.push_back((now, accepted));
        }
        lag
    }
}

/// The accepted work at the moments of the last [`HASHRATE_WINDOW`].
#[derive(Debug)]
struct Window {
    samples: VecDeque<(Monotonic, u128)>,
}

impl Window {
    fn new(started: Monotonic) -> Self {
        Self { samples: VecDeque::from([(started, 0)]) }
    }

    /// Adds a moment and gives the hash rate over the window that it ends.
    fn add(&mut self, now: Monotonic, total: u128) -> Hashrate {
        let last = self.samples.back().map_or(0, |&(_, total)| total);
        self.samples.push_back((now, total.max(last)));
        // The first sample to stay is the one that the window begins with or before.
        while self.samples.get(1).is_some_and(|&(at, _)| now - at >= HASHRATE_WINDOW) {
            self.samples.pop_front();
        }
        let Some(&(from, before)) = self.samples.front() else { return Hashrate::default() };
        let micros = (now - from).as_micros().max(1);
        let hashes = total.max(last).saturating_sub(before);
        let per_second = hashes.saturating_mul(1_000_000) / micros;
        Hashrate::from_hashes_per_second(u64::try_from(per_second).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody was refused.
    const NONE: [(Refused, u64); Refused::ALL.len()] =
        [(Refused::Full, 0), (Refused::AddressFull, 0), (Refused::AddressNewcomers, 0)];

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_wide_counter_carries() {
        let counter = WideCounter::default();
        counter.add(u128::from(u64::MAX));
        assert_eq!(counter.read(), u128::from(u64::MAX));
        counter.add(2);
        assert_eq!(counter.read(), u128::from(u64::MAX) + 2);
        counter.add(7 << 64);
        assert_eq!(counter.read(), u128::from(u64::MAX) + 2 + (7 << 64));
    }

    #[test]
    fn threads_add_up() {
        let counter = WideCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.add(u128::from(u64::MAX / 3))));
            }
        });
        assert_eq!(counter.read(), 40_000 * u128::from(u64::MAX / 3));
    }

    #[test]
    fn the_hash_rate_is_that_of_the_window() {
        let mut window = Window::new(at(100));
        assert_eq!(window.add(at(110), 5_000).to_hashes_per_second(), 500);
        for second in 111..=400 {
            let total = u128::from(second - 110) * 1_000 + 5_000;
            let rate = window.add(at(second), total).to_hashes_per_second();
            assert!((500..=1_000).contains(&rate));
            assert!(window.samples.len() <= 122);
        }
        assert_eq!(window.add(at(401), 295_000 + 1_000).to_hashes_per_second(), 1_000);
        assert_eq!(window.add(at(521), 296_000).to_hashes_per_second(), 0, "nothing for two minutes");
    }

    #[test]
    fn a_number_read_halfway_does_not_disturb_the_rate() {
        let mut window = Window::new(at(0));
        window.add(at(1), 1 << 64);
        assert_eq!(window.add(at(2), 5).to_hashes_per_second(), 1 << 63);
    }

    /// Work on a first tip, and the work that bridges the time to the next template.
    fn works() -> [Arc<Work>; 2] {
        let script = bitcoin::ScriptBuf::from_bytes(vec![0x51]);
        let mut factory = crate::JobFactory::new(&crate::PoolConfig::new(0, script), 0).unwrap();
        let now = |secs| adit_units::Now { monotonic: at(secs), unix: adit_units::UnixTime::from_secs(1) };
        let template =
            adit_node::Devnet::new(&adit_node::DevnetConfig::new([7; 32]), now(0)).template(now(0));
        let tip = template.tip;
        let full = factory.handle_template(&Arc::new(template), now(10)).unwrap().unwrap();
        factory.handle_timeout(now(20)).unwrap().unwrap();
        let next =
            Tip { prev_hash: bitcoin::hashes::Hash::all_zeros(), height: Height(tip.height.0 + 1), ..tip };
        [full, factory.handle_tip(&next, now(30)).unwrap().unwrap()]
    }

    #[test]
    fn the_way_of_a_tip_to_miners_is_measured() {
        let gauges = Arc::new(Gauges::new(at(0)));
        let [full, interim] = works();
        let mut meters = [(); 3].map(|()| Meter::new(Arc::clone(&gauges)));
        meters[0].add(&Counters::default(), 1, &[]);
        meters[1].add(&Counters::default(), 1, &[]);
        let delays = || {
            let metrics = gauges.read(NONE, at(1_000));
            (metrics.tip_to_first_miner, metrics.tip_to_last_miner)
        };
        let secs = |secs| Some(Duration::from_secs(secs));
        gauges.work(&full, at(10));
        meters[2].told(&full, at(11));
        assert_eq!(delays(), (None, None), "a connection without a channel is no miner");
        meters[0].told(&full, at(12));
        meters[1].told(&full, at(15));
        assert_eq!(delays(), (secs(2), secs(5)));
        gauges.work(&interim, at(30));
        assert_eq!(delays(), (None, None), "another tip");
        meters[1].told(&full, at(31));
        assert_eq!(delays(), (None, None), "not of this tip");
        meters[1].told(&interim, at(33));
        assert_eq!(delays(), (secs(3), secs(3)));
    }

    #[test]
    fn the_time_on_empty_work_adds_up() {
        let gauges = Gauges::new(at(0));
        let [full, interim] = works();
        let empty = |now| gauges.read(NONE, at(now)).time_on_empty_work.as_secs();
        gauges.work(&full, at(10));
        assert_eq!(empty(20), 0);
        gauges.work(&interim, at(30));
        assert_eq!(empty(32), 2, "it lasts");
        gauges.work(&interim, at(90));
        gauges.work(&full, at(91));
        assert_eq!(empty(100), 61);
        gauges.work(&interim, at(200));
        gauges.work(&full, at(203));
        assert_eq!(empty(300), 64);
    }

    #[test]
    fn shares_that_a_disk_does_not_take_are_seen_to_wait() {
        let mut lag = Lag::default();
        let mut seconds = |secs, accepted, written| lag.add(at(secs), accepted, written).as_secs();
        assert_eq!(seconds(1, 0, 0), 0);
        assert_eq!(seconds(2, 7, 5), 0, "not for a whole second");
        assert_eq!(seconds(3, 9, 9), 0);
        assert_eq!(seconds(4, 12, 10), 0);
        assert_eq!(seconds(5, 20, 10), 1, "the disk hangs");
        assert_eq!(seconds(60, 20, 10), 56);
        assert_eq!(seconds(61, 21, 12), 56, "the older ones are written, now the next are the oldest");
        assert_eq!(seconds(62, 21, 21), 0);
    }

    #[test]
    fn shares_wait_until_they_are_written_or_their_connection_ends() {
        let gauges = Arc::new(Gauges::new(at(0)));
        let mut meter = Meter::new(Arc::clone(&gauges));
        meter.counted.accepted = 5;
        gauges.accepted.store(5, Relaxed);
        meter.written(3);
        meter.written(2);
        assert_eq!(gauges.read(NONE, at(1)).unwritten, 2);
        drop(meter);
        assert_eq!(gauges.read(NONE, at(1)).unwritten, 0);
    }

    #[test]
    fn connections_and_channels_go_as_they_came() {
        let gauges = Arc::new(Gauges::new(at(0)));
        let (mut a, mut b) = (Meter::new(Arc::clone(&gauges)), Meter::new(Arc::clone(&gauges)));
        a.add(&Counters::default(), 3, &[]);
        b.add(&Counters::default(), 2, &[]);
        a.add(&Counters::default(), 1, &[]);
        let metrics = gauges.read(NONE, at(1));
        assert_eq!((metrics.connections, metrics.channels), (2, 3));
        drop((a, b));
        let metrics = gauges.read(NONE, at(1));
        assert_eq!((metrics.connections, metrics.channels), (0, 0));
    }
}

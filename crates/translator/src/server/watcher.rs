//! Puts together what the translator tells of itself, when somebody asks.

use core::time::Duration;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use adit_net::{Admission, Clock};
use adit_units::{Difficulty, Monotonic};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::registry::{Slot, lock};
use super::steward::Overview;
use super::{Hall, Mode};
use crate::status::{MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamStatus};

/// How old the numbers may be.
const INTERVAL: Duration = Duration::from_secs(1);

/// The numbers of a translator, put together when they are asked for and at most once a second. Clones show the same.
#[derive(Clone, Debug)]
pub struct Numbers(Arc<Sources>);

/// Where they come from.
#[derive(Debug)]
struct Sources {
    hall: Arc<Hall>,
    overview: Arc<Mutex<Overview>>,
    admission: Admission,
    started: Monotonic,
    last: Mutex<Option<(Monotonic, Arc<Status>)>>,
}

impl Numbers {
    pub(super) fn new(hall: Arc<Hall>, overview: Arc<Mutex<Overview>>, admission: Admission) -> Self {
        let (started, last) = (Clock.monotonic(), Mutex::new(None));
        Self(Arc::new(Sources { hall, overview, admission, started, last }))
    }

    /// What they are, at most a second ago.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status_at(Clock.monotonic())
    }

    pub(super) fn status_at(&self, now: Monotonic) -> Arc<Status> {
        let Sources { hall, overview, admission, started, last } = &*self.0;
        let mut last = lock(last);
        if let Some((at, status)) = &*last
            && now < *at + INTERVAL
        {
            return Arc::clone(status);
        }
        let refused = admission.refused().iter().map(|(_, times)| times).sum();
        // Copied, so that the steward does not have to wait for whoever looks.
        let overview = lock(overview).clone();
        let status = Arc::new(status(hall, &overview, refused, *started));
        *last = Some((now, Arc::clone(&status)));
        status
    }
}

/// Tells those who want to hear of every change, until the program ends. Nothing is put together while there is nobody.
pub(super) async fn run(numbers: Numbers, tell: watch::Sender<Arc<Status>>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The translator itself keeps one receiver.
        if tell.receiver_count() > 1 {
            tell.send_replace(numbers.status());
        }
    }
}

fn status(hall: &Hall, overview: &Overview, connections_refused: u64, started: Monotonic) -> Status {
    let now = Clock.monotonic();
    let (machines_seen, mut shares) = hall.registry.history();
    let machine = |slot: &Arc<Slot>| machine(hall, slot, overview.machines.get(&slot.id), now);
    let machines: Vec<MachineStatus> = hall.registry.machines().iter().filter_map(machine).collect();
    machines.iter().for_each(|machine| shares.add(&machine.shares));
    let upstreams = hall.config.upstreams.iter().zip(&overview.upstreams);
    let upstreams = upstreams.map(|(target, known)| UpstreamStatus {
        address: target.pool.address(),
        user: target.user.clone(),
        state: known.state.clone(),
        channels: known.channels.clone(),
        shares: known.shares.clone(),
    });
    Status {
        uptime: now.saturating_since(started),
        aggregated: hall.config.mode == Mode::Aggregated,
        upstreams: upstreams.collect(),
        machines,
        machines_seen,
        connections_refused,
        shares,
    }
}

/// What is known of a machine, once it has said anything.
fn machine(
    hall: &Hall,
    slot: &Slot,
    above: Option<&UpstreamShares>,
    now: Monotonic,
) -> Option<MachineStatus> {
    let report = slot.report()?;
    let mut upstream = above.cloned().unwrap_or_default();
    upstream.lost += slot.lost.load(Ordering::Relaxed);
    Some(MachineStatus {
        id: slot.id,
        peer: slot.peer,
        user_agent: report.identity.user_agent.clone(),
        class: report.class,
        users: report.identity.users.clone(),
        extranonce1: report.extranonce1,
        extranonce2_len: hall.machine.extranonce2_len,
        version_mask: report.version_mask,
        difficulty: Difficulty::from_target(report.target),
        hashrate: report.hashrate,
        shares: report.shares,
        upstream,
        connected: now.saturating_since(report.connected),
        last_share: report.last_share.map(|at| now.saturating_since(at)),
        best: report.best.map(Difficulty::from_target),
        long_coinbase: report.long_coinbase,
    })
}

impl ShareCounts {
    /// Adds those of another.
    pub(super) fn add(&mut self, more: &Self) {
        self.accepted += more.accepted;
        self.stale += more.stale;
        self.duplicate += more.duplicate;
        self.low_difficulty += more.low_difficulty;
        self.invalid += more.invalid;
        self.blocks += more.blocks;
    }
}

//! Puts together what the translator tells of itself, once a second.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit_net::{Admission, Clock};
use adit_units::Monotonic;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::registry::Slot;
use super::steward::Overview;
use super::{Hall, Mode};
use crate::status::{MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamStatus};

/// How old the numbers may be.
const INTERVAL: Duration = Duration::from_secs(1);

/// Tells until the program ends. Nothing is put together while nobody looks.
pub(super) async fn run(
    hall: Arc<Hall>,
    overview: watch::Receiver<Overview>,
    admission: Admission,
    tell: watch::Sender<Arc<Status>>,
) {
    let started = Clock.monotonic();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The translator itself keeps one receiver.
        if tell.receiver_count() > 1 {
            let refused = admission.refused().iter().map(|(_, times)| times).sum();
            let status = status(&hall, &overview.borrow(), refused, started);
            tell.send_replace(Arc::new(status));
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
        user_agent: report.user_agent,
        class: report.class,
        users: report.users,
        extranonce1: report.extranonce1,
        extranonce2_len: hall.machine.extranonce2_len,
        version_mask: report.version_mask,
        difficulty: report.difficulty,
        hashrate: report.hashrate,
        shares: report.shares,
        upstream,
        connected: now.saturating_since(report.connected),
        last_share: report.last_share.map(|at| now.saturating_since(at)),
        best: report.best,
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

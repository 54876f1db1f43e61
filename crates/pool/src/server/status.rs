//! What a running pool tells of itself, put together when somebody asks and at most once a second.

use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{AcqRel, Release};
use core::time::Duration;
use std::sync::Arc;

use adit_net::Clock;
use adit_node::Health;
use adit_units::{ConnectionId, Monotonic};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::metrics::Metrics;
use super::registry::{Registry, Slot};
use crate::{PoolConfig, SessionReport};

/// How old a status may be that is given to another who asks; as much more as there are many connections, see [`FRESH_FOR_EACH`].
const FRESH_FOR: Duration = Duration::from_secs(1);

/// How much older it may be for each connection: with ten thousand of them it is put together every two seconds.
const FRESH_FOR_EACH: Duration = Duration::from_micros(100);

/// How long connections have to say how they stand. One that does not is shown as it stood before.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first pause before it is looked whether all have said so.
const PAUSE: Duration = Duration::from_millis(1);

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// When this was.
    pub at: Monotonic,
    /// Since the server was started.
    pub uptime: Duration,
    /// The numbers.
    pub metrics: Metrics,
    /// Whether templates come from any node.
    pub health: Health,
    /// The rules that hold.
    pub rules: Arc<PoolConfig>,
    /// Connections whose handshake is done and that have said how they stand, by number.
    pub connections: Vec<ConnectionStatus>,
}

/// A connection at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionStatus {
    /// Its number, which no other connection of this run has.
    pub id: ConnectionId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Since when.
    pub since: Monotonic,
    /// How it stood then.
    pub report: Arc<SessionReport>,
}

/// Puts statuses together; clones share what was put together last.
#[derive(Clone)]
pub(super) struct Looker {
    registry: Arc<Registry>,
    latest: watch::Sender<Option<Arc<Status>>>,
    /// Whether somebody is at it.
    is_busy: Arc<AtomicBool>,
}

impl fmt::Debug for Looker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looker").finish_non_exhaustive()
    }
}

impl Looker {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, latest: watch::Sender::new(None), is_busy: Arc::default() }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How the pool stands; `rest` adds what connections do not know.
    pub(super) async fn look(
        &self,
        rest: impl FnOnce(Monotonic, Vec<ConnectionStatus>) -> Status,
    ) -> Arc<Status> {
        let mut latest = self.latest.subscribe();
        if let Some(status) = latest.borrow().as_ref().filter(|status| is_fresh(status)) {
            return Arc::clone(status);
        }
        if self.is_busy.swap(true, AcqRel) {
            // What somebody else is putting together is as good. An error is that of the time.
            let _ = timeout(2 * PATIENCE, latest.changed()).await;
            if let Some(status) = latest.borrow().as_ref().filter(|status| is_fresh(status)) {
                return Arc::clone(status);
            }
        }
        let busy = Busy(&self.is_busy);
        let slots = self.registry.slots();
        reported(&slots).await;
        let connections = slots.iter().filter_map(|slot| {
            let Slot { id, peer, since, .. } = **slot;
            Some(ConnectionStatus { id, peer, since, report: slot.report()? })
        });
        let status = Arc::new(rest(Clock.monotonic(), connections.collect()));
        self.latest.send_replace(Some(Arc::clone(&status)));
        drop(busy);
        status
    }
}

/// Gives the turn back, also where who had it goes away.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

fn is_fresh(status: &Status) -> bool {
    let connections = u32::try_from(status.connections.len()).unwrap_or(u32::MAX);
    Clock.monotonic().saturating_since(status.at) < FRESH_FOR + FRESH_FOR_EACH * connections
}

/// Waits until all connections have said how they stand, as long as there is patience. Only those to which anything has happened are woken.
async fn reported(slots: &[Arc<Slot>]) {
    let deadline = Clock.monotonic() + PATIENCE;
    let mut waiting: Vec<&Arc<Slot>> = slots.iter().filter(|slot| slot.has_changed()).collect();
    waiting.iter().for_each(|slot| slot.ask());
    let mut pause = PAUSE;
    while !waiting.is_empty() && Clock.monotonic() < deadline {
        sleep(pause).await;
        pause = (2 * pause).min(16 * PAUSE);
        waiting.retain(|slot| slot.is_awaited());
    }
}

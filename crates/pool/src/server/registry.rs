//! Who is connected: what each connection tells of itself when it is asked, and what an operator wants done to it.

use core::net::SocketAddr;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_messages::error_code::CloseChannelReason;
use adit_units::{ChannelId, ConnectionId, Monotonic, Now};
use tokio::sync::{Notify, oneshot};

use crate::{Distribution, OperationError, Session, SessionReport};

/// Something to be done to a connection, and where the answer goes.
#[derive(Debug)]
pub(super) struct Order {
    what: Operation,
    done: oneshot::Sender<Result<(), OperationError>>,
}

/// What can be done to a connection from outside.
#[derive(Debug)]
pub(super) enum Operation {
    CloseChannel(ChannelId, CloseChannelReason),
    RenewExtranoncePrefix(ChannelId),
    SetDistribution(Box<[ChannelId]>, Distribution),
}

impl Operation {
    fn carry_out(self, session: &mut Session, now: Now) -> Result<(), OperationError> {
        match self {
            Self::CloseChannel(channel, reason) => session.close_channel(channel, reason, now),
            Self::RenewExtranoncePrefix(channel) => session.renew_extranonce_prefix(channel),
            Self::SetDistribution(channels, distribution) => {
                session.set_distribution(&channels, &distribution)
            }
        }
    }
}

/// All connections whose handshake is done.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<ConnectionId, Arc<Slot>>>);

/// Where a connection and those who ask about it meet.
///
/// The connection does not touch a lock here for a share: it notes that it has changed, and looks into the rest when the bell is rung.
#[derive(Debug)]
pub(super) struct Slot {
    registry: Arc<Registry>,
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    pub(super) since: Monotonic,
    /// Whether anything has happened since the last report.
    has_changed: AtomicBool,
    /// Whether a report is wanted.
    is_asked: AtomicBool,
    has_left: AtomicBool,
    bell: Notify,
    report: Mutex<Option<Arc<SessionReport>>>,
    /// `None` once nobody looks into it any more.
    orders: Mutex<Option<Vec<Order>>>,
}

impl Slot {
    /// The last report; nothing before the first.
    pub(super) fn report(&self) -> Option<Arc<SessionReport>> {
        lock(&self.report).clone()
    }

    /// Whether the last report is not how the connection stands.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed.load(Relaxed)
    }

    /// Whether a report that is wanted has not come.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_asked.load(Acquire) && !self.has_left.load(Relaxed)
    }

    /// Wants a report.
    pub(super) fn ask(&self) {
        if !self.is_asked.swap(true, AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Wants something done; the answer is where to hear of it, or nothing if the connection has ended.
    pub(super) fn order(&self, what: Operation) -> Option<oneshot::Receiver<Result<(), OperationError>>> {
        let (done, answer) = oneshot::channel();
        lock(&self.orders).as_mut()?.push(Order { what, done });
        self.bell.notify_one();
        Some(answer)
    }
}

impl Registry {
    /// A connection has shaken hands.
    pub(super) fn enter(self: &Arc<Self>, id: ConnectionId, peer: SocketAddr, now: Monotonic) -> Seat {
        let slot = Arc::new(Slot {
            registry: Arc::clone(self),
            id,
            peer,
            since: now,
            has_changed: AtomicBool::new(true),
            is_asked: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            bell: Notify::new(),
            report: Mutex::default(),
            orders: Mutex::new(Some(Vec::new())),
        });
        lock(&self.0).insert(id, Arc::clone(&slot));
        Seat(slot)
    }

    /// All connections, by number.
    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        lock(&self.0).values().cloned().collect()
    }

    /// The connection with that number.
    pub(super) fn slot(&self, id: ConnectionId) -> Option<Arc<Slot>> {
        lock(&self.0).get(&id).cloned()
    }
}

/// A connection's end of its slot, which is gone with it.
#[derive(Debug)]
pub(super) struct Seat(Arc<Slot>);

impl Seat {
    /// Where the connection comes from.
    pub(super) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Notes that something has happened.
    pub(super) fn change(&self) {
        self.0.has_changed.store(true, Relaxed);
    }

    /// Waits until somebody wants something. Cancel safe.
    pub(super) async fn rung(&self) {
        self.0.bell.notified().await;
    }

    /// Does what is wanted.
    pub(super) fn answer(&self, session: &mut Session, now: Now) {
        let orders = lock(&self.0.orders).as_mut().map(core::mem::take).unwrap_or_default();
        for Order { what, done } in orders {
            tracing::info!(connection = self.0.id.0, ?what, "the operator wants this");
            // Who asked may have gone away.
            let _ = done.send(what.carry_out(session, now));
        }
        if self.0.is_asked.load(Acquire) {
            *lock(&self.0.report) = Some(Arc::new(session.report(now.monotonic)));
            self.0.has_changed.store(false, Relaxed);
            // Last: whoever sees this looks at the report.
            self.0.is_asked.store(false, Release);
        }
    }

    /// Leaves: nobody sees the connection any more, and what is still wanted of it is not done.
    pub(super) fn leave(&self) {
        lock(&self.0.registry.0).remove(&self.0.id);
        *lock(&self.0.orders) = None;
        self.0.has_left.store(true, Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What is behind the lock is whole after every statement, so a panic elsewhere has not spoilt it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

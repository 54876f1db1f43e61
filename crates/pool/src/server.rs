//! The tokio shell of the pool: sockets, job board, share log and block submission around the pure core.
//!
//! ```text
//! node ── templates ──> board ── bulletin ──> peers ── records ──> share log
//!  ^                                             │  ^                     │
//!  └───────────── blocks <── found blocks ───────┘  └── durable counts ───┘
//! ```
//!
//! One task serves one connection and owns its [`Session`](crate::Session). What tasks share is immutable, a bulletin, a `watch`, a bounded
//! queue or an atomic counter; nobody holds a lock across a wait and none is taken for a share.

mod acceptor;
mod blocks;
mod board;
mod certificate;
mod custom;
mod event;
mod handle;
mod metrics;
mod outage;
mod peer;
mod promises;
mod refresh;
mod registry;
mod reload;
mod status;

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_ledger::{LogFailure, LogOutcome, ShareSink};
use adit_net::{
    Admission, BindError, Bound, Clock, HandshakeLane, Limits, OsRng, OutboxLimits, Reader, Shutdown,
    raise_descriptor_limit,
};
use adit_node::{Health, Node};
use adit_transport::Identity;
use adit_units::ConnectionId;
use rand_core::Rng as _;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{JobFactory, PoolConfig, PoolConfigError, RelayedShare};
pub use acceptor::RESTART_PATIENCE;
pub use blocks::{BLOCKS_PATIENCE, FoundBlocks};
use board::Board;
pub use board::Posted;
use custom::CustomDesk;
pub use custom::DeclaredBlocks;
pub use event::{BlockOutcome, Event};
pub use handle::{OrderError, RELAY_MAX, ServerHandle};
use metrics::Gauges;
pub use metrics::{HASHRATE_WINDOW, Metrics};
pub use outage::{CLEARED_AFTER, CLOSED_AFTER};
pub use refresh::REFRESH_SPREAD;
use registry::Registry;
use reload::Rules;
pub use reload::{Reload, ReloadError};
use status::Looker;
pub use status::{ConnectionStatus, Status};

/// How long connections have at shutdown to get their last shares acknowledged; closing them may take a little longer.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is told what a shutdown waits for.
const SHUTDOWN_NEWS: Duration = Duration::from_secs(5);

/// Where a server listens and what it grants its peers.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// The address for miners; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// How many peers.
    pub limits: Limits,
    /// What may wait for a peer that does not read.
    pub outbox: OutboxLimits,
    /// Over how long connections spread it that they tell their miners of work that can wait; [`REFRESH_SPREAD`] unless channels are so busy
    /// that they need every job as soon as it is there.
    pub refresh_spread: Duration,
}

impl ServerConfig {
    /// Default limits at an address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            limits: Limits::default(),
            outbox: OutboxLimits::default(),
            refresh_spread: REFRESH_SPREAD,
        }
    }
}

/// What a server is made of; `L` is the share log.
#[derive(Debug)]
pub struct Parts<L> {
    /// The pool's rules.
    pub pool: PoolConfig,
    /// How many times this server has started before, as the share log counts it.
    pub boot: u32,
    /// Gives templates.
    pub node: Node,
    /// Takes shares. Hand over the only handle: the server sees the log to its end.
    pub log: L,
    /// Tells when that log ends.
    pub outcome: LogOutcome,
    /// Hands found blocks to the node, and those of earlier runs since before the server starts.
    pub blocks: FoundBlocks,
    /// What miners are shown in the handshake.
    pub identity: Arc<Identity>,
    /// Where accepted shares go besides the log, where somebody wants to pass them on; [`RELAY_MAX`] is a good size for it. It is also
    /// how that somebody learns that the last connection has ended.
    pub relay: Option<mpsc::Sender<RelayedShare>>,
    /// Who completes blocks that are found on jobs of miners' own, besides the miners themselves.
    pub declared: Option<Arc<dyn DeclaredBlocks>>,
}

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The pool's rules contradict each other.
    #[error(transparent)]
    Pool(#[from] PoolConfigError),
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Why a running server has to be ended: it goes on handing over blocks, but cannot do the rest of its work.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Shares cannot be written down, so none are acknowledged any more.
    #[error(transparent)]
    ShareLog(#[from] LogFailure),
    /// The address was taken from under us before there was work to listen for.
    #[error("{0}")]
    Listen(String),
    /// Every number for a job of this run has been used.
    #[error("no job number is left in this run; restart the server")]
    JobsExhausted,
    /// Every number for a connection of this run has been used.
    #[error("no connection number is left in this run; restart the server")]
    ConnectionsExhausted,
}

/// How a shutdown went.
#[derive(Debug)]
pub struct Drained {
    /// Connections that had to be cut off because they did not come to an end in time.
    pub cut_off: usize,
    /// How the share log ended: in order with all records on stable storage, or not; `None` if somebody else still holds it.
    pub log: Option<Result<(), LogFailure>>,
}

/// A running pool; dropped, it winds down without waiting for anything.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    gauges: Arc<Gauges>,
    events: broadcast::Sender<Event>,
    failure: watch::Receiver<Option<Failure>>,
    outcome: LogOutcome,
    shutdown: Shutdown,
    blocks: FoundBlocks,
    admission: Admission,
    rules: Rules,
    identity: watch::Sender<Arc<Identity>>,
    health: watch::Receiver<Health>,
    looker: Looker,
    acceptor: JoinHandle<usize>,
}

/// What all connections share.
struct Hall<L> {
    /// Keys the sets of seen shares, so that nobody can prepare collisions.
    seen_key: [u8; 16],
    wishes: Arc<Notify>,
    identity: watch::Receiver<Arc<Identity>>,
    lane: HandshakeLane,
    outbox: OutboxLimits,
    refresh_spread: Duration,
    log: L,
    outcome: LogOutcome,
    board: Reader<Option<Posted>>,
    blocks: FoundBlocks,
    relay: Option<mpsc::Sender<RelayedShare>>,
    custom: CustomDesk,
    registry: Arc<Registry>,
    gauges: Arc<Gauges>,
    last_connection: AtomicU32,
    failure: watch::Sender<Option<Failure>>,
}

impl Server {
    /// Takes the address, and serves miners as soon as there is work for them.
    ///
    /// Until the node has given its first template nobody is listening, so miners turn to their next pool. The same holds once
    /// it has given none for [`CLOSED_AFTER`], and after [`CLEARED_AFTER`] those who are connected are sent away too. Raises the process's limit of open files as far as it may, and lowers the
    /// limit of connections to what that leaves room for.
    ///
    /// # Errors
    ///
    /// If the configuration is wrong or the system denies something.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn start<L: ShareSink>(config: ServerConfig, parts: Parts<L>) -> Result<Self, StartError> {
        let bound = Bound::new(config.listen)?;
        Self::start_on(bound, config, parts)
    }

    /// [`Self::start`] on an address that is ours already, or on a socket that a supervisor has handed over; then
    /// [`ServerConfig::listen`] is not used.
    ///
    /// A supervisor's socket listens all the time. Who connects before there is work waits for it, but no longer than
    /// [`RESTART_PATIENCE`]: then, and whenever the door is closed later, he is turned away.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn start_on<L: ShareSink>(
        bound: Bound,
        config: ServerConfig,
        parts: Parts<L>,
    ) -> Result<Self, StartError> {
        let Parts { pool, boot, node, log, outcome, blocks, identity, relay, declared } = parts;
        let pool = PoolConfig { relays_shares: relay.is_some(), ..pool };
        let factory = JobFactory::new(&pool, boot)?;
        let (rules, current_rules) = watch::channel(Arc::new(pool));
        let (identity, current_identity) = watch::channel(identity);
        let limits = possible(config.limits);
        let lane = HandshakeLane::start(limits.newcomers).map_err(StartError::Thread)?;
        let (shutdown, draining) = Shutdown::new();
        let (failure, failed) = watch::channel(None);
        let (gauges, events) = (Arc::clone(blocks.gauges()), blocks.events().clone());
        let (health, registry) = (node.health(), Arc::<Registry>::default());
        let looker = Looker::new(Arc::clone(&registry));
        let board = Board::new(node, factory, current_rules, Arc::clone(&gauges), events.clone());
        let (supply, posted, wishes) = (board.supply(), board.posted(), board.wishes());
        tokio::spawn(board.run(failure.clone(), draining.clone()));
        tokio::spawn(metrics::sample(Arc::clone(&gauges), draining.clone()));
        tokio::spawn(certificate::watch(current_identity.clone(), draining.clone()));
        tokio::spawn(watch_log(outcome.clone(), failure.clone()));
        let hall = Hall {
            seen_key: random_key(),
            wishes,
            identity: current_identity,
            lane,
            outbox: config.outbox,
            refresh_spread: config.refresh_spread,
            log,
            outcome: outcome.clone(),
            board: posted.reader(),
            blocks: blocks.clone(),
            relay,
            custom: CustomDesk::new(declared),
            registry,
            gauges: Arc::clone(&gauges),
            last_connection: AtomicU32::new(0),
            failure,
        };
        let (address, admission) = (bound.address(), Admission::new(limits));
        let door = acceptor::run(bound, admission.clone(), Arc::new(hall), supply, draining);
        let (acceptor, failure) = (tokio::spawn(door), failed);
        Ok(Self {
            address,
            gauges,
            events,
            failure,
            outcome,
            shutdown,
            blocks,
            admission,
            rules: Rules::new(rules, posted),
            identity,
            health,
            looker,
            acceptor,
        })
    }

    /// The address that miners connect to, once there is work.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The numbers as they stand.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.gauges.read(self.admission.refused(), Clock.monotonic())
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Waits for a failure that the process must not survive: shut the server down and exit with an error. Cancel safe.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.failure.clone();
        if let Ok(failed) = failure.wait_for(Option::is_some).await
            && let Some(failure) = failed.clone()
        {
            return failure;
        }
        // Nobody is left who could fail.
        core::future::pending().await
    }

    /// Ends in order: accepts nobody, gets the last shares acknowledged, closes connections, sees blocks to a node or to the disk,
    /// and the log to its end.
    ///
    /// Takes at most about [`DRAIN_PATIENCE`] each for connections and log, and [`BLOCKS_PATIENCE`] for blocks that are on disk;
    /// usually it is a matter of milliseconds. Only a block that neither the disk nor a node has taken is waited for without end,
    /// because it would be lost: [`FoundBlocks::only_copies`] has it. When this returns, every share that a miner was told is
    /// accepted is on stable storage.
    pub async fn shutdown(self) -> Drained {
        let Self { mut outcome, shutdown, blocks, acceptor, .. } = self;
        shutdown.begin();
        let seen_out = telling("the last shares of miners to be on disk and acknowledged", acceptor).await;
        let cut_off = seen_out.unwrap_or_else(|panic| {
            tracing::error!(%panic, "acceptor failed");
            0
        });
        shutdown.finished().await;
        telling("found blocks to be on disk or with the node", blocks.close()).await;
        let closed = timeout(DRAIN_PATIENCE, outcome.wait());
        let log = telling("the share log to be written", closed).await.ok();
        Drained { cut_off, log }
    }
}

/// Waits, and tells again and again what for.
async fn telling<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let mut wait = core::pin::pin!(wait);
    loop {
        match timeout(SHUTDOWN_NEWS, &mut wait).await {
            Ok(done) => return done,
            Err(_) => tracing::info!("stopping: still waiting for {what}"),
        }
    }
}

impl<L> Hall<L> {
    /// A number for a new connection, never used before in this run.
    fn next_connection(&self) -> Option<ConnectionId> {
        let next = |last: u32| last.checked_add(1);
        let last = self.last_connection.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next).map(ConnectionId)
    }
}

/// The limits that the number of open files allows.
fn possible(wanted: Limits) -> Limits {
    let descriptors = raise_descriptor_limit();
    let limits = wanted.within_descriptors(descriptors);
    if limits != wanted {
        tracing::warn!(
            descriptors,
            wanted = wanted.connections,
            connections = limits.connections,
            "fewer connections than configured, because the system allows few open files; raise its limit"
        );
    }
    limits
}

fn random_key() -> [u8; 16] {
    let mut key = [0; 16];
    OsRng.fill_bytes(&mut key);
    key
}

/// Makes the log's failure the server's.
async fn watch_log(mut outcome: LogOutcome, failure: watch::Sender<Option<Failure>>) {
    if let Err(error) = outcome.wait().await {
        fail(&failure, error.into());
    }
}

/// Notes the first failure; later ones follow from it.
fn fail(failure: &watch::Sender<Option<Failure>>, reason: Failure) {
    failure.send_if_modified(|failed| {
        let first = failed.is_none();
        if first {
            tracing::error!(%reason, "server failed");
            *failed = Some(reason);
        }
        first
    });
}

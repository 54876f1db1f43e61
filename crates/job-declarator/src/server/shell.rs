//! The tokio shell of the job declarator server: clients on one side, a node on the other.
//!
//! ```text
//! clients ── questions ──> judge ── a few at once ──> node
//!    │  └──── blocks ────────────────────────────────> │
//!    └─────── jobs that were found good ──> declared templates
//! ```

mod judge;
mod peer;
mod reload;
mod shelf;
mod templates;

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_channel::TokenKey;
use adit_net::{
    Admission, BindError, Bound, Clock, Draining, HandshakeLane, Limits, OutboxLimits, Shutdown,
    background_runtime, note_panic, raise_descriptor_limit,
};
use adit_node::Node;
use adit_pool::server::FoundBlocks;
use adit_share::Tip;
use adit_transport::Identity;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout_at;

pub use self::judge::CHECKS_AT_ONCE;
use self::judge::{Judge, QUESTIONS_MAX, Question};
use self::reload::Settings;
pub use self::reload::{JdsReload, JdsReloadError, PreparedReload};
pub use self::templates::{DeclaredTemplates, TEMPLATES_KEPT};
use super::limits::{Budget, Shares};
use super::{Counters, JdsConfig, JdsConfigError};

/// How long clients have at shutdown to take their leave.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// Handshakes that may wait for their turn.
const HANDSHAKES_WAITING: usize = 64;

/// Where a job declarator server listens and what it grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct JdsServerConfig {
    /// The address for clients; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// How many clients.
    pub limits: Limits,
    /// What may wait for a client that does not read.
    pub outbox: OutboxLimits,
}

impl JdsServerConfig {
    /// Default limits at an address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        // All tokens that may be asked for in a row, with the longest outputs.
        let outbox = OutboxLimits { bytes: 256 << 10, ..OutboxLimits::default() };
        Self { listen, limits: jds_limits(), outbox }
    }
}

/// How many clients a job declarator server takes: each may have it hold transactions of several blocks.
#[must_use]
pub fn jds_limits() -> Limits {
    Limits { connections: 512, connections_per_address: 32, newcomers: 64, newcomers_per_address: 16 }
}

/// What a job declarator server is made of.
#[derive(Debug)]
pub struct JdsParts {
    /// The operator's rules.
    pub rules: JdsConfig,
    /// The secret that the pool knows, too.
    pub key: Arc<TokenKey>,
    /// Knows transactions, and judges blocks.
    pub node: Node,
    /// Hands solved blocks to the node.
    pub blocks: FoundBlocks,
    /// What clients are shown in the handshake.
    pub identity: Arc<Identity>,
    /// Where jobs are remembered that were found good; a pool in this process may look there.
    pub declared: DeclaredTemplates,
}

/// Why a job declarator server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JdsStartError {
    /// The rules cannot be gone by.
    #[error(transparent)]
    Rules(#[from] JdsConfigError),
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What a server has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JdsMetrics {
    /// Clients that are connected now.
    pub connections: usize,
    /// Tokens that were given out.
    pub tokens: u64,
    /// Declarations that were accepted.
    pub accepted: u64,
    /// Declarations that were refused.
    pub refused: u64,
    /// Blocks that clients have solved.
    pub blocks: u64,
    /// Bytes that are held for declarations now.
    pub held_bytes: usize,
    /// Questions that wait for a node now.
    pub waiting: usize,
}

/// A running job declarator server; dropped, it ends at once.
#[derive(Debug)]
pub struct Jds {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    admission: Admission,
    gauges: Arc<Gauges>,
    budget: Budget,
    shutdown: Shutdown,
    acceptor: JoinHandle<()>,
    /// Whoever mines beside must not wait for thousands of transactions that are hashed here.
    runtime: Option<Runtime>,
}

/// What the tasks of all clients share.
struct Hall {
    settings: watch::Receiver<Settings>,
    key: Arc<TokenKey>,
    budget: Budget,
    tips: watch::Receiver<Option<Tip>>,
    questions: mpsc::Sender<Question>,
    blocks: FoundBlocks,
    declared: DeclaredTemplates,
    lane: HandshakeLane,
    outbox: OutboxLimits,
    gauges: Arc<Gauges>,
    last_connection: AtomicU32,
}

/// What all sessions have done.
#[derive(Debug, Default)]
struct Gauges {
    tokens: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    blocks: AtomicU64,
    waiting: AtomicUsize,
}

impl Gauges {
    /// Adds what a session has done since it was `counted`.
    fn add(&self, counted: &mut Counters, now: &Counters) {
        for (gauge, new, old) in [
            (&self.tokens, now.tokens, counted.tokens),
            (&self.accepted, now.accepted, counted.accepted),
            (&self.refused, now.refused, counted.refused),
            (&self.blocks, now.blocks, counted.blocks),
        ] {
            gauge.fetch_add(new - old, Relaxed);
        }
        *counted = *now;
    }
}

impl Jds {
    /// Takes the address, and serves clients as soon as the node has told its tip.
    ///
    /// # Errors
    ///
    /// If the rules are wrong, or the address or a thread cannot be had.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(config: JdsServerConfig, parts: JdsParts) -> Result<Self, JdsStartError> {
        let JdsParts { rules, key, node, blocks, identity, declared } = parts;
        rules.check()?;
        let bound = Bound::new(config.listen)?;
        let lane = HandshakeLane::start(HANDSHAKES_WAITING).map_err(JdsStartError::Thread)?;
        let (shutdown, draining) = Shutdown::new();
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        let (gauges, budget, tips) = (Arc::<Gauges>::default(), Budget::default(), node.tips());
        let judge = Judge::new(node, declared.clone(), Arc::clone(&gauges));
        let runtime = background_runtime("declarator").map_err(JdsStartError::Thread)?;
        runtime.spawn(judge.run(questions, draining.clone()));
        let (settings, now) = watch::channel(Settings { rules: Arc::new(rules), identity });
        let hall = Arc::new(Hall {
            settings: now,
            key,
            budget: budget.clone(),
            tips,
            questions: ask,
            blocks,
            declared,
            lane,
            outbox: config.outbox,
            gauges: Arc::clone(&gauges),
            last_connection: AtomicU32::new(0),
        });
        let address = bound.address();
        let admission = Admission::new(config.limits.within_descriptors(raise_descriptor_limit()));
        let acceptor = runtime.spawn(accept(bound, admission.clone(), hall, draining));
        let runtime = Some(runtime);
        Ok(Self { address, settings, admission, gauges, budget, shutdown, acceptor, runtime })
    }

    /// The address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The numbers as they stand.
    #[must_use]
    pub fn metrics(&self) -> JdsMetrics {
        JdsMetrics {
            connections: self.admission.connections(),
            tokens: self.gauges.tokens.load(Relaxed),
            accepted: self.gauges.accepted.load(Relaxed),
            refused: self.gauges.refused.load(Relaxed),
            blocks: self.gauges.blocks.load(Relaxed),
            held_bytes: self.budget.held(),
            waiting: self.gauges.waiting.load(Relaxed),
        }
    }

    /// Lets nobody in any more and sends clients away. Their blocks are seen to by whoever owns the [`FoundBlocks`].
    pub async fn shutdown(mut self) {
        self.shutdown.begin();
        // A task that failed has said so in the log.
        let _ = (&mut self.acceptor).await;
    }
}

impl Drop for Jds {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets clients in until the shutdown, then sees them out.
async fn accept(bound: Bound, admission: Admission, hall: Arc<Hall>, mut draining: Draining) {
    let (mut clients, ending) = (JoinSet::new(), draining.clone());
    let serving = serve(bound, admission, &hall, &mut clients, &ending);
    tokio::select! {
        biased;
        () = draining.begun() => {}
        () = serving => draining.begun().await,
    }
    let deadline = Clock.instant(Clock.monotonic() + DRAIN_PATIENCE);
    while let Ok(Some(ended)) = timeout_at(deadline, clients.join_next()).await {
        note_panic(ended);
    }
    clients.shutdown().await;
}

/// Listens once there is a tip, and lets clients in from then on.
async fn serve(
    bound: Bound,
    admission: Admission,
    hall: &Arc<Hall>,
    clients: &mut JoinSet<()>,
    draining: &Draining,
) {
    // An error says that the node is gone, and that no tip ever comes.
    if hall.tips.clone().wait_for(Option::is_some).await.is_err() {
        return tracing::error!("the node ended before it told its tip");
    }
    let mut listener = match bound.listen_with(admission) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "no declarator clients can be let in"),
    };
    tracing::info!(address = %listener.address(), "listening for declarator clients");
    let mut shares = Shares::new(hall.budget.clone());
    loop {
        tokio::select! {
            biased;
            Some(ended) = clients.join_next() => note_panic(ended),
            accepted = listener.accept() => {
                let share = shares.of(accepted.permit.network());
                clients.spawn(peer::serve(accepted, Arc::clone(hall), share, draining.clone()));
            }
        }
    }
}

//! The translator as a program runs it: sockets, tasks and numbers around the pure core.
//!
//! Each machine has a task of its own, with its [`crate::Machine`] in it; each connection to an upstream too. Between them stands one steward,
//! who decides which upstream is used and posts jobs; machines see them on a bulletin, and send their shares straight to the upstream's task.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use adit_net::{Admission, BindError, Bound, Bulletin, Limits, Reader, Rest, Shutdown};
use adit_units::Hashrate;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::MachineConfig;
use crate::status::Status;
use crate::upstream::payout::Expectation;

mod acceptor;
mod board;
mod departure;
mod entrance;
mod kept;
mod link;
mod newest;
mod peer;
mod pool;
mod probe;
mod registry;
mod steward;
mod tls;
mod watcher;
mod wire;

pub use entrance::is_private;
pub use pool::{Pool, PoolError};
pub use probe::ProbeError;

use board::{Board, Joining};
use entrance::Objections;
use registry::Registry;
use steward::{Overview, Steward};
pub use tls::{Tls, TlsError};
pub use watcher::Numbers;

/// Machines that may wait to be told to the steward.
const JOINING_MAX: usize = 4_096;

/// How long machines have to take their leave when the program ends.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How machines share channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One channel for all: the upstream sees one miner, and the names of its workers if it wants them.
    #[default]
    Aggregated,
    /// Each machine has a channel of its own, and the upstream chooses its difficulty.
    PerMachine,
}

/// One upstream, as the operator names it.
#[derive(Clone, Debug)]
pub struct UpstreamTarget {
    /// Where it is, what it speaks, and the key that it is known by.
    pub pool: Pool,
    /// Whom it is to credit; a machine's own channel is credited to this and the machine's worker name.
    pub user: String,
    /// What goes with that name, `x` if it is left out; for a pool that speaks SV1, SV2 has no such thing.
    pub password: Option<String>,
    /// Whom its jobs must pay, if that is checked.
    pub expects: Option<Expectation>,
}

/// What a translator goes by.
#[derive(Clone, Debug)]
pub struct TranslatorConfig {
    /// Best first.
    pub upstreams: Vec<UpstreamTarget>,
    /// How machines share channels.
    pub mode: Mode,
    /// What holds for all machines.
    pub machine: MachineConfig,
    /// How long a job may be the newest before machines are given it again, so that they do not take us for dead.
    pub keepalive: Duration,
    /// What an upstream is told at the start of how fast the machines are together.
    pub first_guess: Hashrate,
    /// How many machines are served, in all and from one address.
    pub limits: Limits,
    /// Whether upstreams elsewhere may do without a key that they are known by.
    pub insecure: bool,
    /// Whether machines may come from public addresses. SV1 is plain text, so anyone on the way can take their work.
    pub allows_public: bool,
    /// Whether machines come through a proxy that says first where they come from (the PROXY protocol).
    pub expects_proxy: bool,
    /// What the runtime rests by, if it does ([`Rest::runtime`]). While machines say much, they are answered some milliseconds later; what an
    /// upstream says is never waited with.
    pub rest: Option<Arc<Rest>>,
}

/// Where machines come in.
#[derive(Debug)]
pub struct Doors {
    /// For those that speak plain text.
    pub plain: Bound,
    /// For those that speak TLS, and what they are shown.
    pub tls: Option<(Bound, Tls)>,
}

impl From<Bound> for Doors {
    fn from(plain: Bound) -> Self {
        Self { plain, tls: None }
    }
}

/// A running translator.
#[derive(Debug)]
pub struct Translator {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    numbers: Numbers,
    status: watch::Receiver<Arc<Status>>,
    shutdown: Shutdown,
    stop: watch::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    steward: JoinHandle<()>,
    watcher: JoinHandle<()>,
}

/// What all machines' tasks have in common.
#[derive(Debug)]
struct Hall {
    config: Arc<TranslatorConfig>,
    machine: Arc<MachineConfig>,
    registry: Registry,
    /// What all machines work on, where one channel serves them all.
    common: Option<Reader<Board>>,
    joining: mpsc::Sender<Joining>,
    objections: Objections,
}

impl Translator {
    /// Listens, and connects to upstreams in the background for as long as it takes.
    ///
    /// # Errors
    ///
    /// If another program has begun to listen there.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn start(config: TranslatorConfig, doors: impl Into<Doors>) -> Result<Self, BindError> {
        let Doors { plain, tls } = doors.into();
        let config = Arc::new(config);
        for pool in config.upstreams.iter().map(|upstream| &upstream.pool).filter(|pool| pool.is_legacy()) {
            tracing::warn!(%pool, "this upstream speaks SV1: neither encrypted nor authenticated, so anyone on the way can take the work");
        }
        // Whichever way machines come, they are counted together.
        let admission = Admission::new(config.limits);
        let listen = |bound: Bound| {
            let listener = bound.listen_with(admission.clone())?;
            Ok(if config.expects_proxy { listener.behind_proxy() } else { listener })
        };
        let plain = listen(plain)?;
        let tls = tls.map(|(bound, tls)| Ok((listen(bound)?, tls))).transpose()?;
        let address = plain.address();
        let tls_address = tls.as_ref().map(|(listener, _)| listener.address());
        let (joining, joined) = mpsc::channel(JOINING_MAX);
        let post = Bulletin::new(Board::default());
        let common = (config.mode == Mode::Aggregated).then(|| post.reader());
        let machine = Arc::new(config.machine.clone());
        let registry = Registry::new();
        let objections = Objections::default();
        let hall = Hall { config: Arc::clone(&config), machine, registry, common, joining, objections };
        let hall = Arc::new(hall);
        let overview = Overview::of(config.upstreams.len());
        let (stop, stopped) = watch::channel(false);
        let steward = Steward::new(Arc::clone(&hall), post, joined, Arc::clone(&overview));
        let steward = tokio::spawn(steward.run(stopped));
        let (shutdown, draining) = Shutdown::new();
        let (tell, status) = watch::channel(Arc::new(Status::default()));
        let numbers = Numbers::new(Arc::clone(&hall), overview, admission);
        let watcher = tokio::spawn(watcher::run(numbers.clone(), tell));
        let encrypted = tls.map(|(listener, tls)| {
            tokio::spawn(acceptor::run(draining.clone(), listener, Some(tls), Arc::clone(&hall)))
        });
        let plain = tokio::spawn(acceptor::run(draining, plain, None, hall));
        let acceptors = encrypted.into_iter().chain([plain]).collect();
        Ok(Self { address, tls_address, numbers, status, shutdown, stop, acceptors, steward, watcher })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for those that speak TLS.
    #[must_use]
    pub const fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Its numbers, for those who look now and then.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers.clone()
    }

    /// Its numbers as they change, at most a second old. They are put together every second for as long as somebody holds this.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Ends in order: machines are asked to connect anew, their last shares are passed on, channels are closed.
    pub async fn shutdown(self) {
        self.shutdown.begin();
        if timeout(DRAIN_PATIENCE, self.shutdown.finished()).await.is_err() {
            tracing::warn!("some machines did not take their leave in time");
        }
        self.acceptors.iter().for_each(JoinHandle::abort);
        self.watcher.abort();
        self.stop.send_replace(true);
        if let Err(panic) = self.steward.await {
            tracing::error!(%panic, "the steward failed");
        }
    }
}

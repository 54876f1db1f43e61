//! The tokio shell of the template provider: a node on one side, clients on the other.
//!
//! ```text
//! node ── templates ──> watch<Offers> ──> clients
//!  ^                                         │
//!  └───────────── blocks <── solutions ──────┘
//! ```

mod blocks;
mod client;
mod vigil;

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_net::{
    BindError, Bound, Clock, Draining, HandshakeLane, Limits, Listener, OutboxLimits, Shutdown, note_panic,
    raise_descriptor_limit,
};
use adit_share::{Block, Template, Tip};
use adit_transport::Identity;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{timeout, timeout_at};

use super::Offers;
use crate::Node;
pub use blocks::{BLOCKS_UNDER_WAY, BlockDesk, REPEAT_PAUSE};
use vigil::Vigil;

/// How long found blocks may take at shutdown until the node has answered for them.
pub const BLOCKS_PATIENCE: Duration = Duration::from_secs(30);

/// How long clients have at shutdown to take their leave.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// Handshakes that may wait for their turn.
const HANDSHAKES_WAITING: usize = 64;

/// Blocks that may wait to be handed to the node; beyond that their client waits.
const BLOCKS_WAITING: usize = 64;

/// Where a template provider listens and what it grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct ProviderConfig {
    /// The address for clients; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// How many clients.
    pub limits: Limits,
    /// Whether clients are told of a new block before the node has a template on it, with an empty template that stands on it.
    pub empty_templates: bool,
    /// What may wait for a client that does not read. More than half of it must hold all transactions of a block.
    pub outbox: OutboxLimits,
}

impl ProviderConfig {
    /// Default limits at an address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        // Two answers with all transactions of a block, and what is said beside them.
        let outbox = OutboxLimits { bytes: 9 << 20, ..OutboxLimits::default() };
        Self { listen, limits: provider_limits(), empty_templates: true, outbox }
    }
}

/// How many clients a template provider takes: pools and job declarators are few, and each may be sent whole blocks.
#[must_use]
pub fn provider_limits() -> Limits {
    Limits { connections: 256, connections_per_address: 64, newcomers: 64, newcomers_per_address: 16 }
}

/// Why a template provider cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderStartError {
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The node's handle ended before it gave a template.
    #[error("the node ended before it gave a template")]
    NoNode,
}

/// A running template provider; dropped, it winds down without waiting for anything.
#[derive(Debug)]
pub struct TemplateProvider {
    address: SocketAddr,
    shutdown: Shutdown,
    acceptor: JoinHandle<()>,
    offers: JoinHandle<()>,
    blocks: JoinHandle<()>,
    vigil: JoinHandle<()>,
}

/// What the tasks of all clients share.
struct Hall {
    offers: watch::Receiver<Arc<Offers>>,
    blocks: mpsc::Sender<Block>,
    lane: HandshakeLane,
    identity: Arc<Identity>,
    outbox: OutboxLimits,
    connections: AtomicU64,
    vigil: Vigil,
}

impl Hall {
    /// The number of the next connection, for the log.
    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

impl TemplateProvider {
    /// Takes the address, waits for the node's first template, and then serves clients with what `node` gives.
    ///
    /// Nobody is let in before there is a template, or while the node is away or hangs, so that clients turn to another provider meanwhile.
    /// Found blocks are handed to the node for some minutes, and kept nowhere. Cancel safe.
    ///
    /// # Errors
    ///
    /// If the address or a thread cannot be had.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(
        config: ProviderConfig,
        node: Node,
        identity: Arc<Identity>,
    ) -> Result<Self, ProviderStartError> {
        Self::start_over(config, node, identity, None).await
    }

    /// As [`Self::start`], with someone else to see to found blocks, who still has them when the provider has ended.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub async fn start_with(
        config: ProviderConfig,
        node: Node,
        identity: Arc<Identity>,
        desk: Arc<dyn BlockDesk>,
    ) -> Result<Self, ProviderStartError> {
        Self::start_over(config, node, identity, Some(desk)).await
    }

    async fn start_over(
        config: ProviderConfig,
        node: Node,
        identity: Arc<Identity>,
        desk: Option<Arc<dyn BlockDesk>>,
    ) -> Result<Self, ProviderStartError> {
        let bound = Bound::new(config.listen)?;
        let lane = HandshakeLane::start(HANDSHAKES_WAITING).map_err(ProviderStartError::Thread)?;
        let (mut templates, tips) = (node.templates(), config.empty_templates.then(|| node.tips()));
        let first = match templates.wait_for(Option::is_some).await {
            Ok(template) => template.clone(),
            Err(_) => None,
        };
        let first = Offers::first(Clock.unix(), first.ok_or(ProviderStartError::NoNode)?);

        let listener = bound.listen(config.limits.within_descriptors(raise_descriptor_limit()))?;
        let address = listener.address();
        let (publish, offers) = watch::channel(Arc::new(first));
        let (hand_over, found) = mpsc::channel(BLOCKS_WAITING);
        let (shutdown, draining) = Shutdown::new();
        let (vigil, keep_vigil) = Vigil::new(node.clone());
        let hall = Arc::new(Hall {
            offers,
            blocks: hand_over,
            lane,
            identity,
            outbox: config.outbox,
            connections: AtomicU64::new(1),
            vigil,
        });
        Ok(Self {
            address,
            shutdown,
            acceptor: tokio::spawn(accept(listener, hall, draining)),
            offers: tokio::spawn(follow(templates, tips, publish)),
            blocks: tokio::spawn(blocks::hand_over(node, desk, found)),
            vigil: tokio::spawn(keep_vigil),
        })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more, sends clients away, and waits until the node has answered for their blocks, or whoever else sees to them
    /// has taken them.
    ///
    /// True if it has, within [`BLOCKS_PATIENCE`].
    pub async fn shutdown(self) -> bool {
        self.shutdown.begin();
        // A task that failed has said so in the log.
        let _ = self.acceptor.await;
        self.offers.abort();
        self.vigil.abort();
        let answered = timeout(BLOCKS_PATIENCE, self.blocks).await;
        matches!(answered, Ok(Ok(())))
    }
}

/// Makes an offer of each template that the node gives, and of each tip that it tells of before, until nobody wants any.
async fn follow(
    mut templates: watch::Receiver<Option<Arc<Template>>>,
    mut tips: Option<watch::Receiver<Option<Tip>>>,
    publish: watch::Sender<Arc<Offers>>,
) {
    // The first template is an offer already; one that came since counts as a change.
    loop {
        let next = tokio::select! {
            // The template first: a tip is never behind it, so one that is looked at after it has none yet.
            biased;
            Ok(()) = templates.changed() => {
                let template = templates.borrow_and_update().clone();
                template.map(|template| publish.borrow().with(template))
            }
            tip = next_tip(&mut tips) => publish.borrow().ahead(&tip, Clock.unix()),
            () = publish.closed() => return,
        };
        if let Some(offers) = next {
            publish.send_replace(Arc::new(offers));
        }
    }
}

/// The next tip that the node tells of; none ever where nobody listens.
async fn next_tip(tips: &mut Option<watch::Receiver<Option<Tip>>>) -> Tip {
    if let Some(tips) = tips {
        while tips.changed().await.is_ok() {
            let tip = *tips.borrow_and_update();
            if let Some(tip) = tip {
                return tip;
            }
        }
    }
    core::future::pending().await
}

/// Lets clients in until the shutdown, then sees them out.
async fn accept(mut listener: Listener, hall: Arc<Hall>, mut draining: Draining) {
    let mut clients = JoinSet::new();
    tracing::info!(address = %listener.address(), "listening for template clients");
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => break,
            Some(ended) = clients.join_next() => note_panic(ended),
            accepted = listener.accept() => {
                if hall.vigil.is_closed() {
                    tracing::debug!(peer = %accepted.peer, "not let in: the node is away or hangs");
                    continue;
                }
                clients.spawn(client::serve(accepted, Arc::clone(&hall), draining.clone()));
            }
        }
    }
    drop(listener);
    let deadline = Clock.instant(Clock.monotonic() + DRAIN_PATIENCE);
    while let Ok(Some(ended)) = timeout_at(deadline, clients.join_next()).await {
        note_panic(ended);
    }
    clients.shutdown().await;
}

//! The handle on a node, whichever kind it is.

use std::sync::Arc;

use adit_share::{Block, RawTransaction, Template, Tip};
use adit_units::Now;
use bitcoin::hex::DisplayHex as _;
use bitcoin::{BlockHash, Wtxid};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::board::Board;
use crate::devnet::Runner;
use crate::rpc::{Client, follow};
use crate::sources::{self, ChainEnd, Sources, Standing};
use crate::tdp::{self, Provider, TdpConfig};
use crate::transactions::Gathered;
use crate::{Checked, DevnetConfig, Fate, Health, NodeConfig, NodeError, NodeInfo, RpcConfig, Submitted};
#[cfg(feature = "ipc")]
use crate::{IpcConfig, ipc};

/// What to do where a block is to be checked.
const TDP_CHECKS_NOTHING: &str = "the template distribution protocol cannot ask whether a block is good; configure a node that is spoken to directly";

/// A block on its way to nodes, shared by cloning.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    /// Consensus-serialised.
    pub(crate) bytes: Arc<[u8]>,
    /// The same, where its parts are known: a node that has its template is told of it sooner that way.
    #[cfg_attr(not(feature = "ipc"), expect(dead_code, reason = "only such nodes are spoken to over IPC"))]
    pub(crate) parts: Option<Arc<Block>>,
}

/// A Bitcoin node, shared by cloning; its background work ends with the last clone.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    board: Arc<Board>,
    backend: Backend,
    /// `None` where the work is done elsewhere, and ends with the backend.
    task: Option<JoinHandle<()>>,
}

/// Who answers questions.
#[derive(Debug)]
enum Backend {
    Rpc(Arc<Client>),
    #[cfg(feature = "ipc")]
    Ipc(Box<ipc::Client>),
    Tdp(Box<Provider>),
    Devnet(Runner),
    Several(Sources),
}

impl Node {
    /// A node of any kind.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn open(config: &NodeConfig) -> Self {
        match config {
            NodeConfig::Rpc(config) => Self::rpc(config),
            #[cfg(feature = "ipc")]
            NodeConfig::Ipc(config) => Self::ipc(config),
            NodeConfig::Tdp(config) => Self::tdp(config),
        }
    }

    /// A real node, spoken to over JSON-RPC.
    ///
    /// It need not be there yet: whatever is wrong shows in [`Self::health`], and is tried again until it works.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn rpc(config: &RpcConfig) -> Self {
        let board = Arc::new(Board::new(config.url()));
        let client = Arc::new(Client::new(config));
        let task = tokio::spawn(follow(Arc::clone(&client), Arc::clone(&board)));
        Self { inner: Arc::new(Inner { board, backend: Backend::Rpc(client), task: Some(task) }) }
    }

    /// A real node, spoken to over the IPC interface of Bitcoin Core (version 30 and later).
    ///
    /// It need not be there yet: whatever is wrong shows in [`Self::health`], and is tried again until it works. What older versions do
    /// not offer over IPC (taking a block that is none of their own templates, telling where a block is) goes by JSON-RPC where the
    /// config names it.
    ///
    /// A node that is left answers what it was asked first, within a second; a runtime that shuts down waits for that.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[cfg(feature = "ipc")]
    #[must_use]
    pub fn ipc(config: &IpcConfig) -> Self {
        let board = Arc::new(Board::new(config.url()));
        let client = Box::new(ipc::Client::start(config, Arc::clone(&board)));
        Self { inner: Arc::new(Inner { board, backend: Backend::Ipc(client), task: None }) }
    }

    /// A template provider, spoken to over the template distribution protocol (spec 7).
    ///
    /// It need not be there yet: whatever is wrong shows in [`Self::health`], and is tried again until it works. The protocol carries
    /// only blocks of the provider's own templates, and no answer to them: the next block that it tells of is one.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn tdp(config: &TdpConfig) -> Self {
        let board = Arc::new(Board::new(config.name()));
        let (provider, requests) = Provider::new(config);
        let task = tokio::spawn(tdp::follow(config.clone(), Arc::clone(&board), requests));
        Self { inner: Arc::new(Inner { board, backend: Backend::Tdp(Box::new(provider)), task: Some(task) }) }
    }

    /// A chain in memory; `clock` says what time it is.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn devnet(config: &DevnetConfig, clock: impl Fn() -> Now + Send + 'static) -> Self {
        let board = Arc::new(Board::new("devnet".to_owned()));
        let (runner, run) = Runner::new(config, clock, Arc::clone(&board));
        let task = tokio::spawn(run);
        Self { inner: Arc::new(Inner { board, backend: Backend::Devnet(runner), task: Some(task) }) }
    }

    /// Several nodes as one, the most preferred first; `clock` says what time it is. One node alone stays what it is.
    ///
    /// Templates come from the first node that is well and knows the newest block that any of them has told of. A node that dies, hangs
    /// or gives bad templates is left within two seconds for one that is well; a preferred one is taken up again when it has been well for
    /// ten and moves miners to no rival of their block.
    /// Every block goes to all of them at once, and is accepted when one accepts it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, and without a node.
    #[must_use]
    pub fn several(nodes: Vec<Self>, clock: impl Fn() -> Now + Send + 'static) -> Self {
        assert!(!nodes.is_empty(), "at least one node is needed");
        let nodes: Arc<[Self]> = match <[Self; 1]>::try_from(nodes) {
            Ok([node]) => return node,
            Err(nodes) => nodes.into(),
        };
        let board = Arc::new(Board::new("all nodes".to_owned()));
        let (standing, known) = watch::channel(Standing::default());
        let task = tokio::spawn(sources::follow(Arc::clone(&nodes), Arc::clone(&board), standing, clock));
        let backend = Backend::Several(Sources::new(nodes, known));
        Self { inner: Arc::new(Inner { board, backend, task: Some(task) }) }
    }

    /// What the node is called in logs.
    pub(crate) fn name(&self) -> &str {
        self.inner.board.source()
    }

    /// Where the node's chain ends, as it says when asked now.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        match &self.inner.backend {
            Backend::Rpc(client) => client.chain_end().await,
            #[cfg(feature = "ipc")]
            Backend::Ipc(client) => client.chain_end().await,
            Backend::Tdp(provider) => provider.chain_end().await,
            Backend::Devnet(runner) => runner.chain_end().await,
            Backend::Several(sources) => sources.chain_end().await,
        }
    }

    /// The newest template; changes when the tip does or when the template says something new. `None` until the first has come.
    #[must_use]
    pub fn templates(&self) -> watch::Receiver<Option<Arc<Template>>> {
        self.inner.board.templates()
    }

    /// The newest tip; it can come before there is a template on it, and it is never behind the templates. `None` until the first
    /// template has come.
    #[must_use]
    pub fn tips(&self) -> watch::Receiver<Option<Tip>> {
        self.inner.board.tips()
    }

    /// Whether templates come, and what is wrong if not.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.board.health()
    }

    /// Hands a found block to the node; a node that cannot be reached is tried again a few times, for some seconds.
    pub async fn submit(&self, block: &Block) -> Submitted {
        self.hand_over(&Handed { bytes: block.to_bytes().into(), parts: Some(block.clone().into()) }).await
    }

    /// As [`Self::submit`], for a block that is there as bytes only, consensus-serialised.
    pub async fn submit_bytes(&self, block: &[u8]) -> Submitted {
        self.hand_over(&Handed { bytes: block.into(), parts: None }).await
    }

    pub(crate) async fn hand_over(&self, block: &Handed) -> Submitted {
        match &self.inner.backend {
            Backend::Rpc(client) => client.submit(&block.bytes).await,
            #[cfg(feature = "ipc")]
            Backend::Ipc(client) => client.submit(Arc::clone(&block.bytes), block.parts.as_deref()).await,
            Backend::Tdp(provider) => provider.submit(&block.bytes).await,
            Backend::Devnet(runner) => runner.submit(block.bytes.to_vec()).await,
            Backend::Several(sources) => sources.submit(block.clone()).await,
        }
    }

    /// Where a block is now; asks once.
    pub async fn fate(&self, hash: BlockHash) -> Fate {
        match &self.inner.backend {
            Backend::Rpc(client) => client.fate(hash).await,
            #[cfg(feature = "ipc")]
            Backend::Ipc(client) => client.fate(hash).await,
            Backend::Tdp(provider) => provider.fate(hash).await,
            Backend::Devnet(runner) => runner.fate(hash).await,
            Backend::Several(sources) => sources.fate(hash).await,
        }
    }

    /// Whether a block that nobody has solved yet keeps every rule, consensus-serialised; asks once.
    ///
    /// Only a node can tell, no template provider.
    pub async fn check_block(&self, block: &[u8]) -> Checked {
        match &self.inner.backend {
            Backend::Rpc(client) => client.check(&block.to_lower_hex_string()).await,
            #[cfg(feature = "ipc")]
            Backend::Ipc(client) => client.check(block).await,
            Backend::Tdp(_) => Checked::Unreachable(TDP_CHECKS_NOTHING.to_owned()),
            Backend::Devnet(runner) => runner.check(block.to_vec()).await,
            Backend::Several(sources) => sources.check(block).await,
        }
    }

    /// Transactions that nobody has mined yet, by the hashes that cover everything in them, in the same order; `None` where the node
    /// does not have one, or does not tell.
    ///
    /// Real nodes look in their mempool, and all in the newest template. Where there are more than fit into a block, the rest may be
    /// left out.
    pub async fn transactions(&self, wtxids: &[Wtxid]) -> Vec<Option<RawTransaction>> {
        let mut gathered = Gathered::new(wtxids);
        gathered.extend_from(self.inner.board.templates().borrow().as_deref());
        let missing = gathered.missing();
        if missing.is_empty() || gathered.is_full() {
            return gathered.finish();
        }
        let found = match &self.inner.backend {
            Backend::Rpc(client) => client.transactions(&missing).await,
            #[cfg(feature = "ipc")]
            Backend::Ipc(client) => client.transactions(&missing).await,
            Backend::Tdp(_) => Ok(Vec::new()),
            Backend::Devnet(runner) => Ok(runner.transactions(missing).await),
            Backend::Several(sources) => Ok(sources.transactions(missing).await),
        };
        match found {
            Ok(found) => gathered.extend(found.into_iter().flatten()),
            Err(error) => debug!(node = self.name(), %error, "transactions cannot be looked up"),
        }
        gathered.finish()
    }

    /// What the node says of itself, and whether its templates can be used.
    ///
    /// # Errors
    ///
    /// When the node cannot be asked, or is on another network than configured.
    pub async fn probe(&self) -> Result<NodeInfo, NodeError> {
        match &self.inner.backend {
            Backend::Rpc(client) => client.probe().await,
            #[cfg(feature = "ipc")]
            Backend::Ipc(client) => client.probe().await,
            Backend::Tdp(provider) => provider.probe().await,
            Backend::Devnet(runner) => runner.probe().await,
            Backend::Several(sources) => sources.probe().await,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

//! The handle on a node, whichever kind it is.

use std::sync::Arc;

use adit_share::{Block, Template, Tip};
use adit_units::Now;
use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::devnet::Runner;
use crate::rpc::{Client, follow};
use crate::sources::{self, ChainEnd, Sources, Standing};
use crate::{DevnetConfig, Fate, Health, NodeError, NodeInfo, RpcConfig, Submitted};

/// A Bitcoin node, shared by cloning; its background work ends with the last clone.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    board: Arc<Board>,
    backend: Backend,
    task: JoinHandle<()>,
}

/// Who answers questions.
#[derive(Debug)]
enum Backend {
    Rpc(Arc<Client>),
    Devnet(Runner),
    Several(Sources),
}

impl Node {
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
        Self { inner: Arc::new(Inner { board, backend: Backend::Rpc(client), task }) }
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
        Self { inner: Arc::new(Inner { board, backend: Backend::Devnet(runner), task }) }
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
        Self { inner: Arc::new(Inner { board, backend, task }) }
    }

    /// What the node is called in logs.
    pub(crate) fn name(&self) -> &str {
        self.inner.board.source()
    }

    /// Where the node's chain ends, as it says when asked now.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        match &self.inner.backend {
            Backend::Rpc(client) => client.chain_end().await,
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
        self.submit_bytes(&block.to_bytes()).await
    }

    /// As [`Self::submit`], for a block that is there as bytes only, consensus-serialised.
    pub async fn submit_bytes(&self, block: &[u8]) -> Submitted {
        match &self.inner.backend {
            Backend::Rpc(client) => client.submit(&block.to_lower_hex_string()).await,
            Backend::Devnet(runner) => runner.submit(block.to_vec()).await,
            Backend::Several(sources) => sources.submit(block).await,
        }
    }

    /// Where a block is now; asks once.
    pub async fn fate(&self, hash: BlockHash) -> Fate {
        match &self.inner.backend {
            Backend::Rpc(client) => client.fate(hash).await,
            Backend::Devnet(runner) => runner.fate(hash).await,
            Backend::Several(sources) => sources.fate(hash).await,
        }
    }

    /// What the node says of itself, and whether its templates can be used.
    ///
    /// # Errors
    ///
    /// When the node cannot be asked, or is on another network than configured.
    pub async fn probe(&self) -> Result<NodeInfo, NodeError> {
        match &self.inner.backend {
            Backend::Rpc(client) => client.probe().await,
            Backend::Devnet(runner) => runner.probe().await,
            Backend::Several(sources) => sources.probe().await,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

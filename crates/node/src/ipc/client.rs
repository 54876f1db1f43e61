//! The handle on the thread that speaks to a node.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use adit_share::Block;
use bitcoin::{BlockHash, Wtxid};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::config::IpcConfig;
use super::follow::follow;
use super::held::Found;
use super::lanes::{Delivery, Entrances, FateOf, Lanes, Question, Reply, lanes};
use super::session::{Memory, Session};
use crate::board::Board;
use crate::rpc;
use crate::sources::ChainEnd;
use crate::transactions::RawOrNone;
use crate::{Checked, Fate, NodeError, NodeInfo, Submitted, Timing};

/// Threads that read templates and blocks beside the one that speaks to the node; there is hardly ever work for more.
const BLOCKING_MAX: usize = 2;
/// How long a node may take to answer what it was asked, when nobody needs it any more.
const FAREWELL: Duration = Duration::from_secs(1);

/// The way to one node; its thread ends with this.
#[derive(Debug)]
pub(crate) struct Client {
    url: String,
    timing: Timing,
    entrances: Entrances,
    /// The same node's JSON-RPC, for what an older one cannot do over IPC.
    rpc: Option<rpc::Client>,
}

impl Client {
    /// Begins to follow a node.
    pub(crate) fn start(config: &IpcConfig, board: Arc<Board>) -> Self {
        let (entrances, lanes) = lanes();
        let rpc = config.rpc.as_ref().map(rpc::Client::new);
        if let Err(error) = spawn(config.clone(), Arc::clone(&board), lanes) {
            board.down(no_thread(&error));
        }
        Self { url: config.url(), timing: config.timing, entrances, rpc }
    }

    /// Where the node's chain ends.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        self.call(&self.entrances.pulses, |reply| reply).await
    }

    /// Hands over a block, trying a few times while the node does not answer; `found` is the same block, where its parts are known.
    pub(crate) async fn submit(&self, bytes: Arc<[u8]>, found: Option<&Block>) -> Submitted {
        let found = found.and_then(Found::of);
        let mut pause = self.timing.first_retry;
        for _ in 1..self.timing.submit_tries {
            let error = match (self.deliver_once(&bytes, found.as_ref()).await, &self.rpc) {
                (Ok(Submitted::Accepted), _) => return Submitted::Accepted,
                // An older node takes blocks by their coinbase only, and does not say what is wrong with one.
                (Ok(by_coinbase), Some(rpc)) => {
                    let whole = rpc.submit(&bytes).await;
                    // It is known because it was made there just now.
                    return if whole == Submitted::AlreadyKnown { by_coinbase } else { whole };
                }
                (Ok(submitted), None) => return submitted,
                (Err(error), _) => error,
            };
            // Whoever follows the block knows its hash, and tells the operator.
            debug!(node = self.url, %error, "a block could not be handed over");
            if let Some(rpc) = &self.rpc {
                return rpc.submit(&bytes).await;
            }
            if matches!(error, NodeError::Unsupported { .. }) {
                return Submitted::Unreachable(error.to_string());
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.timing.max_retry);
        }
        let last = self.deliver_once(&bytes, found.as_ref()).await;
        last.unwrap_or_else(|error| Submitted::Unreachable(error.to_string()))
    }

    async fn deliver_once(&self, bytes: &Arc<[u8]>, found: Option<&Found>) -> Result<Submitted, NodeError> {
        let (bytes, found) = (Arc::clone(bytes), found.cloned());
        self.call(&self.entrances.deliveries, |reply| Delivery { bytes, found, reply }).await
    }

    /// Where a block is.
    pub(crate) async fn fate(&self, hash: BlockHash) -> Fate {
        match (self.call(&self.entrances.fates, |reply| FateOf(hash, reply)).await, &self.rpc) {
            (Ok(fate), _) => fate,
            (Err(_), Some(rpc)) => rpc.fate(hash).await,
            (Err(error), None) => Fate::Unreachable(error.to_string()),
        }
    }

    /// Whether an unsolved block keeps every rule.
    pub(crate) async fn check(&self, block: &[u8]) -> Checked {
        let block = Arc::from(block);
        let answer = self.call(&self.entrances.questions, |reply| Question::Check(block, reply)).await;
        answer.unwrap_or_else(|error| Checked::Unreachable(error.to_string()))
    }

    /// Transactions of the node's mempool, by the hashes that cover everything in them.
    pub(crate) async fn transactions(&self, wtxids: &[Wtxid]) -> Result<RawOrNone, NodeError> {
        let question = |reply| Question::Transactions(wtxids.into(), reply);
        match (self.call(&self.entrances.questions, question).await, &self.rpc) {
            (Err(_), Some(rpc)) => rpc.transactions(wtxids).await,
            (answer, _) => answer,
        }
    }

    /// What the node says of itself.
    pub(crate) async fn probe(&self) -> Result<NodeInfo, NodeError> {
        self.call(&self.entrances.questions, Question::Probe).await
    }

    /// Makes a call on the node's thread.
    async fn call<T, C>(
        &self,
        entrance: &mpsc::Sender<C>,
        call: impl FnOnce(Reply<T>) -> C,
    ) -> Result<T, NodeError> {
        let (reply, answered) = oneshot::channel();
        let gone = |reason: &str| NodeError::Unplugged { url: self.url.clone(), reason: reason.to_owned() };
        entrance.send(call(reply)).await.map_err(|_| gone("it is no longer followed"))?;
        answered.await.map_err(|_| gone("it broke while the node was asked"))?
    }
}

/// Asks a node what it is and whether its templates can be used; starts nothing that stays.
///
/// # Errors
///
/// When the node cannot be asked, or is on another network than configured.
pub async fn probe(config: &IpcConfig) -> Result<NodeInfo, NodeError> {
    let (config, (tell, told)) = (config.clone(), oneshot::channel());
    let started = start_thread(async move || {
        let (board, memory) = (Board::new(config.url()), Memory::default());
        let probing = async {
            let (session, _lost) = Session::open(&config, &board, &memory).await?;
            session.probe_once().await
        };
        // Who no longer waits does not get it.
        let _ = tell.send(probing.await);
    });
    started.map_err(|error| no_thread(&error))?;
    told.await.map_err(|_| NodeError::Gone("the thread that asked the node has ended".to_owned()))?
}

/// Starts the thread that follows a node.
fn spawn(config: IpcConfig, board: Arc<Board>, lanes: Lanes) -> io::Result<()> {
    start_thread(async move || follow(&config, &board, lanes).await)
}

/// Starts a thread with a runtime of its own. It is one that the program waits for before it ends, so that nodes are left in peace.
fn start_thread(work: impl AsyncFnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_MAX)
        .build()?;
    drop(tokio::task::spawn_blocking(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, work());
        // What is left is connections that are being closed.
        drop(runtime.block_on(async { timeout(FAREWELL, local).await }));
    }));
    Ok(())
}

fn no_thread(error: &io::Error) -> NodeError {
    NodeError::Gone(format!("the system gives no thread to ask the node with ({error}); raise its limits"))
}

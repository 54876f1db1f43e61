//! Several nodes as one: templates from the best live one, every found block to all of them.

mod choice;
mod follow;
mod verdict;

use core::pin::Pin;
use core::time::Duration;
use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::hashes::{Hash as _, sha256d};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub(crate) use choice::ChainEnd;
pub(crate) use follow::follow;

use crate::{Fate, Node, NodeError, NodeInfo, Submitted};

/// How long a block that a node could not be given is kept for it, when another node has answered already.
const LATE_FOR: Duration = Duration::from_secs(600);
/// The pause between two tries to give it such a block.
const LATE_PAUSE: Duration = Duration::from_secs(5);
/// Most blocks that wait for one node; each has up to four million bytes and a connection. Only test networks get there.
const WAITING_MAX: usize = 32;

/// What those who hold the handle need to know of the choice between the nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// For each node, whether it knows the newest block.
    pub(crate) level: Vec<bool>,
    /// The end of the longest chain that is known.
    pub(crate) best: Option<ChainEnd>,
}

/// What several nodes answer. Boxed, because one of them may again be several, and types must end somewhere.
type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way to several nodes.
#[derive(Debug)]
pub(crate) struct Sources {
    nodes: Arc<[Node]>,
    standing: watch::Receiver<Standing>,
    /// For each node, room for blocks that wait for it.
    waiting: Vec<Arc<Semaphore>>,
}

impl Sources {
    pub(crate) fn new(nodes: Arc<[Node]>, standing: watch::Receiver<Standing>) -> Self {
        let waiting = nodes.iter().map(|_| Arc::new(Semaphore::new(WAITING_MAX))).collect();
        Self { nodes, standing, waiting }
    }

    /// Hands a block to all nodes at once; the answer is the best one, and the first that accepts is not made to wait for others.
    pub(crate) fn submit(&self, block: &[u8]) -> Answer<'_, Submitted> {
        let block: Arc<[u8]> = block.into();
        Box::pin(self.submit_shared(block))
    }

    async fn submit_shared(&self, block: Arc<[u8]>) -> Submitted {
        let (answer, mut answers) = mpsc::channel(self.nodes.len());
        let mut heard = Vec::new();
        for (node, waiting) in self.nodes.iter().zip(&self.waiting) {
            let Ok(place) = Arc::clone(waiting).try_acquire_owned() else {
                let reason = format!("{WAITING_MAX} blocks wait for it already");
                heard.push((node.name().to_owned(), Submitted::Unreachable(reason)));
                continue;
            };
            // Not bound to the caller: the others get their copy even when one has accepted it.
            tokio::spawn(deliver(node.clone(), Arc::clone(&block), answer.clone(), place));
        }
        drop(answer);
        while let Some((name, submitted)) = answers.recv().await {
            if submitted == Submitted::Accepted {
                return submitted;
            }
            heard.push((name, submitted));
        }
        verdict::submitted(heard)
    }

    /// Asks all nodes at once where a block is, and believes those that know the newest block before the others.
    pub(crate) fn fate(&self, hash: BlockHash) -> Answer<'_, Fate> {
        Box::pin(self.ask_fate(hash))
    }

    async fn ask_fate(&self, hash: BlockHash) -> Fate {
        let level = self.standing.borrow().level.clone();
        let (answer, mut answers) = mpsc::channel(self.nodes.len());
        let mut questions = tokio::task::JoinSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let (node, answer) = (node.clone(), answer.clone());
            let level = level.get(index).copied().unwrap_or(false);
            questions.spawn(async move {
                // Only a caller that went away does not take the answer.
                let _ = answer.send((level, node.fate(hash).await)).await;
            });
        }
        drop(answer);
        let mut heard = Vec::new();
        while let Some((level, fate)) = answers.recv().await {
            if level && matches!(fate, Fate::InChain { .. }) {
                return fate;
            }
            heard.push((level, fate));
        }
        verdict::fate(heard)
    }

    /// What the first node that answers says of itself.
    pub(crate) fn probe(&self) -> Answer<'_, Result<NodeInfo, NodeError>> {
        Box::pin(self.probe_each())
    }

    async fn probe_each(&self) -> Result<NodeInfo, NodeError> {
        let mut reasons = Vec::new();
        for node in self.nodes.iter() {
            match node.probe().await {
                Ok(info) => return Ok(info),
                Err(error) => reasons.push(format!("{}: {error}", node.name())),
            }
        }
        Err(NodeError::NoSource(reasons.join("; ")))
    }

    /// The end of the longest chain that any of the nodes has told of.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        let mut standing = self.standing.clone();
        let known = standing.wait_for(|standing| standing.best.is_some()).await;
        let best = known.ok().and_then(|standing| standing.best);
        best.ok_or_else(|| NodeError::Gone("the nodes are no longer followed".to_owned()))
    }
}

/// Hands a block to one node, and tells what came of it; a node that is away gets it later, if it comes back soon enough.
async fn deliver(
    node: Node,
    block: Arc<[u8]>,
    answer: mpsc::Sender<(String, Submitted)>,
    _place: OwnedSemaphorePermit,
) {
    let submitted = node.submit_bytes(&block).await;
    let away = matches!(submitted, Submitted::Unreachable(_));
    // Whoever got a better answer from another node waits no longer.
    let waiting = answer.send((node.name().to_owned(), submitted)).await.is_ok();
    drop(answer);
    // Whoever waits may get no better answer, and then hands the block over again.
    if !away || waiting {
        return;
    }
    let (source, hash) = (node.name(), hash_of(&block));
    warn!(source, %hash, "a node missed a block that another one took; it gets the block when it is back");
    let given = timeout(LATE_FOR, async {
        loop {
            sleep(LATE_PAUSE).await;
            match node.submit_bytes(&block).await {
                Submitted::Unreachable(_) => {}
                answer => return answer,
            }
        }
    });
    match given.await {
        Ok(answer) => info!(source, %hash, ?answer, "a late block was handed over"),
        Err(_) => warn!(source, %hash, "a late block was not handed over; the chain will bring it"),
    }
}

/// The hash of a serialised block, for the log.
fn hash_of(block: &[u8]) -> BlockHash {
    let header = block.get(..adit_share::HEADER_LEN).unwrap_or(block);
    BlockHash::from_raw_hash(sha256d::Hash::hash(header))
}

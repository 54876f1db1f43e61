//! Several nodes as one: templates from the best live one, every found block to all of them.

mod choice;
mod follow;
mod verdict;
mod voice;

use core::pin::Pin;
use core::time::Duration;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{BlockHash, Wtxid};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub(crate) use choice::ChainEnd;
pub(crate) use follow::follow;

use crate::node::Handed;
use crate::transactions::{Gathered, RawOrNone};
use crate::{Checked, Fate, Node, NodeError, NodeInfo, Submitted};

/// How long a block that a node could not be given is kept for it, whatever the others have answered.
const LATE_FOR: Duration = Duration::from_secs(600);
/// The pause between two tries to give it such a block.
const LATE_PAUSE: Duration = Duration::from_secs(5);
/// Most blocks that wait for one node; each has up to four million bytes and a connection. Only test networks get there.
const WAITING_MAX: usize = 32;

/// How long a node may take over a look-up before the next one is asked, too.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What those who hold the handle need to know of the choice between the nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// For each node, whether it knows the newest block.
    pub(crate) level: Vec<bool>,
    /// For each node, whether nothing is wrong with it.
    pub(crate) well: Vec<bool>,
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
    /// For each node, what waits for it.
    waiting: Vec<Waiting>,
}

/// The blocks that wait for one node.
#[derive(Clone, Debug)]
struct Waiting {
    room: Arc<Semaphore>,
    /// Those that it could not be given and gets as soon as it is back.
    late: Arc<Mutex<HashSet<BlockHash>>>,
}

impl Waiting {
    fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(WAITING_MAX)), late: Arc::default() }
    }

    fn late(&self) -> MutexGuard<'_, HashSet<BlockHash>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources {
    pub(crate) fn new(nodes: Arc<[Node]>, standing: watch::Receiver<Standing>) -> Self {
        let waiting = nodes.iter().map(|_| Waiting::new()).collect();
        Self { nodes, standing, waiting }
    }

    /// Hands a block to all nodes at once; the answer is the best one, and the first that has it is not made to wait for others.
    pub(crate) fn submit(&self, block: Handed) -> Answer<'_, Submitted> {
        Box::pin(self.submit_shared(block))
    }

    async fn submit_shared(&self, block: Handed) -> Submitted {
        let (answer, mut answers) = mpsc::channel(self.nodes.len());
        let mut heard = Vec::new();
        for (node, waiting) in self.nodes.iter().zip(&self.waiting) {
            let Ok(place) = Arc::clone(&waiting.room).try_acquire_owned() else {
                let reason = format!("{WAITING_MAX} blocks wait for it already");
                heard.push((node.name().to_owned(), Submitted::Unreachable(reason)));
                continue;
            };
            // Not bound to the caller: the others get their copy even when one has accepted it.
            let delivery =
                Delivery { node: node.clone(), block: block.clone(), waiting: waiting.clone(), place };
            tokio::spawn(delivery.run(answer.clone()));
        }
        drop(answer);
        while let Some((name, submitted)) = answers.recv().await {
            // A node that had it may have had it from one of the others, who need not be waited for.
            if matches!(submitted, Submitted::Accepted | Submitted::AlreadyKnown) {
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
        let mut questions = JoinSet::new();
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

    /// Asks all nodes at once whether an unsolved block keeps every rule; the first that can tell is believed.
    pub(crate) fn check(&self, block: &[u8]) -> Answer<'_, Checked> {
        let block: Arc<[u8]> = block.into();
        Box::pin(self.ask_check(block))
    }

    async fn ask_check(&self, block: Arc<[u8]>) -> Checked {
        let mut questions = JoinSet::new();
        for node in self.nodes.iter() {
            let (node, block) = (node.clone(), Arc::clone(&block));
            questions.spawn(async move { (node.name().to_owned(), node.check_block(&block).await) });
        }
        let (mut undecided, mut away) = (Vec::new(), Vec::new());
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok((_, told @ (Checked::Valid | Checked::Refused(_)))) => return told,
                Ok((name, Checked::Undecided(word))) => undecided.push(format!("{name}: {word}")),
                Ok((name, Checked::Unreachable(reason))) => away.push(format!("{name}: {reason}")),
                Err(error) => away.push(error.to_string()),
            }
        }
        if undecided.is_empty() {
            Checked::Unreachable(away.join("; "))
        } else {
            Checked::Undecided(undecided.join("; "))
        }
    }

    /// Transactions by their hashes, from one node after the other; those that are well come first, and none is waited for long before
    /// the next one is asked.
    pub(crate) fn transactions(&self, wtxids: Vec<Wtxid>) -> Answer<'_, RawOrNone> {
        Box::pin(self.gather(wtxids))
    }

    async fn gather(&self, wtxids: Vec<Wtxid>) -> RawOrNone {
        let mut gathered = Gathered::new(&wtxids);
        let (mut nodes, mut questions) = (self.in_order().into_iter(), JoinSet::new());
        let mut answered = false;
        loop {
            let missing = gathered.missing();
            if missing.is_empty() || gathered.is_full() {
                break;
            }
            let next = nodes.next();
            // Somebody's answer is waited for as long as it takes, but not everybody's.
            let is_hurried = next.is_some() || answered;
            if let Some(node) = next {
                questions.spawn(async move { node.transactions(&missing).await });
            }
            let patience = if is_hurried { LOOK_UP } else { Duration::MAX };
            match timeout(patience, questions.join_next()).await {
                Ok(Some(found)) => {
                    answered = true;
                    gathered.extend(found.into_iter().flatten().flatten());
                }
                Err(_) if nodes.len() > 0 => {}
                // Nobody is left to be asked, or those who are do not answer.
                Ok(None) => break,
                Err(_) if answered => break,
                Err(_) => {}
            }
        }
        gathered.finish()
    }

    /// The nodes, those that are well and know the newest block first, then those that are well.
    fn in_order(&self) -> Vec<Node> {
        let standing = self.standing.borrow();
        let is = |list: &[bool], index: usize| list.get(index).copied().unwrap_or(false);
        let rank = |index: usize| match (is(&standing.well, index), is(&standing.level, index)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
        let mut nodes: Vec<_> = self.nodes.iter().cloned().enumerate().collect();
        nodes.sort_by_key(|(index, _)| rank(*index));
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// What the first node that answers says of itself; those that are well are asked first.
    pub(crate) fn probe(&self) -> Answer<'_, Result<NodeInfo, NodeError>> {
        Box::pin(self.probe_each())
    }

    async fn probe_each(&self) -> Result<NodeInfo, NodeError> {
        let mut reasons = Vec::new();
        for node in self.in_order() {
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

/// A block on its way to one node.
struct Delivery {
    node: Node,
    block: Handed,
    waiting: Waiting,
    place: OwnedSemaphorePermit,
}

impl Delivery {
    /// Hands the block over, and tells what came of it; a node that is away gets it later, if it comes back soon enough.
    async fn run(self, answer: mpsc::Sender<(String, Submitted)>) {
        let submitted = self.node.hand_over(&self.block).await;
        let is_away = matches!(submitted, Submitted::Unreachable(_));
        // Whoever has a better answer from another node waits no longer.
        let _ = answer.send((self.node.name().to_owned(), submitted)).await;
        drop(answer);
        // Whoever waits does not ask again once another node has the block, so that is no reason to give up here.
        let hash = hash_of(&self.block.bytes);
        if is_away && self.waiting.late().insert(hash) {
            self.hand_over_late(hash).await;
            self.waiting.late().remove(&hash);
        }
        drop(self.place);
    }

    async fn hand_over_late(&self, hash: BlockHash) {
        let source = self.node.name();
        warn!(source, %hash, "a node could not be given a block; it gets the block when it is back");
        let given = timeout(LATE_FOR, async {
            loop {
                sleep(LATE_PAUSE).await;
                match self.node.hand_over(&self.block).await {
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
}

/// The hash of a serialised block, for the log.
fn hash_of(block: &[u8]) -> BlockHash {
    let header = block.get(..adit_share::HEADER_LEN).unwrap_or(block);
    BlockHash::from_raw_hash(sha256d::Hash::hash(header))
}

//! Blocks on their way from clients to the node.

use core::pin::Pin;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use adit_net::Clock;
use adit_share::Block;
use adit_units::Monotonic;
use bitcoin::BlockHash;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::{Fate, Node, Submitted};

/// Blocks that are handed over at once; beyond that they wait, and in the end whoever sends more. Each can take some tens of megabytes.
pub const BLOCKS_UNDER_WAY: usize = 16;

/// How long after a block was answered for it is passed over when it comes again. Clients that are not sure whether it has arrived ask
/// again later than that, and may be right: a node can lose what it has taken.
pub const REPEAT_PAUSE: Duration = Duration::from_secs(10);

/// Most blocks that are remembered as answered for.
const ANSWERED_KEPT: usize = 1_024;

/// How often a block is handed over while the node does not answer or decide. Each time takes some seconds by itself.
const TRIES: u32 = 60;

/// The pause between two of these times.
const PAUSE: Duration = Duration::from_secs(2);

/// Sees to the blocks that the clients of a template provider find, in the place of the provider, which keeps nothing on disk.
pub trait BlockDesk: Send + Sync + 'static {
    /// Sends a block on its way to the node; from the end of the future on it is the desk's business. One that is on its way already is
    /// passed over.
    fn take(&self, block: Block) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The desk of a provider that has no other: hands blocks over for some minutes, and keeps them nowhere.
struct Memory {
    node: Node,
}

impl BlockDesk for Memory {
    fn take(&self, block: Block) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(submit(&self.node, block))
    }
}

/// Hands every block to the desk, several side by side, until no more can come and the last is answered for.
pub(super) async fn hand_over(
    node: Node,
    desk: Option<Arc<dyn BlockDesk>>,
    mut found: mpsc::Receiver<Block>,
) {
    let desk = desk.unwrap_or_else(|| Arc::new(Memory { node }));
    let mut known = Known::default();
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = under_way.join_next() => known.note_end(ended, Clock.monotonic()),
            block = found.recv(), if under_way.len() < BLOCKS_UNDER_WAY => match block {
                Some(block) if known.is_new(block.hash, Clock.monotonic()) => {
                    let desk = Arc::clone(&desk);
                    under_way.spawn(async move {
                        let hash = block.hash;
                        take(&*desk, block).await;
                        hash
                    });
                }
                Some(block) => tracing::debug!(hash = %block.hash, "a block that is on its way came again"),
                None => break,
            },
        }
    }
    while let Some(ended) = under_way.join_next().await {
        known.note_end(ended, Clock.monotonic());
    }
}

/// Sends a block on its way before anything else happens to it, and then looks at it.
async fn take(desk: &dyn BlockDesk, block: Block) {
    let (hash, height, look) = (block.hash, block.height.0, block.clone());
    let taking = desk.take(block);
    // Our own look takes longer than the node's.
    let (look, ()) = tokio::join!(spawn_blocking(move || look.check()), taking);
    if let Ok(Err(error)) = look {
        tracing::warn!(%hash, height, %error, "own check of the client's block failed");
    }
}

/// The blocks that came lately.
#[derive(Debug, Default)]
struct Known {
    /// When each was answered for; `None` while it is under way.
    blocks: HashMap<BlockHash, Option<Monotonic>>,
}

impl Known {
    /// Whether a block is not under way, and was not just now; then it is.
    fn is_new(&mut self, hash: BlockHash, now: Monotonic) -> bool {
        let is_recent = |at: &Option<Monotonic>| at.is_none_or(|at| now.saturating_since(at) < REPEAT_PAUSE);
        if self.blocks.get(&hash).is_some_and(is_recent) {
            return false;
        }
        if self.blocks.len() >= ANSWERED_KEPT {
            self.blocks.retain(|_, at| is_recent(at));
        }
        if self.blocks.len() >= ANSWERED_KEPT {
            self.blocks.retain(|_, at| at.is_none());
        }
        self.blocks.insert(hash, None);
        true
    }

    fn note_end(&mut self, ended: Result<BlockHash, JoinError>, now: Monotonic) {
        match ended {
            Ok(hash) => drop(self.blocks.insert(hash, Some(now))),
            Err(panic) => {
                tracing::error!(%panic, "handing over a block failed by a fault of ours");
                // Which one it was is not known, and to hand over another twice does no harm.
                self.blocks.retain(|_, at| at.is_some());
            }
        }
    }
}

/// Hands a block to the node until it has answered for it, and says what became of it.
async fn submit(node: &Node, block: Block) {
    let (hash, height) = (block.hash, block.height.0);
    tracing::info!(%hash, height, "block found");
    let mut last = String::new();
    for attempt in 1..=TRIES {
        match node.submit(&block).await {
            Submitted::Accepted | Submitted::AlreadyKnown => {
                return tracing::info!(%hash, height, "block accepted");
            }
            Submitted::Refused(reason) => return tracing::warn!(%hash, height, reason, "block refused"),
            // It may have the block or not.
            Submitted::Undecided(reason) | Submitted::Disputed { word: reason, .. } => {
                match node.fate(hash).await {
                    Fate::InChain { .. } => return tracing::info!(%hash, height, "block accepted"),
                    Fate::Stale => {
                        return tracing::info!(%hash, height, reason, "the node has the block, but not in its best chain");
                    }
                    Fate::Unknown | Fate::Unreachable(_) => {}
                }
                tracing::info!(%hash, height, attempt, reason, "the node does not decide on the block; it will be tried again");
                last = reason;
            }
            Submitted::Unreachable(reason) => {
                tracing::warn!(%hash, height, attempt, reason, "block could not be handed over; it will be tried again");
                last = reason;
            }
        }
        sleep(PAUSE).await;
    }
    tracing::error!(%hash, height, reason = last, "block given up: no node has taken it, and it is kept nowhere here");
}

#[cfg(test)]
mod tests;

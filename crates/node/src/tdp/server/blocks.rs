//! Blocks on their way from clients to the node.

use core::time::Duration;
use std::sync::Arc;

use adit_share::Block;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{Node, Submitted};

/// How often a block is handed over while the node does not answer. Each time takes some seconds by itself.
const TRIES: u32 = 60;

/// The pause between two of these times.
const PAUSE: Duration = Duration::from_secs(2);

/// Hands every block to the node, all of them side by side, until no more can come and the last is answered for.
pub(super) async fn hand_over(node: Node, mut found: mpsc::Receiver<Block>) {
    let mut submissions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            block = found.recv() => match block {
                Some(block) => {
                    submissions.spawn(submit(node.clone(), Arc::new(block)));
                }
                None => break,
            },
            Some(ended) = submissions.join_next() => note_panic(ended),
        }
    }
    while let Some(ended) = submissions.join_next().await {
        note_panic(ended);
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(panic) = ended {
        tracing::error!(%panic, "handing over a block failed by a fault of ours");
    }
}

/// Sends a block before anything else happens to it, and says what became of it.
async fn submit(node: Node, block: Arc<Block>) {
    let (hash, height) = (block.hash, block.height.0);
    tracing::info!(%hash, height, "block found");
    // The block is on its way before our own look at it, which takes longer than the node's.
    let look = tokio::task::spawn_blocking({
        let block = Arc::clone(&block);
        move || block.check()
    });
    for attempt in 1..=TRIES {
        match node.submit(&block).await {
            Submitted::Accepted | Submitted::AlreadyKnown => {
                tracing::info!(%hash, height, "block accepted");
                break;
            }
            Submitted::Undecided(reason) => {
                tracing::info!(%hash, height, reason, "block kept by the node, but not in its best chain");
                break;
            }
            Submitted::Refused(reason) => {
                tracing::warn!(%hash, height, reason, "block refused");
                break;
            }
            Submitted::Unreachable(reason) => {
                tracing::warn!(%hash, height, attempt, reason, "block could not be handed over; it will be tried again");
                sleep(PAUSE).await;
            }
        }
    }
    if let Ok(Err(error)) = look.await {
        tracing::warn!(%hash, height, %error, "own check of the client's block failed");
    }
}

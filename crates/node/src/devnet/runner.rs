//! The devnet as a node that runs: one task owns the chain, makes templates as time passes, and answers questions.

use core::time::Duration;
use std::sync::Arc;

use adit_units::{Height, Now};
use bitcoin::{BlockHash, Network, Wtxid};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::{BlockRefused, Devnet, DevnetConfig};
use crate::board::{Board, Offered};
use crate::sources::ChainEnd;
use crate::transactions::RawOrNone;
use crate::{Checked, Fate, NodeError, NodeInfo, Submitted};

/// How many questions may wait for the chain's task; those who ask wait with them.
const MAX_QUESTIONS: usize = 64;
/// The least time between two templates on the same tip.
const MIN_REFRESH: Duration = Duration::from_millis(10);
/// What to say when the task is gone.
const GONE: &str = "the devnet has been shut down";

/// A question to the chain's task.
#[derive(Debug)]
enum Question {
    Submit(Vec<u8>, oneshot::Sender<Result<Height, BlockRefused>>),
    Check(Vec<u8>, oneshot::Sender<Checked>),
    Transactions(Vec<Wtxid>, oneshot::Sender<RawOrNone>),
    Fate(BlockHash, oneshot::Sender<Fate>),
    Tip(oneshot::Sender<(Height, BlockHash)>),
}

/// The way to the chain's task.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    questions: mpsc::Sender<Question>,
}

impl Runner {
    /// The way to a task, and the task.
    pub(crate) fn new(
        config: &DevnetConfig,
        clock: impl Fn() -> Now + Send + 'static,
        board: Arc<Board>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (questions, asked) = mpsc::channel(MAX_QUESTIONS);
        let devnet = Devnet::new(config, clock());
        (Self { questions }, run(devnet, config.refresh.max(MIN_REFRESH), clock, board, asked))
    }

    pub(crate) async fn submit(&self, block: Vec<u8>) -> Submitted {
        match self.ask(|answer| Question::Submit(block, answer)).await {
            None => Submitted::Unreachable(GONE.to_owned()),
            Some(Ok(_)) => Submitted::Accepted,
            Some(Err(BlockRefused::AlreadyKnown(_))) => Submitted::AlreadyKnown,
            Some(Err(reason)) => Submitted::Refused(reason.to_string()),
        }
    }

    pub(crate) async fn fate(&self, hash: BlockHash) -> Fate {
        let fate = self.ask(|answer| Question::Fate(hash, answer)).await;
        fate.unwrap_or_else(|| Fate::Unreachable(GONE.to_owned()))
    }

    pub(crate) async fn check(&self, block: Vec<u8>) -> Checked {
        let checked = self.ask(|answer| Question::Check(block, answer)).await;
        checked.unwrap_or_else(|| Checked::Unreachable(GONE.to_owned()))
    }

    pub(crate) async fn transactions(&self, wtxids: Vec<Wtxid>) -> RawOrNone {
        self.ask(|answer| Question::Transactions(wtxids, answer)).await.unwrap_or_default()
    }

    pub(crate) async fn probe(&self) -> Result<NodeInfo, NodeError> {
        let tip = self.ask(Question::Tip).await;
        let (height, best_block) = tip.ok_or_else(|| NodeError::Gone(GONE.to_owned()))?;
        Ok(NodeInfo {
            network: Network::Regtest,
            height,
            best_block,
            initial_block_download: false,
            user_agent: concat!("/adit-devnet:", env!("CARGO_PKG_VERSION"), "/").to_owned(),
            peers: Some(0),
            trouble: None,
        })
    }

    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        let tip = self.ask(Question::Tip).await;
        let (height, hash) = tip.ok_or_else(|| NodeError::Gone(GONE.to_owned()))?;
        Ok(ChainEnd { hash, height, work: None })
    }

    /// Asks, and waits for the answer; `None` when the task is gone.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// Owns the chain until nobody can ask any more.
async fn run(
    mut devnet: Devnet,
    refresh: Duration,
    clock: impl Fn() -> Now,
    board: Arc<Board>,
    mut asked: mpsc::Receiver<Question>,
) {
    let mut ticks = interval(refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let extended = tokio::select! {
            _ = ticks.tick() => true,
            question = asked.recv() => match question {
                None => return,
                Some(question) => answer(question, &mut devnet, clock()),
            },
        };
        if extended {
            // This task alone offers, so no answer can cross with another.
            let offered = board.offer(board.tip(), devnet.template(clock()));
            debug_assert_ne!(offered, Offered::Crossed, "a devnet has one source");
            board.up();
        }
    }
}

/// Answers one question; whether the chain has a new tip. Who no longer waits for the answer does not get it.
fn answer(question: Question, devnet: &mut Devnet, now: Now) -> bool {
    match question {
        Question::Submit(block, answer) => {
            let outcome = devnet.submit_block(&block, now);
            let extended = outcome.is_ok();
            match &outcome {
                Ok(height) => info!(%height, hash = %devnet.best_block(), "devnet block"),
                Err(reason) => info!(%reason, "devnet refused a block"),
            }
            let _ = answer.send(outcome);
            extended
        }
        Question::Check(block, answer) => {
            let _ = answer.send(match devnet.check_block(&block, now) {
                Ok(()) => Checked::Valid,
                Err(reason @ (BlockRefused::UnknownParent | BlockRefused::Stale(_))) => {
                    Checked::Undecided(reason.to_string())
                }
                Err(reason) => Checked::Refused(reason.to_string()),
            });
            false
        }
        Question::Transactions(wtxids, answer) => {
            let _ = answer.send(devnet.transactions(&wtxids));
            false
        }
        Question::Fate(hash, answer) => {
            let _ = answer.send(devnet.fate(&hash));
            false
        }
        Question::Tip(answer) => {
            let _ = answer.send((devnet.height(), devnet.best_block()));
            false
        }
    }
}

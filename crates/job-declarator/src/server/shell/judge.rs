//! The way to the node: questions of all clients, a few of them under way at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_channel::DeclarationId;
use adit_net::{Clock, Draining};
use adit_node::{Checked, Node};
use adit_share::{RawTransaction, Tip};
use adit_units::Monotonic;
use bitcoin::Wtxid;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use super::{DeclaredTemplates, Gauges};
use crate::server::limits::Hold;
use crate::server::throttle::Throttle;
use crate::server::{Docket, Judgement};

/// Blocks that a node judges at once.
pub const CHECKS_AT_ONCE: usize = 4;

/// Declarations whose transactions a node looks for at once.
const LOOKUPS_AT_ONCE: usize = 4;

/// Questions of one address that may wait.
const WAITING_MAX: usize = 256;

/// Questions on their way here; whoever has another one waits.
pub(super) const QUESTIONS_MAX: usize = 256;

/// Judgements that are remembered; with more, all are forgotten.
const VERDICTS_KEPT: usize = 4_096;

/// Bytes of transactions that are remembered; with more, all are forgotten.
const TRANSACTIONS_KEPT: usize = 64 << 20;

/// Bytes of a block that count as one transaction.
const BYTES_OF_TRANSACTION: usize = 256;

/// What a connection asks.
#[derive(Debug)]
pub(super) struct Question {
    /// Its number there.
    pub(super) id: u64,
    pub(super) from: IpAddr,
    pub(super) asked: Asked,
    pub(super) reply: mpsc::Sender<Answer>,
}

impl Question {
    /// Whether the connection that asks is still there.
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// How many transactions it is about, more or less.
    fn transactions(&self) -> usize {
        match &self.asked {
            Asked::Transactions(wtxids) => wtxids.len(),
            Asked::Block { block, .. } => block.len().div_ceil(BYTES_OF_TRANSACTION),
        }
    }
}

#[derive(Debug)]
pub(super) enum Asked {
    Transactions(Vec<Wtxid>),
    /// `hold` is for the block's bytes, for as long as they are there.
    Block {
        account: [u8; 32],
        declaration: DeclarationId,
        block: Vec<u8>,
        hold: Hold,
    },
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Answer {
    Resolved { id: u64, found: Vec<Option<RawTransaction>> },
    Checked { id: u64, judgement: Judgement },
}

/// What the node has said.
enum Said {
    Transactions { found: Vec<Option<RawTransaction>> },
    Block { declaration: DeclarationId, judgement: Judgement },
}

/// A question under way, and the node's answer.
struct Done {
    id: u64,
    reply: mpsc::Sender<Answer>,
    said: Said,
}

/// Owns what is known of blocks and transactions.
pub(super) struct Judge {
    node: Node,
    declared: DeclaredTemplates,
    gauges: Arc<Gauges>,
    checks: Docket<IpAddr, Question>,
    lookups: Docket<IpAddr, Question>,
    checking: JoinSet<Done>,
    looking: JoinSet<Done>,
    throttle: Throttle,
    verdicts: HashMap<DeclarationId, Judgement>,
    /// Transactions that the node has had since the last block, so that all jobs share them. What a client has sent is not among them:
    /// nobody shall learn from us what another one mines.
    transactions: HashMap<Wtxid, RawTransaction>,
    bytes: usize,
}

impl Judge {
    pub(super) fn new(node: Node, declared: DeclaredTemplates, gauges: Arc<Gauges>) -> Self {
        Self {
            node,
            declared,
            gauges,
            checks: Docket::new(WAITING_MAX),
            lookups: Docket::new(WAITING_MAX),
            checking: JoinSet::new(),
            looking: JoinSet::new(),
            throttle: Throttle::new(processors()),
            verdicts: HashMap::new(),
            transactions: HashMap::new(),
            bytes: 0,
        }
    }

    /// Answers questions until the server ends.
    pub(super) async fn run(mut self, mut questions: mpsc::Receiver<Question>, mut draining: Draining) {
        let mut tips = self.node.tips();
        self.note_tip(&mut tips);
        loop {
            self.begin_some();
            self.gauges.waiting.store(self.checks.len() + self.lookups.len(), Relaxed);
            let next = self.next();
            tokio::select! {
                biased;
                () = draining.begun() => return,
                Ok(()) = tips.changed() => self.note_tip(&mut tips),
                Some(done) = self.checking.join_next() => self.finish(done),
                Some(done) = self.looking.join_next() => self.finish(done),
                Some(question) = questions.recv() => self.take(question),
                () = due(next) => {}
            }
        }
    }

    /// Forgets what held for another tip.
    fn note_tip(&mut self, tips: &mut watch::Receiver<Option<Tip>>) {
        let tip = *tips.borrow_and_update();
        if let Some(tip) = tip {
            self.declared.set_tip(&tip);
        }
        self.verdicts.clear();
        self.transactions.clear();
        self.bytes = 0;
    }

    fn take(&mut self, question: Question) {
        let pushed = match &question.asked {
            Asked::Transactions(_) => self.lookups.push(question.from, None, question),
            Asked::Block { account, .. } => {
                let account = *account;
                self.checks.push(question.from, Some(account), question)
            }
        };
        if let Err(Question { id, asked, reply, .. }) = pushed {
            let answer = match asked {
                Asked::Transactions(wtxids) => Answer::Resolved { id, found: vec![None; wtxids.len()] },
                Asked::Block { .. } => {
                    let reason = format!("{WAITING_MAX} declarations from this address wait already");
                    Answer::Checked { id, judgement: Judgement::Unknown(reason) }
                }
            };
            tell(&reply, answer);
        }
    }

    /// When there is something to begin that nothing else holds up.
    fn next(&self) -> Option<Monotonic> {
        let lookup = self.lookups.next().filter(|_| self.looking.len() < LOOKUPS_AT_ONCE);
        let check = self.checks.next().filter(|_| self.checking.len() < CHECKS_AT_ONCE);
        let first = lookup.into_iter().chain(check).min()?;
        Some(first.max(self.throttle.next()))
    }

    /// Begins what may be begun. Blocks come first, since their transactions have been paid for.
    fn begin_some(&mut self) {
        loop {
            let now = Clock.monotonic();
            if now < self.throttle.next() {
                return;
            }
            let check = (self.checking.len() < CHECKS_AT_ONCE)
                .then(|| self.checks.pop(now, Question::is_wanted))
                .flatten();
            let question = check.or_else(|| {
                let may = self.looking.len() < LOOKUPS_AT_ONCE;
                may.then(|| self.lookups.pop(now, Question::is_wanted)).flatten()
            });
            let Some(question) = question else { return };
            self.throttle.begin(question.transactions(), now);
            self.begin(question);
        }
    }

    /// Answers a question from what is known, or asks the node.
    fn begin(&mut self, question: Question) {
        let Question { id, asked, reply, .. } = question;
        let node = self.node.clone();
        match asked {
            Asked::Transactions(wtxids) => {
                let found: Vec<_> =
                    wtxids.iter().map(|wtxid| self.transactions.get(wtxid).cloned()).collect();
                if found.iter().all(Option::is_some) {
                    return tell(&reply, Answer::Resolved { id, found });
                }
                self.looking.spawn(async move {
                    let found = resolve(&node, &wtxids, found).await;
                    Done { id, reply, said: Said::Transactions { found } }
                });
            }
            Asked::Block { declaration, block, hold, .. } => {
                if let Some(judgement) = self.verdicts.get(&declaration) {
                    let judgement = judgement.clone();
                    return tell(&reply, Answer::Checked { id, judgement });
                }
                self.checking.spawn(async move {
                    let judgement = judgement(node.check_block(&block).await);
                    drop((block, hold));
                    Done { id, reply, said: Said::Block { declaration, judgement } }
                });
            }
        }
    }

    /// Remembers what the node has said, and tells whoever asked.
    fn finish(&mut self, done: Result<Done, JoinError>) {
        let Done { id, reply, said } = match done {
            Ok(done) => done,
            Err(panic) => return tracing::error!(%panic, "asking the node failed by a fault of ours"),
        };
        match said {
            Said::Transactions { found } => {
                found.iter().flatten().for_each(|transaction| self.remember(transaction));
                tell(&reply, Answer::Resolved { id, found });
            }
            Said::Block { declaration, judgement } => {
                if self.verdicts.len() >= VERDICTS_KEPT {
                    self.verdicts.clear();
                }
                if matches!(judgement, Judgement::Valid | Judgement::Refused(_)) {
                    self.verdicts.insert(declaration, judgement.clone());
                }
                tell(&reply, Answer::Checked { id, judgement });
            }
        }
    }

    fn remember(&mut self, transaction: &RawTransaction) {
        if self.transactions.contains_key(&transaction.wtxid()) {
            return;
        }
        if self.bytes > TRANSACTIONS_KEPT {
            self.transactions.clear();
            self.bytes = 0;
        }
        self.bytes += transaction.as_bytes().len();
        self.transactions.insert(transaction.wtxid(), transaction.clone());
    }
}

/// How many processors there are for this program.
fn processors() -> u32 {
    std::thread::available_parallelism().ok().and_then(|count| count.get().try_into().ok()).unwrap_or(1)
}

/// Asks the node for the transactions that were not found.
async fn resolve(
    node: &Node,
    wtxids: &[Wtxid],
    mut found: Vec<Option<RawTransaction>>,
) -> Vec<Option<RawTransaction>> {
    let missing: Vec<Wtxid> =
        wtxids.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(wtxid, _)| *wtxid).collect();
    let mut told = node.transactions(&missing).await.into_iter();
    for slot in found.iter_mut().filter(|slot| slot.is_none()) {
        *slot = told.next().flatten();
    }
    found
}

fn judgement(checked: Checked) -> Judgement {
    match checked {
        Checked::Valid => Judgement::Valid,
        Checked::Refused(reason) => Judgement::Refused(reason),
        Checked::Undecided(reason) => Judgement::OffTip(reason),
        Checked::Unreachable(reason) => Judgement::Unknown(reason),
    }
}

/// Tells a connection, which has asked one question and waits for nothing else.
fn tell(reply: &mpsc::Sender<Answer>, answer: Answer) {
    // It may have ended.
    drop(reply.try_send(answer));
}

/// Waits until then; for ever if there is no such moment.
async fn due(moment: Option<Monotonic>) {
    match moment {
        Some(moment) => sleep_until(Clock.instant(moment)).await,
        None => core::future::pending().await,
    }
}

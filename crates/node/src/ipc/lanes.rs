//! The ways in which those who hold the handle reach the thread that speaks to the node: bounded, and answered even without a node.

use std::sync::Arc;

use bitcoin::{BlockHash, Wtxid};
use tokio::sync::{mpsc, oneshot};

use super::held::Found;
use crate::sources::ChainEnd;
use crate::transactions::RawOrNone;
use crate::{Checked, Fate, NodeError, NodeInfo, Submitted};

/// How many calls of a kind may wait for the node; those who make more wait with them.
const WAITING_MAX: usize = 16;

/// Takes the answer to a call.
pub(super) type Reply<T> = oneshot::Sender<Result<T, NodeError>>;

/// A block on its way to the node.
pub(super) struct Delivery {
    /// Consensus-serialised.
    pub(super) bytes: Arc<[u8]>,
    /// Its parts, when it was made of a template of ours.
    pub(super) found: Option<Found>,
    pub(super) reply: Reply<Submitted>,
}

/// A block whose fate is asked for. What becomes of our blocks must not wait for what others ask.
pub(super) struct FateOf(pub(super) BlockHash, pub(super) Reply<Fate>);

/// What may take the node a while.
pub(super) enum Question {
    Check(Arc<[u8]>, Reply<Checked>),
    Transactions(Arc<[Wtxid]>, Reply<RawOrNone>),
    Probe(Reply<NodeInfo>),
}

/// The ends that calls go into. Each kind has its own, so that none waits for another.
#[derive(Debug)]
pub(super) struct Entrances {
    pub(super) pulses: mpsc::Sender<Reply<ChainEnd>>,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) fates: mpsc::Sender<FateOf>,
    pub(super) questions: mpsc::Sender<Question>,
    /// Tells by its end that nobody will call any more.
    _open: oneshot::Sender<()>,
}

/// The ends that they come out of.
pub(super) struct Lanes {
    pub(super) pulses: mpsc::Receiver<Reply<ChainEnd>>,
    pub(super) deliveries: mpsc::Receiver<Delivery>,
    pub(super) fates: mpsc::Receiver<FateOf>,
    pub(super) questions: mpsc::Receiver<Question>,
    /// Comes when nobody will call any more.
    pub(super) closed: oneshot::Receiver<()>,
}

/// Makes both.
pub(super) fn lanes() -> (Entrances, Lanes) {
    let (pulses, pulsing) = mpsc::channel(WAITING_MAX);
    let (deliveries, delivered) = mpsc::channel(WAITING_MAX);
    let (fates, fated) = mpsc::channel(WAITING_MAX);
    let (questions, questioned) = mpsc::channel(WAITING_MAX);
    let (open, closed) = oneshot::channel();
    let lanes = Lanes { pulses: pulsing, deliveries: delivered, fates: fated, questions: questioned, closed };
    (Entrances { pulses, deliveries, fates, questions, _open: open }, lanes)
}

impl Lanes {
    /// Answers every call with the `reason` why it cannot be made, until nobody calls any more.
    pub(super) async fn refuse(&mut self, reason: &Arc<NodeError>) {
        loop {
            tokio::select! {
                biased;
                _ = &mut self.closed => return,
                Some(reply) = self.pulses.recv() => refuse(reply, reason),
                Some(Delivery { reply, .. }) = self.deliveries.recv() => refuse(reply, reason),
                Some(FateOf(_, reply)) = self.fates.recv() => refuse(reply, reason),
                Some(question) = self.questions.recv() => match question {
                    Question::Check(_, reply) => refuse(reply, reason),
                    Question::Transactions(_, reply) => refuse(reply, reason),
                    Question::Probe(reply) => refuse(reply, reason),
                },
            }
        }
    }
}

/// Answers with the reason; who no longer waits does not get it.
pub(super) fn refuse<T>(reply: Reply<T>, reason: &Arc<NodeError>) {
    let _ = reply.send(Err(NodeError::Told(Arc::clone(reason))));
}

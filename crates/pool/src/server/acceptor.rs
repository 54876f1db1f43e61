//! The front door: waits for work, lets peers in, and at the end sees them out.

use core::time::Duration;
use std::sync::Arc;

use adit_ledger::ShareSink;
use adit_net::{Bound, Clock, Draining, Limits, Listener};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout_at;

use super::peer;
use super::{DRAIN_PATIENCE, Failure, Hall, fail};

/// How much later than its deadlines a connection may end at shutdown before it is cut off.
const SLACK: Duration = Duration::from_secs(1);

/// Serves peers until the server drains, and returns how many connections had to be cut off then.
pub(super) async fn run<L: ShareSink>(
    bound: Bound,
    limits: Limits,
    hall: Arc<Hall<L>>,
    mut draining: Draining,
) -> usize {
    let mut peers = JoinSet::new();
    if let Some(listener) = open(bound, limits, &hall, &mut draining).await {
        accept(listener, &hall, &mut draining, &mut peers).await;
    }
    // After a failure those who are connected may stay: a block of theirs still counts.
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => break,
            Some(ended) = peers.join_next() => note_panic(ended),
        }
    }
    see_out(peers).await
}

/// Begins to listen once there is work; `None` if the server ends before.
async fn open<L>(bound: Bound, limits: Limits, hall: &Hall<L>, draining: &mut Draining) -> Option<Listener> {
    let mut board = hall.board.clone();
    tokio::select! {
        biased;
        () = draining.begun() => return None,
        work = board.wait_for(Option::is_some) => work.is_ok().then_some(())?,
    }
    let listener = bound.listen(limits);
    match &listener {
        Ok(listener) => tracing::info!(address = %listener.address(), "listening for miners"),
        Err(error) => fail(&hall.failure, Failure::Listen(error.to_string())),
    }
    listener.ok()
}

async fn accept<L: ShareSink>(
    mut listener: Listener,
    hall: &Arc<Hall<L>>,
    draining: &mut Draining,
    peers: &mut JoinSet<()>,
) {
    let mut failure = hall.failure.subscribe();
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => return,
            _ = failure.wait_for(Option::is_some) => return,
            Some(ended) = peers.join_next() => note_panic(ended),
            accepted = listener.accept() => {
                peers.spawn(peer::serve(accepted, Arc::clone(hall), draining.clone()));
            }
        }
    }
}

/// Waits for the last peers, but not for ever.
async fn see_out(mut peers: JoinSet<()>) -> usize {
    // Peers keep these deadlines themselves; the slack is for what may delay them all.
    let deadline = Clock.instant(Clock.monotonic() + DRAIN_PATIENCE + peer::CLOSE_PATIENCE + SLACK);
    while let Ok(Some(ended)) = timeout_at(deadline, peers.join_next()).await {
        note_panic(ended);
    }
    let cut_off = peers.len();
    if cut_off > 0 {
        tracing::warn!(connections = cut_off, "connections cut off");
    }
    peers.shutdown().await;
    cut_off
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(panic) = ended {
        tracing::error!(%panic, "connection failed by a fault of ours");
    }
}

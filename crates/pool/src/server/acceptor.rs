//! The front door: waits for work, lets peers in while templates come, and at the end sees them out.

use core::future::pending;
use core::time::Duration;
use std::sync::Arc;

use adit_ledger::ShareSink;
use adit_net::{Admission, BindError, Bound, Clock, Draining, Listener, Shutdown, note_panic};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use super::outage::Supply;
use super::peer;
use super::{DRAIN_PATIENCE, Failure, Hall, fail};

/// How much later than its deadlines a connection may end at shutdown before it is cut off.
const SLACK: Duration = Duration::from_secs(1);

/// How long those who connect to a socket that a supervisor keeps open wait for the first work before they are turned away: longer
/// than a restart takes, and shorter than a miner's patience.
pub const RESTART_PATIENCE: Duration = Duration::from_secs(10);

/// Serves peers until the server drains, and returns how many connections had to be cut off then.
pub(super) async fn run<L: ShareSink>(
    bound: Bound,
    admission: Admission,
    hall: Arc<Hall<L>>,
    supply: watch::Receiver<Supply>,
    mut draining: Draining,
) -> usize {
    let (ending, _) = Shutdown::new();
    let mut door = Door { hall, admission, supply, peers: JoinSet::new(), ending };
    tokio::select! {
        biased;
        () = draining.begun() => {}
        () = door.serve(bound) => {}
    }
    door.ending.begin();
    see_out(door.peers).await
}

/// Who is let in, and who is inside.
struct Door<L> {
    hall: Arc<Hall<L>>,
    admission: Admission,
    supply: watch::Receiver<Supply>,
    peers: JoinSet<()>,
    /// Sends the peers inside away.
    ending: Shutdown,
}

impl<L: ShareSink> Door<L> {
    /// Lets peers in whenever there is work for them; never returns.
    async fn serve(&mut self, bound: Bound) {
        if let Err(error) = self.open_and_close(bound).await {
            fail(&self.hall.failure, Failure::Listen(error.to_string()));
        }
        // After a failure those who are connected may stay: a block of theirs still counts.
        loop {
            self.next_end().await;
        }
    }

    /// Listens and stops listening as templates come and stay away; returns after a failure.
    async fn open_and_close(&mut self, mut bound: Bound) -> Result<(), BindError> {
        self.first_work(&bound).await;
        loop {
            self.supplied(&bound).await;
            if self.ending.has_begun() {
                (self.ending, _) = Shutdown::new();
            }
            let mut listener = bound.listen_with(self.admission.clone())?;
            tracing::info!(address = %listener.address(), "listening for miners");
            if self.accept(&mut listener).await == Closed::Failure {
                return Ok(());
            }
            tracing::warn!("no templates: letting no more miners in, so that they turn to their next pool");
            bound = listener.close()?;
        }
    }

    /// Waits until there is work; after a while nobody waits with us.
    async fn first_work(&self, bound: &Bound) {
        let mut board = self.hall.board.watch();
        let late = async {
            sleep(RESTART_PATIENCE).await;
            bound.turn_away().await
        };
        tokio::select! {
            // An error says that the board has gone, and that no work ever comes.
            Ok(_) = board.wait_for(Option::is_some) => {}
            never = late => match never {},
        }
    }

    /// Waits until templates come, and sends the peers away if that takes too long.
    async fn supplied(&mut self, bound: &Bound) {
        loop {
            let supply = *self.supply.borrow_and_update();
            match supply {
                Supply::Steady => return,
                Supply::Closed => {}
                Supply::Cleared => self.clear(),
            }
            tokio::select! {
                Ok(()) = self.supply.changed() => {}
                Some(ended) = self.peers.join_next() => note_panic(ended),
                never = bound.turn_away() => match never {},
            }
        }
    }

    fn clear(&self) {
        if !self.ending.has_begun() && !self.peers.is_empty() {
            let connections = self.peers.len();
            tracing::error!(connections, "no templates for minutes: sending all miners to their next pool");
        }
        self.ending.begin();
    }

    /// Lets peers in until templates stay away or the server fails.
    async fn accept(&mut self, listener: &mut Listener) -> Closed {
        let mut failure = self.hall.failure.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = failure.wait_for(Option::is_some) => return Closed::Failure,
                Ok(_) = self.supply.wait_for(|&supply| supply != Supply::Steady) => return Closed::NoTemplates,
                Some(ended) = self.peers.join_next() => note_panic(ended),
                accepted = listener.accept() => {
                    self.peers.spawn(peer::serve(accepted, Arc::clone(&self.hall), self.ending.draining()));
                }
            }
        }
    }

    /// Waits until a peer has ended.
    async fn next_end(&mut self) {
        match self.peers.join_next().await {
            Some(ended) => note_panic(ended),
            None => pending().await,
        }
    }
}

/// Why nobody is let in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    NoTemplates,
    Failure,
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

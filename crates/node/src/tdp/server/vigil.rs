//! Whether the node behind the template provider lives: its signs of life for clients, and the end of their sessions without it.

use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{Health, Node, NodeError};

/// How long the node may give no templates before clients are sent away: a connection that broke once is back by then. Clients that ask
/// for signs of life get none meanwhile, and have left by themselves.
pub(super) const DOWN_PATIENCE: Duration = Duration::from_secs(3);

/// How long the node may leave a question unanswered before clients are sent away; as long as the slowest that is believed to live.
pub(super) const HANG_PATIENCE: Duration = Duration::from_secs(15);

/// How often the node is asked when no client wants to know.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// The least time between two questions, however many clients want to know.
const PAUSE: Duration = Duration::from_millis(100);

/// The least time between two questions while the node gives no sign of life.
const RETRY: Duration = Duration::from_millis(500);

/// What clients see of the vigil.
#[derive(Clone, Debug)]
pub(super) struct Vigil {
    asked: Arc<Notify>,
    /// Counts the node's signs of life.
    beats: watch::Receiver<u64>,
    trouble: watch::Receiver<Trouble>,
}

/// What a client must know of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has given a sign of life.
    Pulse,
    /// It is away or hangs, so nobody is to be served.
    NodeAway,
}

/// What is wrong with the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trouble {
    is_down: bool,
    hangs: bool,
}

impl Trouble {
    const fn is_any(self) -> bool {
        self.is_down || self.hangs
    }
}

impl Vigil {
    /// A vigil over the node, and the task that keeps it until nobody looks any more.
    pub(super) fn new(node: Node) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let asked = Arc::new(Notify::new());
        let (beat, beats) = watch::channel(0);
        let (tell, trouble) = watch::channel(Trouble::default());
        let vigil = Self { asked: Arc::clone(&asked), beats, trouble };
        let keeping = async move {
            tokio::select! {
                () = feel_pulse(&node, &asked, &beat, &tell) => {}
                () = follow_health(&node, &tell) => {}
                () = beat.closed() => {}
            }
        };
        (vigil, keeping)
    }

    /// Asks the node for a sign of life, which [`Self::news`] then waits for.
    pub(super) fn ask(&mut self) {
        self.beats.mark_unchanged();
        self.asked.notify_one();
    }

    /// Waits for what a client must know; for a sign of life later than the last [`Self::ask`] where it `awaits_pulse`. Cancel safe.
    pub(super) async fn news(&mut self, awaits_pulse: bool) -> News {
        tokio::select! {
            biased;
            true = is_in_trouble(&mut self.trouble) => News::NodeAway,
            Ok(()) = self.beats.changed(), if awaits_pulse => News::Pulse,
            // The vigil is over, as at the end of the server.
            else => core::future::pending().await,
        }
    }

    /// Whether nobody is to be served.
    pub(super) fn is_closed(&self) -> bool {
        self.trouble.borrow().is_any()
    }
}

/// Waits for trouble; false if there will never be any.
async fn is_in_trouble(trouble: &mut watch::Receiver<Trouble>) -> bool {
    trouble.wait_for(|trouble| trouble.is_any()).await.is_ok()
}

/// Whether the node gives no templates. That it knows of a block before it has a template on it is nothing.
fn is_down(health: &Health) -> bool {
    matches!(health, Health::Down(error) if !matches!(**error, NodeError::Behind))
}

/// Follows what the node says of itself.
async fn follow_health(node: &Node, tell: &watch::Sender<Trouble>) {
    let mut health = node.health();
    loop {
        if health.wait_for(is_down).await.is_err() {
            return;
        }
        if timeout(DOWN_PATIENCE, health.wait_for(|health| !is_down(health))).await.is_ok() {
            continue;
        }
        note(tell, |trouble| trouble.is_down = true);
        if health.wait_for(|health| !is_down(health)).await.is_err() {
            return;
        }
        note(tell, |trouble| trouble.is_down = false);
    }
}

/// Asks the node for its last block as often as clients want to know whether it lives, and now and then in any case.
async fn feel_pulse(node: &Node, asked: &Notify, beat: &watch::Sender<u64>, tell: &watch::Sender<Trouble>) {
    let mut pause = PAUSE;
    loop {
        if pause == PAUSE {
            // Whether somebody wants to know or it is time makes no difference.
            let _ = timeout(IDLE_INTERVAL, asked.notified()).await;
        }
        let mut asking = pin!(node.chain_end());
        let answered = match timeout(HANG_PATIENCE, &mut asking).await {
            Ok(answered) => answered,
            Err(_) => {
                note(tell, |trouble| trouble.hangs = true);
                asking.await
            }
        };
        let lives = match answered {
            Ok(_) => {
                note(tell, |trouble| trouble.hangs = false);
                !is_down(&node.health().borrow())
            }
            Err(error) => {
                debug!(%error, "the node gives no sign of life");
                false
            }
        };
        if lives {
            beat.send_modify(|count| *count = count.wrapping_add(1));
        }
        // Clients that have asked still wait.
        pause = if lives { PAUSE } else { RETRY };
        sleep(pause).await;
    }
}

fn note(tell: &watch::Sender<Trouble>, change: impl Fn(&mut Trouble)) {
    tell.send_if_modified(|trouble| {
        let before = *trouble;
        change(trouble);
        match (before.is_any(), trouble.is_any()) {
            (false, true) => warn!("the node is away or hangs; clients are sent away until it is back"),
            (true, false) => info!("the node is back; clients are let in again"),
            (true, true) | (false, false) => {}
        }
        before != *trouble
    });
}

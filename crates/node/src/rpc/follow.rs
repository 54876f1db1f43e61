//! Keeps the board up to date with a node: long polling, a look at the tip every second beside it, and patience with trouble.
//!
//! Three loops run side by side. One looks at the tip, refreshes the template and says how the node is; whatever fails, it begins anew
//! after a pause. Another holds the long poll, which is why a new template usually needs no look. They share no fate: a node keeps a
//! thread busy for each long poll until it has news, even when we have hung up, so a long poll is only given up when its own
//! connection breaks. The third listens where the node tells of new blocks (ZeroMQ), and then has the first look at once: a tip is
//! known long before there is a template on it.

use core::time::Duration;
use std::sync::Arc;

use bitcoin::Network;
use tokio::sync::{Notify, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::debug;

use super::{Client, NodeError};
use crate::board::{Board, Offered};
use crate::zmq::{Subscription, ZmqError};

/// The least time between two long polls, so that a node that answers them at once is not flooded.
const LONG_POLL_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two questions where the node tells of new blocks.
const NO_PUBLISHER_PAUSE: Duration = Duration::from_secs(60);

/// Why new blocks are not heard of.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Publisher(#[from] ZmqError),
}

/// Follows the node for ever.
pub(crate) async fn follow(client: Arc<Client>, board: Arc<Board>) {
    let follower = Follower { client, board, last: watch::Sender::new(None), news: Notify::new() };
    tokio::select! {
        () = follower.keep_watching() => {}
        () = follower.keep_long_polling() => {}
        () = follower.keep_listening() => {}
    }
}

/// A template that the node gave, as far as the next question depends on it.
#[derive(Clone, Debug)]
struct Last {
    network: Network,
    /// What to long poll with; `None` when the node cannot.
    long_poll_id: Option<String>,
}

struct Follower {
    client: Arc<Client>,
    board: Arc<Board>,
    /// Set anew with each template that was asked for without waiting.
    last: watch::Sender<Option<Last>>,
    /// The node has told of a block.
    news: Notify,
}

impl Follower {
    /// Watches the tip, and says how the node is.
    async fn keep_watching(&self) {
        let timing = &self.client.config().timing;
        let mut pause = timing.first_retry;
        loop {
            match self.begin().await {
                Err(error) => self.board.down(error),
                Ok(network) => {
                    // Whoever has just given a template is asked again soon.
                    pause = timing.first_retry;
                    self.board.down(self.watch_tip(network).await);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(timing.max_retry);
        }
    }

    /// Makes sure that it is the right node, for another one may have been started in its place, and gets a first template.
    async fn begin(&self) -> Result<Network, NodeError> {
        let network = self.client.network().await?;
        // A node may allow some calls and not others; what will be asked all the time is tried before it counts as up. And a node that
        // gives no template may well tell of new blocks, on which miners then have the empty job.
        self.look_at_tip(network).await?;
        self.refresh(network).await?;
        Ok(network)
    }

    /// Gets a template and puts it up.
    async fn refresh(&self, network: Network) -> Result<(), NodeError> {
        loop {
            let asked_at = self.board.tip();
            let answer = self.client.template(network, None).await?;
            match self.board.offer(asked_at, answer.template) {
                Offered::Published | Offered::Unchanged => {
                    self.board.up();
                    self.last.send_replace(Some(Last { network, long_poll_id: answer.long_poll_id }));
                    return Ok(());
                }
                // The other loop has put up a new tip meanwhile; the next answer is newer than that.
                Offered::Crossed => {}
            }
        }
    }

    /// Looks at the tip and refreshes the template, both at their intervals; ends with what fails.
    async fn watch_tip(&self, network: Network) -> NodeError {
        let timing = &self.client.config().timing;
        let (mut tip, mut refresh) = (every(timing.tip_poll).await, every(timing.refresh).await);
        loop {
            let due = tokio::select! {
                _ = refresh.tick() => Ok(true),
                _ = tip.tick() => self.look_at_tip(network).await,
                () = self.news.notified() => self.look_at_tip(network).await,
            };
            match due {
                Ok(false) => {}
                Ok(true) => match self.refresh(network).await {
                    Ok(()) => refresh.reset(),
                    Err(error) => return error,
                },
                Err(error) => return error,
            }
        }
    }

    /// Whether there is a tip that no template stands on, which is told at once: making a template may take the node a while.
    async fn look_at_tip(&self, network: Network) -> Result<bool, NodeError> {
        let asked_at = self.board.tip();
        let best = self.client.best_block_hash().await?;
        if self.board.template_tip() == Some(best) {
            return Ok(false);
        }
        if asked_at.is_some_and(|known| known != best) {
            match self.client.tip_on(best, network).await {
                Ok(Some(tip)) => drop(self.board.announce(asked_at, tip)),
                Ok(None) => {}
                // The template says the same and more.
                Err(error) => debug!(%error, "the new tip cannot be told ahead of its template"),
            }
        }
        Ok(true)
    }

    /// Holds a long poll whenever there is something to poll with; after trouble, from the next refresh on.
    async fn keep_long_polling(&self) {
        let mut last = self.last.subscribe();
        while last.changed().await.is_ok() {
            let Some(Last { network, long_poll_id }) = last.borrow_and_update().clone() else { continue };
            if let Err(error) = self.long_poll(network, long_poll_id).await {
                // The other loop meets the same trouble if it is more than a broken connection.
                debug!(%error, "the long poll ended");
            }
        }
    }

    /// Listens where the node tells of new blocks, whenever it says where; whatever fails, it is asked again after a pause. Nothing but
    /// speed depends on this.
    async fn keep_listening(&self) {
        let mut pause = self.client.config().timing.first_retry;
        loop {
            match self.listen(&mut pause).await {
                // Without a node that publishes there is little to hope for; it may be started with that one day.
                Ok(()) => sleep(NO_PUBLISHER_PAUSE).await,
                Err(error) => {
                    debug!(source = self.board.source(), %error, "new blocks are not heard of over ZeroMQ");
                    sleep(pause).await;
                    pause = (pause * 2).min(NO_PUBLISHER_PAUSE);
                }
            }
        }
    }

    /// Hears of new blocks until that fails; ends at once where the node tells nobody.
    async fn listen(&self, pause: &mut Duration) -> Result<(), Unheard> {
        let Some(address) = self.client.zmq_address().await? else { return Ok(()) };
        let mut subscription = Subscription::open(&address).await?;
        debug!(source = self.board.source(), %address, "new blocks are heard of over ZeroMQ");
        *pause = self.client.config().timing.first_retry;
        loop {
            let hash = subscription.next().await?;
            if self.board.tip() != Some(hash) {
                self.news.notify_one();
            }
        }
    }

    /// Asks for what is new, again and again, while the node tells what to ask with.
    async fn long_poll(&self, network: Network, mut id: Option<String>) -> Result<(), NodeError> {
        while let Some(known) = id {
            let asked_at = self.board.tip();
            let answer = self.client.template(network, Some(&known)).await?;
            id = answer.long_poll_id;
            // The answer was asked for long ago; when the tip on the board has changed since, a fresh one settles the order.
            if self.board.offer(asked_at, answer.template) == Offered::Crossed {
                self.refresh(network).await?;
            }
            sleep(LONG_POLL_PAUSE).await;
        }
        Ok(())
    }
}

/// Ticks after each `period`, which the node's answers may stretch.
async fn every(period: Duration) -> Interval {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    ticks.tick().await;
    ticks
}

//! Keeps the board up to date with a node: long polling, a look at the tip every second beside it, and patience with trouble.

use core::time::Duration;
use std::sync::Arc;

use bitcoin::Network;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::{Client, NodeError};
use crate::board::{Board, Offered};

/// The least time between two long polls, so that a node that answers them at once is not flooded.
const LONG_POLL_PAUSE: Duration = Duration::from_millis(100);

/// Follows the node for ever.
pub(crate) async fn follow(client: Arc<Client>, board: Arc<Board>) {
    let timing = client.config().timing;
    let mut pause = timing.first_retry;
    loop {
        let mut session = Session { client: &client, board: &board, network: None };
        let error = session.run().await;
        board.down(error);
        // Whoever once gave a template is asked again soon.
        if session.network.is_some() {
            pause = timing.first_retry;
        }
        sleep(pause).await;
        pause = (pause * 2).min(timing.max_retry);
    }
}

/// The time from a first good template to the next trouble.
struct Session<'a> {
    client: &'a Client,
    board: &'a Board,
    /// Known once the first good template has come.
    network: Option<Network>,
}

impl Session<'_> {
    /// Works until something fails.
    async fn run(&mut self) -> NodeError {
        let (network, long_poll_id) = match self.begin().await {
            Ok(begun) => begun,
            Err(error) => return error,
        };
        self.network = Some(network);
        tokio::select! {
            error = self.watch_tip(network) => error,
            error = self.long_poll(network, long_poll_id) => error,
        }
    }

    /// Makes sure that it is the right node, for another one may have been started in its place, and gets a first template.
    async fn begin(&self) -> Result<(Network, Option<String>), NodeError> {
        let network = self.client.network().await?;
        let long_poll_id = self.refresh(network).await?;
        Ok((network, long_poll_id))
    }

    /// Gets a template and puts it up; gives what to long poll with.
    async fn refresh(&self, network: Network) -> Result<Option<String>, NodeError> {
        loop {
            let asked_at = self.board.tip();
            let answer = self.client.template(network, None).await?;
            match self.board.offer(asked_at, answer.template) {
                Offered::Published | Offered::Unchanged => {
                    self.board.up();
                    return Ok(answer.long_poll_id);
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
                _ = tip.tick() => self.client.best_block_hash().await.map(|best| self.board.tip() != Some(best)),
            };
            match due {
                Ok(false) => {}
                Ok(true) => match self.refresh(network).await {
                    Ok(_) => refresh.reset(),
                    Err(error) => return error,
                },
                Err(error) => return error,
            }
        }
    }

    /// Asks for what is new, again and again; ends with what fails, and never with a node that cannot long poll.
    async fn long_poll(&self, network: Network, mut id: Option<String>) -> NodeError {
        while let Some(known) = id {
            let asked_at = self.board.tip();
            let answer = match self.client.template(network, Some(&known)).await {
                Ok(answer) => answer,
                Err(error) => return error,
            };
            id = answer.long_poll_id;
            // The answer was asked for long ago; when the tip on the board has changed since, a fresh one settles the order.
            if self.board.offer(asked_at, answer.template) == Offered::Crossed
                && let Err(error) = self.refresh(network).await
            {
                return error;
            }
            sleep(LONG_POLL_PAUSE).await;
        }
        std::future::pending().await
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

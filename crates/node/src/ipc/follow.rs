//! Keeps a connection to the node, and makes it anew whenever it breaks.

use std::sync::Arc;

use tokio::time::sleep;
use tracing::debug;

use super::config::IpcConfig;
use super::lanes::Lanes;
use super::session::{Ended, Memory, Session};
use crate::NodeError;
use crate::board::Board;

/// Follows the node until nobody needs it.
pub(super) async fn follow(config: &IpcConfig, board: &Board, mut lanes: Lanes) {
    let memory = Memory::default();
    let timing = &config.timing;
    let mut pause = timing.first_retry;
    // Why calls cannot be made; while it is not known, they wait.
    let mut reason: Option<Arc<NodeError>> = None;
    loop {
        let opened = tokio::select! {
            biased;
            () = wait_or_refuse(&mut lanes, reason.as_ref()) => return,
            opened = Session::open(config, board, &memory) => opened,
        };
        let error = match opened {
            Err(error) => Arc::new(error),
            Ok((session, lost)) => {
                debug!(node = config.url(), "connected");
                let ended = session.run(lost, &mut lanes).await;
                if session.served() {
                    pause = timing.first_retry;
                }
                match ended {
                    Ended::Closed => return,
                    Ended::Failed(error) => error,
                }
            }
        };
        board.down(NodeError::Told(Arc::clone(&error)));
        tokio::select! {
            biased;
            () = lanes.refuse(&error) => return,
            () = sleep(pause) => {}
        }
        reason = Some(error);
        pause = (pause * 2).min(timing.max_retry);
    }
}

/// Ends when nobody needs the node any more. Calls are answered with the reason why they cannot be made; while it is not known, they wait.
async fn wait_or_refuse(lanes: &mut Lanes, reason: Option<&Arc<NodeError>>) {
    match reason {
        Some(reason) => lanes.refuse(reason).await,
        // It says so by ending, with nothing sent.
        None => drop((&mut lanes.closed).await),
    }
}

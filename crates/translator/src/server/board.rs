//! What machines see of the upstreams: the newest job, and where shares go.

use std::sync::Arc;

use adit_channel::LinkId;
use adit_net::Bulletin;
use adit_units::{Hashrate, Monotonic};
use tokio::sync::mpsc;

use super::departure::Departure;
use crate::job::Sv1Job;
use crate::machine::Share;

/// A share on its way up.
#[derive(Debug)]
pub(super) struct Up {
    /// Whose it is.
    pub(super) machine: u64,
    pub(super) share: Share,
}

/// A connection that takes shares.
#[derive(Clone, Debug)]
pub(super) struct Uplink {
    pub(super) link: LinkId,
    pub(super) shares: mpsc::Sender<Up>,
    /// Blocks go past all that waits.
    pub(super) blocks: mpsc::Sender<Up>,
    /// When shares go up that were left to gather.
    pub(super) departure: Arc<Departure>,
}

impl Uplink {
    /// Sends a share up; whether there was room for it. A block has two ways to go.
    pub(super) fn send(&self, up: Up, now: Monotonic) -> bool {
        if !up.share.is_block {
            return self.send_share(up, now);
        }
        match self.blocks.try_send(up) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(up) | mpsc::error::TrySendError::Closed(up)) => {
                self.send_share(up, now)
            }
        }
    }

    fn send_share(&self, up: Up, now: Monotonic) -> bool {
        let is_sent = self.shares.try_send(up).is_ok();
        self.departure.handle_share(now);
        is_sent
    }
}

/// What a machine works on.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) job: Option<Arc<Sv1Job>>,
    /// Connections that are up; the shares of a job go to the one that it came from.
    pub(super) uplinks: Arc<[Uplink]>,
}

impl Default for Board {
    fn default() -> Self {
        Self { job: None, uplinks: Arc::new([]) }
    }
}

impl Board {
    /// Where the shares of that connection's jobs go, if it is up.
    pub(super) fn uplink(&self, link: LinkId) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.link == link)
    }

    /// Whether shares of the newest job can be sent up.
    pub(super) fn is_live(&self) -> bool {
        self.job.as_ref().is_some_and(|job| self.uplink(job.route().link).is_some())
    }
}

/// A machine that wants a channel of its own, or does no longer.
#[derive(Debug)]
pub(super) enum Joining {
    /// It has said who it is.
    Joined { machine: u64, user: Box<str>, nominal: Hashrate, board: Bulletin<Board> },
    /// It is gone.
    Left { machine: u64 },
}

//! Whoever has a channel, and what is on their board.

use std::sync::Arc;

use adit_channel::LinkId;
use adit_net::Bulletin;
use adit_units::{Hashrate, Monotonic};
use bitcoin::BlockHash;

use crate::job::Sv1Job;
use crate::server::board::{Board, Uplink};
use crate::upstream::ChannelWork;

/// Whoever has a channel: all machines together, or one.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) post: Bulletin<Board>,
    /// The name that goes behind the upstream's user.
    pub(super) worker: String,
    pub(super) nominal: Hashrate,
    /// Jobs below this number are of no more use.
    pub(super) floor: u64,
    /// The link of the last job, and the tip that it is on.
    last: Option<(LinkId, BlockHash)>,
    /// Links that are up and have closed its channel.
    closed: Vec<LinkId>,
    pub(super) posted: Monotonic,
    /// When another attempt is made to open a channel that was refused; work from elsewhere does not put it off.
    pub(super) reopen: Option<Monotonic>,
}

impl Desk {
    pub(super) fn new(post: Bulletin<Board>, worker: String, nominal: Hashrate, now: Monotonic) -> Self {
        Self { post, worker, nominal, floor: 0, last: None, closed: Vec::new(), posted: now, reopen: None }
    }

    pub(super) fn put(&mut self, job: Arc<Sv1Job>, uplinks: &Arc<[Uplink]>, now: Monotonic) {
        let link = job.route().link;
        (self.posted, self.last) = (now, Some((link, job.job().tip().prev_hash)));
        self.closed.retain(|&closed| closed != link);
        let uplinks = self.open(uplinks);
        self.post.modify(|board| (board.job, board.uplinks) = (Some(job), uplinks));
    }

    /// Whether jobs that it was given before are of no use any more: their tip has gone, or this link's are of a channel that it has closed. There
    /// is one line for the jobs of all links, so then those of others are passed over, too.
    pub(super) fn ends_former(&self, link: LinkId, work: &ChannelWork) -> bool {
        let Some((last, tip)) = self.last else { return true };
        let is_new = if last == link { work.is_new_tip } else { tip != work.job.tip().prev_hash };
        is_new || self.closed.contains(&link)
    }

    /// Those of all links that take its shares.
    fn open(&self, uplinks: &Arc<[Uplink]>) -> Arc<[Uplink]> {
        if self.closed.is_empty() {
            return Arc::clone(uplinks);
        }
        uplinks.iter().filter(|uplink| !self.closed.contains(&uplink.link)).cloned().collect()
    }

    /// Other links are up.
    pub(super) fn note_uplinks(&mut self, uplinks: &Arc<[Uplink]>) {
        self.closed.retain(|&closed| uplinks.iter().any(|uplink| uplink.link == closed));
        let open = self.open(uplinks);
        self.post.modify(|board| board.uplinks = open);
    }

    /// Its job, if shares of it can be sent up.
    pub(super) fn live_job(&self) -> Option<Arc<Sv1Job>> {
        let board = self.post.borrow();
        board.job.clone().filter(|_| board.is_live())
    }

    /// Whether its job came from that link.
    pub(super) fn works_for(&self, link: LinkId) -> bool {
        self.post.borrow().job.as_ref().is_some_and(|job| job.route().link == link)
    }

    /// The link has closed its channel: shares of its jobs have nowhere to go any more, and machines are not to be told that they are good.
    pub(super) fn drop_jobs(&mut self, link: LinkId, uplinks: &Arc<[Uplink]>) {
        if !self.closed.contains(&link) {
            self.closed.push(link);
        }
        let open = self.open(uplinks);
        self.post.modify(|board| {
            board.job.take_if(|job| job.route().link == link);
            board.uplinks = open;
        });
    }
}

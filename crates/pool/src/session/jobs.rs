//! Jobs and tips go out, in the order that the specification and existing firmware want (spec 5.3.15 to 5.3.17).

use std::sync::Arc;

use adit_channel::{Activation, Channel, ChannelKind};
use adit_messages::mining;
use adit_messages::types::{Sv2Option, U256};
use adit_share::Job;
use adit_transport::FrameQueue;
use adit_units::Now;
use tracing::trace;

use super::{GROUP_CHANNEL, OpenChannel, Session, send, send_target};
use crate::Work;
use crate::work::Reserve;

impl Session {
    /// Takes in what is to be mined from now on; work older than the session has seen is passed over.
    ///
    /// On another tip than before: one future job and one `SetNewPrevHash` for the whole group, or only the latter where the job was
    /// held in reserve. On the same tip: one job that is active at once. A connection that takes standard jobs only gets the same
    /// for each channel by itself. Targets that the shares so far ask for go out just before.
    pub fn handle_work(&mut self, work: Arc<Work>, now: Now) {
        if work.order() <= self.last_order {
            return;
        }
        self.last_order = work.order();
        let present = self.jobs.active().map(|(_, present)| present);
        let same_tip = present.is_some_and(|present| present.tip() == work.tip());
        let same_job = present.is_some_and(|present| present.id() == work.id());
        trace!(connection = self.connection.0, job = work.id().0, same_tip, same_job, "work");
        let reserve = work.reserve.clone();
        if same_job {
            // What is new is the reserve.
        } else if self.channels.is_empty() {
            // Nobody has heard of the jobs before, so nobody can name them.
            self.reserve = None;
            self.start_tip(work);
        } else if same_tip {
            self.issue_on_same_tip(work, now);
        } else {
            self.issue_on_new_tip(work, now);
        }
        self.count_remembered();
        if let Some(reserve) = reserve {
            self.issue_reserve(reserve);
        }
    }

    /// Makes the job of `work` the only one that can earn.
    fn start_tip(&mut self, work: Arc<Work>) {
        let id = work.id();
        self.jobs.announce(id, work);
        self.jobs.set_tip(id);
    }

    fn issue_on_new_tip(&mut self, work: Arc<Work>, now: Now) {
        let activation = self.jobs.next_activation();
        for open in &mut self.channels {
            if let Some(target) = open.channel.handle_new_tip(&self.jobs, work.tip().target, now.monotonic) {
                send_target(&mut self.frames, open.channel.id(), target);
            }
        }
        // With the tip all future jobs but the one that it names become invalid (spec 5.3.17).
        let is_announced = self.reserve.take().is_some_and(|reserve| reserve.id() == work.id());
        if self.state.terms().standard_jobs_only {
            for OpenChannel { channel, .. } in &mut self.channels {
                if !is_announced {
                    send_standard_job(&mut self.frames, channel, (work.job(), activation), None);
                }
                work.set_new_prev_hash.queue(channel.id(), &mut self.frames);
            }
        } else {
            if !is_announced {
                work.future_job.queue(GROUP_CHANNEL, &mut self.frames);
            }
            work.set_new_prev_hash.queue(GROUP_CHANNEL, &mut self.frames);
        }
        self.start_tip(work);
    }

    /// Gives all channels the job for the next tip ahead, unless they have it.
    fn issue_reserve(&mut self, reserve: Arc<Reserve>) {
        if self.reserve.as_ref().is_some_and(|known| known.id() == reserve.id()) {
            return;
        }
        if self.state.terms().standard_jobs_only {
            for OpenChannel { channel, .. } in &self.channels {
                send_standard_reserve(&mut self.frames, channel, &reserve);
            }
        } else if !self.channels.is_empty() {
            reserve.future_job.queue(GROUP_CHANNEL, &mut self.frames);
        }
        self.reserve = Some(reserve);
    }

    fn issue_on_same_tip(&mut self, work: Arc<Work>, now: Now) {
        for open in &mut self.channels {
            if let Some(target) = open.channel.handle_job(&self.jobs, now.monotonic) {
                send_target(&mut self.frames, open.channel.id(), target);
            }
        }
        let activation = self.jobs.activate(work.id(), Arc::clone(&work));
        if self.state.terms().standard_jobs_only {
            let min_ntime = Some(work.job().min_ntime());
            for OpenChannel { channel, .. } in &mut self.channels {
                send_standard_job(&mut self.frames, channel, (work.job(), activation), min_ntime);
            }
        } else {
            work.active_job.queue(GROUP_CHANNEL, &mut self.frames);
        }
    }

    /// Gives a channel that was just opened its first job, if there is one, and takes it in.
    ///
    /// The job is the connection's present one, so the number is shared with the other channels; here it comes as a future job, and
    /// with the tip that makes it active, both addressed to the channel alone.
    pub(super) fn send_first_job(&mut self, mut open: OpenChannel, now: Now) {
        if let Some((activation, work)) = self.jobs.active() {
            let channel = &mut open.channel;
            channel.handle_first_job(now.monotonic);
            match channel.kind() {
                ChannelKind::Standard => {
                    send_standard_job(&mut self.frames, channel, (work.job(), activation), None);
                }
                ChannelKind::Extended => work.future_job.queue(channel.id(), &mut self.frames),
            }
            work.set_new_prev_hash.queue(channel.id(), &mut self.frames);
            if let Some(reserve) = &self.reserve {
                match channel.kind() {
                    ChannelKind::Standard => send_standard_reserve(&mut self.frames, channel, reserve),
                    ChannelKind::Extended => reserve.future_job.queue(channel.id(), &mut self.frames),
                }
            }
        }
        if self.channels.capacity() == 0 {
            // Most connections have one channel, and there are many of them.
            self.channels.reserve_exact(1);
        }
        self.channels.push(open);
    }
}

/// Gives a standard channel a job of its own (spec 5.3.15).
fn send_standard_job(
    frames: &mut FrameQueue,
    channel: &mut Channel,
    (job, activation): (&Job, Activation),
    min_ntime: Option<u32>,
) {
    let channel_id = channel.id().0;
    let assignment = channel.assignment(job, activation).expect("a job is issued to channels that are open");
    let root = assignment.merkle_root().expect("only standard channels are given jobs of their own");
    send(
        frames,
        mining::NewMiningJob {
            channel_id,
            job_id: job.id().0,
            min_ntime: Sv2Option::new(min_ntime),
            version: job.version(),
            merkle_root: U256::from(root),
        },
    );
}

/// Gives a standard channel the job for the next tip ahead.
fn send_standard_reserve(frames: &mut FrameQueue, channel: &Channel, reserve: &Reserve) {
    let root = reserve.merkle_root(&channel.extranonce().to_full());
    send(
        frames,
        mining::NewMiningJob {
            channel_id: channel.id().0,
            job_id: reserve.id().0,
            min_ntime: Sv2Option::new(None),
            version: reserve.version(),
            merkle_root: U256::from(&root),
        },
    );
}

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

impl Session {
    /// Takes in what is to be mined from now on; work older than the session has seen is passed over.
    ///
    /// On another tip than before: one future job and one `SetNewPrevHash` for the whole group. On the same tip: one job that is
    /// active at once. A connection that takes standard jobs only gets the same for each channel by itself. Targets that the
    /// shares so far ask for go out just before.
    pub fn handle_work(&mut self, work: Arc<Work>, now: Now) {
        let present = self.jobs.active().map(|(_, present)| present);
        if present.is_some_and(|present| work.id() <= present.id()) {
            return;
        }
        let same_tip = present.is_some_and(|present| present.tip() == work.tip());
        trace!(connection = self.connection.0, job = work.id().0, same_tip, "work");
        if self.channels.is_empty() {
            // Nobody has heard of the jobs before, so nobody can name them.
            self.jobs.announce(work.id(), Arc::clone(&work));
            self.jobs.set_tip(work.id());
        } else if same_tip {
            self.issue_on_same_tip(work, now);
        } else {
            self.issue_on_new_tip(work, now);
        }
        self.count_remembered();
    }

    fn issue_on_new_tip(&mut self, work: Arc<Work>, now: Now) {
        let activation = self.jobs.next_activation();
        for open in &mut self.channels {
            if let Some(target) = open.channel.handle_new_tip(&self.jobs, work.tip().target, now.monotonic) {
                send_target(&mut self.frames, open.channel.id(), target);
            }
        }
        if self.state.terms().standard_jobs_only {
            for OpenChannel { channel, .. } in &mut self.channels {
                send_standard_job(&mut self.frames, channel, (work.job(), activation), None);
                work.set_new_prev_hash.queue(channel.id(), &mut self.frames);
            }
        } else {
            work.future_job.queue(GROUP_CHANNEL, &mut self.frames);
            work.set_new_prev_hash.queue(GROUP_CHANNEL, &mut self.frames);
        }
        self.jobs.announce(work.id(), Arc::clone(&work));
        self.jobs.set_tip(work.id());
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

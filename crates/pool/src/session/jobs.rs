//! Jobs and tips go out, in the order that the specification and existing firmware want (spec 5.3.15 to 5.3.17).

use std::sync::Arc;

use adit_channel::{Activation, Channel, ChannelKind, ExtranonceBase};
use adit_messages::error_code::CloseChannelReason;
use adit_messages::mining;
use adit_messages::types::{Sv2Option, U256};
use adit_share::Job;
use adit_transport::FrameQueue;
use adit_units::{ChannelId, Monotonic, Now};
use tracing::trace;

use super::channels::prefix_bytes;
use super::groups::{DISTRIBUTIONS_MAX, Groups, Start};
use super::{OpenChannel, Session, send, send_target};
use crate::Work;
use crate::work::Reserve;

impl Session {
    /// Whether miners lose next to nothing if this work is taken in a moment later.
    ///
    /// Not if the tip is another one, and not if miners have an empty block so far and now there are transactions. Where there are no
    /// channels nothing is to be sent, so there is nothing to put off.
    #[must_use]
    pub fn can_wait_for(&self, work: &Work) -> bool {
        let Some((_, present)) = self.jobs.active() else { return false };
        let is_empty = |work: &Work| work.job().merkle_path().is_empty();
        let ends_empty_work =
            (present.is_interim() && !work.is_interim()) || (is_empty(present) && !is_empty(work));
        !work.is_urgent()
            && !self.channels.is_empty()
            && present.tip().is_same_chain_end(work.tip())
            && !ends_empty_work
    }

    /// When the tip was first heard of whose work was taken in last.
    #[must_use]
    pub fn tip_seen(&self) -> Option<Monotonic> {
        self.jobs.active().map(|(_, present)| present.tip_seen())
    }

    /// Takes in what is to be mined from now on; work older than the session has seen is passed over.
    ///
    /// On another tip than before: one future job and one `SetNewPrevHash` for the whole group, or only the latter where the job was
    /// held in reserve. On the same tip: one job that is active at once. A connection that takes standard jobs only gets the same
    /// for each channel by itself. Targets that the shares so far ask for go out just before.
    pub fn handle_work(&mut self, work: Arc<Work>, now: Now) {
        if work.order() > self.last_order {
            self.take_in(work, now);
        }
    }

    /// The same, whatever came before.
    pub(super) fn take_in(&mut self, work: Arc<Work>, now: Now) {
        self.last_order = self.last_order.max(work.order());
        let present = self.jobs.active().map(|(_, present)| present);
        let same_tip = present.is_some_and(|present| present.tip().is_same_chain_end(work.tip()));
        // The present job may be a newer one that this connection has asked for.
        let same_job = same_tip && present.is_some_and(|present| present.id() >= work.id());
        trace!(connection = self.connection.0, job = work.id().0, same_tip, same_job, "work");
        let reserve = work.reserve.clone();
        let base = self.base_under(&work);
        if base != self.extranonces.base() {
            self.rebase(base, now);
        }
        if self.custom.is_some() {
            // The peer makes its own jobs, and hears of tips from its own node.
            self.reserve = None;
            self.start_tip(Arc::clone(&work));
            self.handle_work_besides(&work, !same_tip, now);
            return self.count_remembered();
        }
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
        let (activation, network) = (self.jobs.next_activation(), work.tip().target);
        // With the tip all future jobs but the one that it names become invalid (spec 5.3.17).
        let is_announced = self.reserve.take().is_some_and(|reserve| reserve.id() == work.id());
        for OpenChannel { channel, .. } in &mut self.channels {
            let target = if is_announced {
                channel.handle_announced_tip(&self.jobs, network, now.monotonic)
            } else {
                channel.handle_new_tip(&self.jobs, network, now.monotonic)
            };
            if let Some(target) = target {
                send_target(&mut self.frames, channel.id(), target);
            }
        }
        if !is_announced {
            self.tell_prefixes();
        }
        self.forget_groups();
        self.note_job(now.monotonic);
        let Self { channels, groups, frames, .. } = self;
        if self.state.terms().standard_jobs_only {
            for OpenChannel { channel, .. } in channels {
                if !is_announced {
                    let job = groups.job(channel.group(), &work);
                    send_standard_job(frames, channel, (job, activation), None);
                }
                work.set_new_prev_hash.queue(channel.id(), frames);
            }
        } else {
            for group in manned(channels, groups) {
                if !is_announced {
                    groups.queue((group, group), &work, Start::WithTip, frames);
                }
                work.set_new_prev_hash.queue(group, frames);
            }
        }
        self.start_tip(work);
    }

    /// Gives all channels the job for the next tip ahead, unless they have it.
    fn issue_reserve(&mut self, reserve: Arc<Reserve>) {
        if self.reserve.as_ref().is_some_and(|known| known.id() == reserve.id()) {
            return;
        }
        if self.reserve.is_some() {
            // What held when they were given that one is of no more interest.
            self.channels.iter_mut().for_each(|open| open.channel.forget_ahead());
        }
        self.tell_prefixes();
        let Self { channels, groups, frames, .. } = self;
        if self.state.terms().standard_jobs_only {
            for OpenChannel { channel, .. } in channels {
                send_standard_reserve(frames, channel, groups, &reserve);
            }
        } else {
            for group in manned(channels, groups) {
                groups.queue_reserve((group, group), &reserve, frames);
            }
        }
        self.reserve = Some(reserve);
    }

    fn issue_on_same_tip(&mut self, work: Arc<Work>, now: Now) {
        for open in &mut self.channels {
            if let Some(target) = open.channel.handle_job(&self.jobs, now.monotonic) {
                send_target(&mut self.frames, open.channel.id(), target);
            }
        }
        self.tell_prefixes();
        self.note_job(now.monotonic);
        let activation = self.jobs.activate(work.id(), Arc::clone(&work));
        let Self { channels, groups, frames, .. } = self;
        if self.state.terms().standard_jobs_only {
            let min_ntime = Some(work.job().min_ntime());
            for OpenChannel { channel, .. } in channels {
                let job = groups.job(channel.group(), &work);
                send_standard_job(frames, channel, (job, activation), min_ntime);
            }
        } else {
            for group in manned(channels, groups) {
                groups.queue((group, group), &work, Start::AtOnce, frames);
            }
        }
    }

    /// The jobs to come leave room for other extranonces than those before: every channel gets a new part of them, and the job that it was
    /// given for the next tip will not come.
    fn rebase(&mut self, base: ExtranonceBase, now: Now) {
        self.extranonces.rebase(base);
        self.reserve = None;
        let mut without = Vec::new();
        for OpenChannel { channel, prefix_untold, .. } in &mut self.channels {
            channel.forget_ahead();
            match self.extranonces.next_prefix() {
                // What an extended channel may roll was agreed when it was opened.
                Some(prefix) if prefix.rollable_len() == channel.extranonce().rollable_len() => {
                    channel.set_extranonce(prefix, &self.jobs, false);
                    *prefix_untold = true;
                }
                Some(_) | None => without.push(channel.id()),
            }
        }
        for channel in without {
            self.dismiss(channel, CloseChannelReason::ClosedByOperator, now);
        }
    }

    /// Tells the channels whose extranonce prefix is another one from the next job on, which is about to be sent (spec 5.3.10).
    fn tell_prefixes(&mut self) {
        for OpenChannel { channel, prefix_untold, .. } in &mut self.channels {
            if !core::mem::replace(prefix_untold, false) {
                continue;
            }
            let (channel_id, prefix) = (channel.id().0, channel.extranonce());
            let full = prefix.to_full();
            let extranonce_prefix = match channel.kind() {
                ChannelKind::Standard => prefix_bytes(full.as_bytes()),
                ChannelKind::Extended => prefix_bytes(prefix.as_bytes()),
            };
            send(&mut self.frames, mining::SetExtranoncePrefix { channel_id, extranonce_prefix });
        }
    }

    /// Gives a channel that was just opened its first job, if there is one, and takes it in.
    ///
    /// The job is the connection's present one, so the number is shared with the other channels; here it comes as a future job, and
    /// with the tip that makes it active, both addressed to the channel alone.
    pub(super) fn send_first_job(&mut self, mut open: OpenChannel, now: Now) {
        let Self { jobs, groups, frames, custom, .. } = self;
        if let Some((activation, work)) = jobs.active().filter(|_| custom.is_none()) {
            let channel = &mut open.channel;
            channel.handle_first_job(now.monotonic);
            let own = (channel.group(), channel.id());
            match channel.kind() {
                ChannelKind::Standard => {
                    let job = groups.job(channel.group(), work);
                    send_standard_job(frames, channel, (job, activation), None);
                }
                ChannelKind::Extended => groups.queue(own, work, Start::WithTip, frames),
            }
            work.set_new_prev_hash.queue(channel.id(), frames);
            if let Some(reserve) = &self.reserve {
                match channel.kind() {
                    ChannelKind::Standard => send_standard_reserve(frames, channel, groups, reserve),
                    ChannelKind::Extended => groups.queue_reserve(own, reserve, frames),
                }
            }
        }
        if self.channels.capacity() == 0 {
            // Most connections have one channel, and there are many of them.
            self.channels.reserve_exact(1);
        }
        if self.channels.is_empty() {
            self.wish.note_first_job(now.monotonic);
        }
        self.channels.push(open);
    }
}

/// The groups that have channels, the pool's first; takes no memory.
fn manned(channels: &[OpenChannel], groups: &Groups) -> impl Iterator<Item = ChannelId> + use<> {
    let has_channels = |group: &ChannelId| channels.iter().any(|open| open.channel.group() == *group);
    let mut manned = [None; DISTRIBUTIONS_MAX + 1];
    for (place, group) in manned.iter_mut().zip(groups.ids().filter(has_channels)) {
        *place = Some(group);
    }
    manned.into_iter().flatten()
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
fn send_standard_reserve(frames: &mut FrameQueue, channel: &Channel, groups: &Groups, reserve: &Reserve) {
    let root = groups.reserve_root(channel.group(), reserve, channel.extranonce().to_full().as_bytes());
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

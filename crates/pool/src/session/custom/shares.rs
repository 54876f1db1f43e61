//! Shares of jobs that miners have made.

use adit_channel::{
    Arrival, LateBlock, Lookup, REMEMBERED_MAX, RewardKind, ShareKind, ShareRecord, UserIdentity, WorkerName,
};
use adit_messages::error_code::SubmitSharesError as Code;
use adit_share::{Declaration, Extranonce, HEADER_LEN, Reject, Submission, Verdict};
use adit_units::{ChannelId, JobTag, Now};

use super::CustomJob;
use crate::session::shares::worker_name;
use crate::session::{Session, place_of};

/// A block that was found on a job that a miner has made, without its transactions, which others may know.
#[derive(Clone, Debug)]
pub struct FoundCustomBlock {
    /// The job.
    pub declaration: Declaration,
    /// The block's header.
    pub header: [u8; HEADER_LEN],
    /// The whole extranonce.
    pub extranonce: Extranonce,
    /// The channel that it was found on.
    pub channel: ChannelId,
    /// Who found it.
    pub user: UserIdentity,
    /// The device that found it, where the miner names one.
    pub worker: Option<WorkerName>,
    /// As [`crate::FoundBlock::record`].
    pub record: u64,
}

impl Session {
    /// Credits a share of a job that the peer has made, or says why not.
    pub(in crate::session) fn credit_custom(&mut self, arrival: Arrival<'_>, now: Now) -> Result<(), Code> {
        let share = arrival.submission;
        let place = place_of(&self.channels, share.channel_id).ok_or(Code::InvalidChannelId)?;
        let Some(custom) = &mut self.custom else { return Err(Code::InvalidJobId) };
        let open = self.channels.get_mut(place).ok_or(Code::InvalidChannelId)?;
        let jobs = open.own_jobs.as_ref().ok_or(Code::InvalidJobId)?;
        let (mined, activation) = match jobs.lookup(share.job_id) {
            Lookup::Open { job, activation } => (job, activation),
            Lookup::Stale => {
                self.look_for_late_custom_block(place, share, now);
                return Err(Reject::StaleShare.into());
            }
            Lookup::Unknown => return Err(Reject::InvalidJobId.into()),
        };
        let channel = &mut open.channel;
        let CustomJob { job, declaration, worth, .. } = &**mined;
        let (_, work) = self.jobs.active().ok_or(Reject::StaleShare)?;
        let (tag, judged_at) = (work.tag(), Now { unix: work.network_time(now.monotonic), ..now });
        let worker = match if self.state.terms().worker_names { worker_name(share.rest) } else { Ok(None) } {
            Ok(worker) => worker,
            Err(_) if channel.is_block(job, activation, share, judged_at.unix) => None,
            Err(code) => return Err(code),
        };
        let is_within_limit = !self.config.limits_shares || open.patience.allows_share(now.monotonic);
        channel.allow_remembering(is_within_limit && self.remembered < REMEMBERED_MAX);
        let record = self.unacknowledged.emitted() + 1;
        let (earned, hash, kind) = match channel.judge_hashed(job, activation, arrival, judged_at) {
            Verdict::Valid { work, hash } => (work, hash, ShareKind::Share),
            Verdict::Block { work, hash, header } => {
                let assignment = channel.assignment(job, activation).ok_or(Reject::InvalidJobId)?;
                custom.found.push_back(FoundCustomBlock {
                    declaration: declaration.clone(),
                    header,
                    extranonce: assignment.extranonce(share),
                    channel: share.channel_id,
                    user: channel.user().clone(),
                    worker,
                    record,
                });
                self.counters.blocks += 1;
                (work, hash, ShareKind::Block)
            }
            Verdict::Rejected(reject) => return Err(reject.into()),
        };
        let record = ShareRecord {
            received: now.unix,
            connection: self.connection,
            channel: share.channel_id,
            sequence_number: share.sequence_number,
            tag: JobTag { job: job.id(), ..tag },
            height: job.height(),
            work: earned,
            hash,
            kind,
            reward: RewardKind::Pooled,
            user: channel.user().clone(),
            worker,
            custom: Some(worth.clone()),
        };
        open.accept(&record, now.monotonic);
        self.count(record, now);
        Ok(())
    }

    /// A share on a job of the tip before, or on one that newer ones have pushed out, earns nothing, but a block is a block.
    fn look_for_late_custom_block(&mut self, place: usize, share: &Submission<'_>, now: Now) {
        let record = self.unacknowledged.emitted() + 1;
        let Some(custom) = &mut self.custom else { return };
        let (Some(open), Some((_, work))) = (self.channels.get_mut(place), self.jobs.active()) else {
            return;
        };
        let Some(jobs) = &mut open.own_jobs else { return };
        let Some((activation, mined)) = jobs.former(share.job_id) else { return };
        let network_time = work.network_time(now.monotonic);
        let found = open.channel.late_block(&mined.job, activation, share, network_time);
        let Some(LateBlock { header, extranonce }) = found else { return };
        let found = FoundCustomBlock {
            declaration: mined.declaration.clone(),
            header,
            extranonce,
            channel: share.channel_id,
            user: open.channel.user().clone(),
            worker: None,
            record,
        };
        custom.found.push_back(found);
        jobs.forget_former(share.job_id);
        self.counters.blocks += 1;
    }
}

//! Shares are judged, blocks found, records emitted (spec 5.3.11, 5.3.12).

use adit_channel::{ChannelKind, Lookup, ShareKind, ShareRecord, UserIdentity, WorkerName};
use adit_messages::error_code::SubmitSharesError as Code;
use adit_messages::mining;
use adit_messages::tlv::Tlvs;
use adit_share::{Block, Reject, Submission, Verdict};
use adit_units::{ChannelId, Now, Work};
use tracing::trace;

use super::{Session, UNACKNOWLEDGED_MAX, place_of};
use crate::Disconnect;

/// A block that a miner found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBlock {
    /// The block, ready for every node.
    pub block: Block,
    /// The channel that it was found on.
    pub channel: ChannelId,
    /// Who found it.
    pub user: UserIdentity,
    /// The device that found it, where the miner names one.
    pub worker: Option<WorkerName>,
    /// What it earns as a share.
    pub work: Work,
}

impl Session {
    /// Takes in `SubmitSharesStandard` (spec 5.3.11).
    pub(super) fn handle_standard_share(&mut self, payload: &[u8], now: Now) -> Result<(), Disconnect> {
        self.handle_share(ChannelKind::Standard, &Submission::parse_standard(payload)?, now)
    }

    /// Takes in `SubmitSharesExtended` (spec 5.3.12).
    pub(super) fn handle_extended_share(&mut self, payload: &[u8], now: Now) -> Result<(), Disconnect> {
        self.handle_share(ChannelKind::Extended, &Submission::parse_extended(payload)?, now)
    }

    /// Credits a share, or says at once why not (spec 5.3.14).
    fn handle_share(
        &mut self,
        kind: ChannelKind,
        share: &Submission<'_>,
        now: Now,
    ) -> Result<(), Disconnect> {
        if let Err(code) = self.credit(kind, share, now) {
            let (channel, number) = (share.channel_id.0, share.sequence_number.0);
            trace!(connection = self.connection.0, channel, number, job = share.job_id.0, %code, "share refused");
            self.counters.count_rejected(code);
            self.send(mining::SubmitSharesError {
                channel_id: channel,
                sequence_number: number,
                error_code: code.to_wire(),
            });
            if self.breaker.handle_refused(code, now.monotonic) {
                return Err(Disconnect::Garbage);
            }
        } else {
            self.breaker.handle_accepted();
        }
        // Only now, because the share may have been a block.
        if self.unacknowledged.len() >= UNACKNOWLEDGED_MAX { Err(Disconnect::Overloaded) } else { Ok(()) }
    }

    /// Judges a share, and emits what follows from it: a block first, then the record.
    fn credit(&mut self, kind: ChannelKind, share: &Submission<'_>, now: Now) -> Result<(), Code> {
        let place = place_of(&self.channels, share.channel_id).ok_or(Code::InvalidChannelId)?;
        let open = self.channels.get_mut(place).ok_or(Code::InvalidChannelId)?;
        let channel = &mut open.channel;
        if channel.kind() != kind {
            return Err(Code::InvalidChannelId);
        }
        let names_worker = kind == ChannelKind::Extended && self.state.terms().worker_names;
        let worker = if names_worker { worker_name(share.rest)? } else { None };
        let (mined, activation) = match self.jobs.lookup(share.job_id) {
            Lookup::Open { job, activation } => (job, activation),
            Lookup::Stale => return Err(Reject::StaleShare.into()),
            Lookup::Unknown => return Err(Reject::InvalidJobId.into()),
        };
        let job = mined.job();
        let (work, hash, kind) = match channel.judge(job, activation, share, now) {
            Verdict::Valid { work, hash } => (work, hash, ShareKind::Share),
            Verdict::Block { work, hash, header } => {
                let assignment = channel.assignment(job, activation).ok_or(Reject::InvalidJobId)?;
                let block = job.block(mined.template(), header, assignment.extranonce(share).as_bytes());
                let user = channel.user().clone();
                self.blocks.push_back(FoundBlock { block, channel: share.channel_id, user, worker, work });
                self.counters.blocks += 1;
                (work, hash, ShareKind::Block)
            }
            Verdict::Rejected(reject) => return Err(reject.into()),
        };
        let (channel_id, number) = (share.channel_id, share.sequence_number);
        trace!(connection = self.connection.0, channel = channel_id.0, number = number.0, %work, "share accepted");
        self.counters.accepted += 1;
        self.unacknowledged.push(channel_id, number, work);
        self.records.push(ShareRecord {
            received: now.unix,
            connection: self.connection,
            channel: channel_id,
            sequence_number: number,
            tag: mined.tag(),
            height: job.height(),
            work,
            hash,
            kind,
            user: channel.user().clone(),
            worker,
        });
        Ok(())
    }
}

/// The worker that an extended share names behind its fields (extension 0x0002); a share without a name is credited all the same.
fn worker_name(fields: &[u8]) -> Result<Option<WorkerName>, Code> {
    let name = Tlvs::parse(fields).and_then(Tlvs::user_identity).map_err(|_| Code::InvalidShare)?;
    name.map(|name| WorkerName::from_wire(name.as_bytes())).transpose().map_err(|_| Code::InvalidShare)
}

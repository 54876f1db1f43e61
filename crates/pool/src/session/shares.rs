//! Shares are judged, blocks found, records emitted (spec 5.3.11, 5.3.12).

use adit_channel::{
    Arrival, ChannelKind, LateBlock, Lookup, REMEMBERED_MAX, RewardKind, ShareKind, ShareRecord,
    UserIdentity, WorkerName,
};
use adit_messages::error_code::{CloseChannelReason, SubmitSharesError as Code};
use adit_messages::mining;
use adit_messages::tlv::{TlvError, Tlvs};
use adit_share::{Block, Reject, Submission, Verdict};
use adit_units::{ChannelId, Now, Work};
use bitcoin::hashes::Hash as _;
use tracing::field::display;
use tracing::trace;

use super::{OpenChannel, RelayedShare, Session, UNACKNOWLEDGED_MAX, place_of};
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
    /// What it earns as a share; nothing, where it came too late for that.
    pub work: Work,
    /// The number of its record among all that the session has emitted, counted from one as [`Session::handle_durable`] does.
    pub record: u64,
}

impl Session {
    /// Takes in `SubmitSharesStandard` (spec 5.3.11).
    pub(super) fn handle_standard_share(&mut self, payload: &[u8], now: Now) -> Result<(), Disconnect> {
        let submission = &Submission::parse_standard(payload)?;
        self.handle_share(ChannelKind::Standard, Arrival { submission, hash: None }, now)
    }

    /// Takes in `SubmitSharesExtended` (spec 5.3.12), which may be hashed already.
    pub(super) fn handle_extended_share(
        &mut self,
        payload: &[u8],
        hash: Option<[u8; 32]>,
        now: Now,
    ) -> Result<(), Disconnect> {
        let submission = &Submission::parse_extended(payload)?;
        self.handle_share(ChannelKind::Extended, Arrival { submission, hash }, now)
    }

    /// Credits a share, or says at once why not (spec 5.3.14).
    fn handle_share(&mut self, kind: ChannelKind, arrival: Arrival<'_>, now: Now) -> Result<(), Disconnect> {
        let share = arrival.submission;
        let credited = match (&self.custom, kind) {
            (Some(_), ChannelKind::Extended) => self.credit_custom(arrival, now),
            (Some(_), ChannelKind::Standard) => Err(Code::InvalidChannelId),
            (None, _) => self.credit(kind, arrival, now),
        };
        if let Err(code) = credited {
            let (channel, number) = (share.channel_id.0, share.sequence_number.0);
            let place = place_of(&self.channels, share.channel_id);
            let worker = self.tally_refused(place, share.rest, code, now.monotonic);
            let worker = worker.as_ref().map(display);
            trace!(connection = self.connection.0, channel, number, worker, job = share.job_id.0, %code, "share refused");
            self.counters.count_rejected(code);
            self.send(mining::SubmitSharesError {
                channel_id: channel,
                sequence_number: number,
                error_code: code.to_wire(),
            });
            self.handle_refused(share.channel_id, code, now)?;
        }
        // Only now, because the share may have been a block.
        if self.unacknowledged.len() >= UNACKNOWLEDGED_MAX { Err(Disconnect::Overloaded) } else { Ok(()) }
    }

    /// Judges a share, and emits what follows from it: a block first, then the record.
    fn credit(&mut self, kind: ChannelKind, arrival: Arrival<'_>, now: Now) -> Result<(), Code> {
        let share = arrival.submission;
        let place = place_of(&self.channels, share.channel_id).ok_or(Code::InvalidChannelId)?;
        if self.channels.get(place).is_none_or(|open| open.channel.kind() != kind) {
            return Err(Code::InvalidChannelId);
        }
        self.check_job(place, share, now)?;
        let open = self.channels.get_mut(place).ok_or(Code::InvalidChannelId)?;
        let channel = &mut open.channel;
        let Lookup::Open { job: mined, activation } = self.jobs.lookup(share.job_id) else {
            return Err(Reject::InvalidJobId.into());
        };
        // Jobs that are older than the channel are past to it.
        let group = channel.group_at(activation).ok_or(Reject::StaleShare)?;
        let job = self.groups.job(group, mined);
        let judged_at = Now { unix: mined.network_time(now.monotonic), ..now };
        let names_worker = kind == ChannelKind::Extended && self.state.terms().worker_names;
        let worker = match if names_worker { worker_name(share.rest) } else { Ok(None) } {
            Ok(worker) => worker,
            Err(_) if channel.is_block(job, activation, share, judged_at.unix) => None,
            Err(code) => return Err(code),
        };
        let is_within_limit = !self.config.limits_shares || open.patience.allows_share(now.monotonic);
        channel.allow_remembering(is_within_limit && self.remembered < REMEMBERED_MAX);
        let (work, hash, kind) = match channel.judge_hashed(job, activation, arrival, judged_at) {
            Verdict::Valid { work, hash } => (work, hash, ShareKind::Share),
            Verdict::Block { work, hash, header } => {
                let assignment = channel.assignment(job, activation).ok_or(Reject::InvalidJobId)?;
                let block = job.block(mined.template(), header, assignment.extranonce(share).as_bytes());
                let user = channel.user().clone();
                let (channel, record) = (share.channel_id, self.unacknowledged.emitted() + 1);
                self.blocks.get_or_insert_default().push_back(FoundBlock {
                    block,
                    channel,
                    user,
                    worker,
                    work,
                    record,
                });
                self.counters.blocks += 1;
                (work, hash, ShareKind::Block)
            }
            Verdict::Rejected(reject) => return Err(reject.into()),
        };
        if self.config.relays_shares {
            let assignment = channel.assignment(job, activation).ok_or(Reject::InvalidJobId)?;
            let extranonce = assignment.extranonce(share);
            let from = (channel.user(), worker);
            let relayed = RelayedShare::new(mined, share, extranonce, (hash, kind), from);
            self.relayed.get_or_insert_default().push(relayed);
        }
        let (height, reward) = (job.height(), self.groups.reward(group, open.pooled));
        // Where the pool is to pay somebody who asked for blocks of his own, it pays him and not the words that he asked with.
        let user = if reward == RewardKind::Pooled { &open.payee } else { channel.user() };
        let record = ShareRecord {
            received: now.unix,
            connection: self.connection,
            channel: share.channel_id,
            sequence_number: share.sequence_number,
            tag: mined.tag(),
            height,
            work,
            hash,
            kind,
            reward,
            user: user.clone(),
            worker,
            custom: None,
        };
        open.accept(&record, now.monotonic);
        self.wish.heed(&open.channel, now.monotonic);
        self.count(record, now);
        Ok(())
    }

    /// Whether a share's job can earn; if it could until the tip came, the share may be a late block.
    fn check_job(&mut self, place: usize, share: &Submission<'_>, now: Now) -> Result<(), Code> {
        match self.jobs.lookup(share.job_id) {
            Lookup::Open { .. } => Ok(()),
            // It waits for its tip, although later ones are active.
            Lookup::Stale if self.reserve.as_ref().is_some_and(|ahead| ahead.id() == share.job_id) => {
                Err(Reject::InvalidJobId.into())
            }
            Lookup::Stale => {
                self.look_for_late_block(place, share, now);
                Err(Reject::StaleShare.into())
            }
            Lookup::Unknown => Err(Reject::InvalidJobId.into()),
        }
    }

    /// Counts a share that is good, and has it written down.
    pub(super) fn count(&mut self, record: ShareRecord, now: Now) {
        let (channel, number, work) = (record.channel, record.sequence_number, record.work);
        let worker = record.worker.as_ref().map(display);
        trace!(connection = self.connection.0, channel = channel.0, number = number.0, worker, %work, "share accepted");
        self.counters.accepted += 1;
        self.tally_worker(&record, now.monotonic);
        self.remembered += 1;
        self.unacknowledged.push(channel, number, work);
        self.records.push(record);
    }

    /// A share on a job of the tip before, or on one that newer ones have pushed out, earns nothing, but a block is a block, here and further up:
    /// the chain may come back to that tip.
    fn look_for_late_block(&mut self, place: usize, share: &Submission<'_>, now: Now) {
        let former = self.channels.get(place).zip(self.jobs.former(share.job_id));
        let Some((OpenChannel { channel, .. }, (activation, mined))) = former else { return };
        // The channel may have been moved since.
        let Some(group) = channel.former_group_at(activation) else { return };
        let job = self.groups.job(group, mined);
        let network_time = mined.network_time(now.monotonic);
        let found = channel.late_block(job, activation, share, network_time);
        let Some(LateBlock { header, extranonce }) = found else { return };
        let block = job.block(mined.template(), header, extranonce.as_bytes());
        if self.config.relays_shares {
            let judged = (block.hash.to_byte_array(), ShareKind::Block);
            let relayed = RelayedShare::new(mined, share, extranonce, judged, (channel.user(), None));
            self.relayed.get_or_insert_default().push(relayed);
        }
        self.blocks.get_or_insert_default().push_back(FoundBlock {
            block,
            channel: share.channel_id,
            user: channel.user().clone(),
            worker: None,
            work: Work::ZERO,
            // It has none of its own, and holds up what comes after it no longer than any block does.
            record: self.unacknowledged.emitted() + 1,
        });
        self.counters.blocks += 1;
        // One is enough: nothing remembers such shares, and the same one may come again.
        self.jobs.forget_former(share.job_id);
    }

    /// A share was refused: whether that is borne, costs the channel, or the connection.
    fn handle_refused(&mut self, channel: ChannelId, code: Code, now: Now) -> Result<(), Disconnect> {
        let place = place_of(&self.channels, channel);
        let Some(open) = place.and_then(|place| self.channels.get_mut(place)) else {
            return self.breaker.handle_stray(now.monotonic);
        };
        let Err(end) = open.patience.handle_refused(code, now.monotonic) else { return Ok(()) };
        if self.channels.len() == 1 || !self.breaker.handle_closure(now.monotonic) {
            return Err(end);
        }
        // The channels beside it may well belong to others.
        let reason = match code {
            Code::TooManyShares => CloseChannelReason::TooManyShares,
            Code::StaleShare | Code::DuplicateShare => CloseChannelReason::TooManyRepeatedShares,
            _ => CloseChannelReason::TooManyInvalidShares,
        };
        self.dismiss(channel, reason, now);
        Ok(())
    }

    /// Counts what the channels remember, after some of it was forgotten.
    pub(super) fn count_remembered(&mut self) {
        self.remembered = self.channels.iter().map(|open| open.channel.remembered()).sum();
    }
}

/// The worker that an extended share names behind its fields (extension 0x0002).
///
/// A share without a name is credited all the same, and so is one whose name does not print or is not text: that is no reason to take
/// a miner's pay. What breaks the form of the field makes the share invalid (spec 3.4.3), unless it is a block.
pub(super) fn worker_name(fields: &[u8]) -> Result<Option<WorkerName>, Code> {
    let name = match Tlvs::parse(fields).and_then(Tlvs::user_identity) {
        Ok(name) => name,
        Err(TlvError::UserIdentityNotUtf8) => None,
        Err(_) => return Err(Code::InvalidShare),
    };
    Ok(name.and_then(|name| WorkerName::from_wire(name.as_bytes()).ok()))
}

#[cfg(test)]
#[cfg(feature = "server")] // for a template of the devnet
mod tests;

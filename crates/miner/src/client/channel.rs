//! The one channel of a client: its jobs, its target and its extranonce.

use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::flags::MiningSuccessFlags;
use adit_messages::mining;
use adit_messages::types::{B032, U256};
use adit_transport::FrameQueue;
use adit_units::{ChannelId, JobId, Monotonic, SequenceNumber, Target};

use super::{ClientError, NotSubmitted, push};
use crate::work::{Extranonce, MerkleRoot, Solution, Tip, Work};

/// An open channel.
pub(super) struct Channel {
    id: ChannelId,
    group: ChannelId,
    extranonce_prefix: Vec<u8>,
    /// The length of the part that the miner chooses; `None` for a standard channel.
    extranonce_len: Option<u8>,
    /// What shares of later jobs must meet.
    target: Target,
    /// Whether the server accepts no change to the version.
    fixed_version: bool,
    tip: Option<Arc<Tip>>,
    /// Jobs for a tip that is not known yet, oldest first.
    future: VecDeque<Job>,
    next_sequence_number: u32,
}

/// A job as it came.
struct Job {
    id: JobId,
    version: u32,
    version_rolling: bool,
    /// Made with the extranonce prefix that was in force when the job came (spec 5.3.10).
    merkle_root: MerkleRoot,
}

/// Whether there is new work.
type Outcome = Result<Option<Arc<Work>>, ClientError>;

impl Channel {
    /// Most jobs kept for later; the oldest make room.
    pub(super) const FUTURE_JOBS_MAX: usize = 16;

    pub(super) fn standard(
        success: &mining::OpenStandardMiningChannelSuccess<'_>,
        flags: MiningSuccessFlags,
    ) -> Self {
        Self {
            id: ChannelId(success.channel_id),
            group: ChannelId(success.group_channel_id),
            extranonce_prefix: success.extranonce_prefix.as_bytes().to_vec(),
            extranonce_len: None,
            target: target(&success.target),
            fixed_version: flags.contains(MiningSuccessFlags::REQUIRES_FIXED_VERSION),
            tip: None,
            future: VecDeque::new(),
            next_sequence_number: 1,
        }
    }

    pub(super) fn extended(
        success: &mining::OpenExtendedMiningChannelSuccess<'_>,
        flags: MiningSuccessFlags,
        min_extranonce_size: u16,
    ) -> Result<Self, ClientError> {
        let fits =
            |size: &u8| usize::from(*size) <= Extranonce::MAX_LEN && u16::from(*size) >= min_extranonce_size;
        let size = u8::try_from(success.extranonce_size).ok().filter(fits);
        let Some(extranonce_len) = size else {
            return Err(ClientError::Misbehaved("it gave an extranonce of a size that was not asked for"));
        };
        Ok(Self {
            id: ChannelId(success.channel_id),
            group: ChannelId(success.group_channel_id),
            extranonce_prefix: success.extranonce_prefix.as_bytes().to_vec(),
            extranonce_len: Some(extranonce_len),
            target: target(&success.target),
            fixed_version: flags.contains(MiningSuccessFlags::REQUIRES_FIXED_VERSION),
            tip: None,
            future: VecDeque::new(),
            next_sequence_number: 1,
        })
    }

    pub(super) fn id(&self) -> ChannelId {
        self.id
    }

    /// Whether a message with that channel id is for this channel or its group.
    pub(super) fn is_meant(&self, channel_id: u32) -> bool {
        [self.id, self.group].contains(&ChannelId(channel_id))
    }

    pub(super) fn handle_standard_job(&mut self, job: &mining::NewMiningJob<'_>, now: Monotonic) -> Outcome {
        if ChannelId(job.channel_id) != self.id {
            return Ok(None);
        }
        if self.extranonce_len.is_some() {
            return Err(ClientError::Misbehaved("it sent a standard job to an extended channel"));
        }
        let (id, merkle_root) = (JobId(job.job_id), MerkleRoot::Fixed(*job.merkle_root.as_array()));
        // A standard job leaves the general purpose bits to the miner (spec 5.3.15).
        let version_rolling = !self.fixed_version;
        let min_ntime = job.min_ntime.as_ref().copied();
        self.take(Job { id, version: job.version, version_rolling, merkle_root }, min_ntime, now)
    }

    pub(super) fn handle_extended_job(
        &mut self,
        job: &mining::NewExtendedMiningJob<'_>,
        now: Monotonic,
    ) -> Outcome {
        if !self.is_meant(job.channel_id) {
            return Ok(None);
        }
        let root = MerkleRoot::Rolled {
            prefix: [job.coinbase_tx_prefix.as_bytes(), &self.extranonce_prefix].concat(),
            extranonce_len: self.extranonce_len.unwrap_or(0),
            suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
            path: job.merkle_path.iter().map(|hash| *hash.as_array()).collect(),
        };
        // A member of a group that is a standard channel has no extranonce of its own, so its root is fixed.
        let merkle_root = match self.extranonce_len {
            Some(_) => root,
            None => MerkleRoot::Fixed(root.with(&Extranonce::default())),
        };
        let version_rolling = job.version_rolling_allowed && !self.fixed_version;
        let min_ntime = job.min_ntime.as_ref().copied();
        let id = JobId(job.job_id);
        self.take(Job { id, version: job.version, version_rolling, merkle_root }, min_ntime, now)
    }

    /// Starts on a job, or keeps it if it is for a tip to come.
    fn take(&mut self, job: Job, min_ntime: Option<u32>, now: Monotonic) -> Outcome {
        let Some(min_ntime) = min_ntime else {
            // The server may reuse a number once the job that had it is no longer valid.
            self.future.retain(|other| other.id != job.id);
            if self.future.len() >= Self::FUTURE_JOBS_MAX {
                self.future.pop_front();
            }
            self.future.push_back(job);
            return Ok(None);
        };
        let Some(tip) = &self.tip else {
            return Err(ClientError::Misbehaved("it sent a job to start on before any SetNewPrevHash"));
        };
        Ok(Some(self.work(job, Arc::clone(tip), min_ntime, now)))
    }

    fn work(&self, job: Job, tip: Arc<Tip>, min_ntime: u32, now: Monotonic) -> Arc<Work> {
        Arc::new(Work {
            tip,
            job_id: job.id,
            version: job.version,
            version_rolling: job.version_rolling,
            min_ntime,
            since: now,
            // For a future job this is the target at its activation, for others that at their arrival (spec 5.3.21).
            target: self.target,
            merkle_root: job.merkle_root,
        })
    }

    pub(super) fn handle_prev_hash(&mut self, new: &mining::SetNewPrevHash<'_>, now: Monotonic) -> Outcome {
        if !self.is_meant(new.channel_id) {
            return Ok(None);
        }
        // Only the job that it names stays valid (spec 5.3.17).
        let named = core::mem::take(&mut self.future).into_iter().find(|job| job.id == JobId(new.job_id));
        let Some(job) = named else {
            return Err(ClientError::Misbehaved(
                "SetNewPrevHash names a job that was not sent as a future job",
            ));
        };
        let tip = Arc::new(Tip::new(*new.prev_hash.as_array(), new.nbits));
        self.tip = Some(Arc::clone(&tip));
        Ok(Some(self.work(job, tip, new.min_ntime, now)))
    }

    /// The target is for later jobs and future ones; the present work keeps its own (spec 5.3.21).
    pub(super) fn handle_target(&mut self, set: &mining::SetTarget<'_>) {
        if self.is_meant(set.channel_id) {
            self.target = target(&set.maximum_target);
        }
    }

    /// The prefix is for jobs that come later (spec 5.3.10).
    pub(super) fn handle_extranonce_prefix(&mut self, set: &mining::SetExtranoncePrefix<'_>) {
        if ChannelId(set.channel_id) == self.id {
            self.extranonce_prefix = set.extranonce_prefix.as_bytes().to_vec();
        }
    }

    pub(super) fn handle_group(&mut self, set: &mining::SetGroupChannel<'_>) {
        if set.channel_ids.iter().any(|id| ChannelId(*id) == self.id) {
            self.group = ChannelId(set.group_channel_id);
        }
    }

    pub(super) fn submit(
        &mut self,
        solution: &Solution,
        frames: &mut FrameQueue,
    ) -> Result<SequenceNumber, NotSubmitted> {
        // A tip is made once for each SetNewPrevHash of each connection, so being the same one is being up to date.
        let is_current = self.tip.as_ref().is_some_and(|tip| Arc::ptr_eq(tip, &solution.work.tip));
        if !is_current {
            return Err(NotSubmitted);
        }
        let sequence_number = self.next_sequence_number;
        self.next_sequence_number = sequence_number.wrapping_add(1);
        let (channel_id, job_id) = (self.id.0, solution.work.job_id.0);
        let Solution { nonce, ntime, version, extranonce, .. } = solution;
        let (nonce, ntime, version) = (*nonce, *ntime, *version);
        if self.extranonce_len.is_some() {
            let extranonce = wire(extranonce);
            push(
                frames,
                mining::SubmitSharesExtended {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce,
                },
            );
        } else {
            push(
                frames,
                mining::SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version },
            );
        }
        Ok(SequenceNumber(sequence_number))
    }
}

fn target(wire: &U256<'_>) -> Target {
    Target::from_le_bytes(*wire.as_array())
}

fn wire(extranonce: &Extranonce) -> B032<'_> {
    B032::try_from(extranonce.as_bytes()).expect("an extranonce has at most 32 bytes")
}

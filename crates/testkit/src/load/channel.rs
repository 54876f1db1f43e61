//! One channel of a load run: its jobs, the shares it finds, and those it waits to hear about.

use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::types::B032;
use adit_messages::{Message, encode, mining};
use adit_miner::{Extranonce, HeaderHasher, MerkleRoot, Tip, Work};
use adit_transport::FrameQueue;
use adit_units::{JobId, Monotonic, Target};
use bitcoin::CompactTarget;

/// Most jobs kept for a tip to come; the oldest make room.
const FUTURE_JOBS_MAX: usize = 16;

/// Most bytes of extranonce that a share can carry.
const EXTRANONCE_MAX: usize = 32;

/// Most hashes for one share. A load generator is to keep a server busy, not its own processor.
pub(super) const TRIES_MAX: u32 = 1 << 22;

/// No share was found within [`TRIES_MAX`] hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "shares of this pool take more than {TRIES_MAX} hashes each, too hard for a load generator: lower the pool's least difficulty"
)]
pub(super) struct TooHard;

/// A job as it came, shared by the channels of a group.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u32,
    pub(super) version: u32,
    pub(super) root: Root,
}

/// Where a job's merkle root comes from.
#[derive(Debug)]
pub(super) enum Root {
    Fixed([u8; 32]),
    Coinbase { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

/// What the channel mines now.
struct Active {
    job: Arc<Job>,
    ntime: u32,
    /// What the job was issued with.
    target: Target,
    next_nonce: u32,
    /// Only made when shares have to be looked for.
    hasher: Option<HeaderHasher>,
}

/// One channel that is open.
pub(super) struct Channel {
    pub(super) id: u32,
    pub(super) group: u32,
    extranonce_prefix: Vec<u8>,
    /// The miner's part, all zeros: jobs and prefixes differ, so nonces are enough. `None` on a standard channel.
    extranonce: Option<Vec<u8>>,
    target: Target,
    tip: Option<([u8; 32], u32)>,
    future: VecDeque<Arc<Job>>,
    active: Option<Active>,
    next_number: u32,
    /// Shares without an answer, oldest first, with the moment that each was due.
    waiting: VecDeque<(u32, Monotonic)>,
}

impl Channel {
    pub(super) fn standard(success: &mining::OpenStandardMiningChannelSuccess<'_>) -> Self {
        Self::new(
            (success.channel_id, success.group_channel_id),
            success.extranonce_prefix.as_bytes().to_vec(),
            None,
            Target::from_le_bytes(*success.target.as_array()),
        )
    }

    pub(super) fn extended(success: &mining::OpenExtendedMiningChannelSuccess<'_>) -> Self {
        Self::new(
            (success.channel_id, success.group_channel_id),
            success.extranonce_prefix.as_bytes().to_vec(),
            // A server that gives more than a share can carry is sent what one can carry, and says what it thinks of it.
            Some(vec![0; usize::from(success.extranonce_size).min(EXTRANONCE_MAX)]),
            Target::from_le_bytes(*success.target.as_array()),
        )
    }

    fn new(
        (id, group): (u32, u32),
        extranonce_prefix: Vec<u8>,
        extranonce: Option<Vec<u8>>,
        target: Target,
    ) -> Self {
        Self {
            id,
            group,
            extranonce_prefix,
            extranonce,
            target,
            tip: None,
            future: VecDeque::new(),
            active: None,
            next_number: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Whether there is something to mine.
    pub(super) const fn has_work(&self) -> bool {
        self.active.is_some()
    }

    /// How many shares wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in a job: to start on at once with `min_ntime`, else for a tip to come.
    pub(super) fn handle_job(&mut self, job: Arc<Job>, min_ntime: Option<u32>) {
        match min_ntime {
            Some(ntime) => self.start(job, ntime),
            None => {
                if self.future.len() >= FUTURE_JOBS_MAX {
                    self.future.pop_front();
                }
                self.future.push_back(job);
            }
        }
    }

    pub(super) fn handle_prev_hash(&mut self, new: &mining::SetNewPrevHash<'_>) {
        self.tip = Some((*new.prev_hash.as_array(), new.nbits));
        let named = core::mem::take(&mut self.future).into_iter().rfind(|job| job.id == new.job_id);
        match named {
            Some(job) => self.start(job, new.min_ntime),
            None => self.active = None,
        }
    }

    pub(super) fn handle_target(&mut self, target: Target) {
        self.target = target;
    }

    fn start(&mut self, job: Arc<Job>, ntime: u32) {
        self.active = Some(Active { job, ntime, target: self.target, next_nonce: 0, hasher: None });
    }

    /// Queues a share that is `due` now, if there is work; whether one was queued.
    pub(super) fn submit(&mut self, frames: &mut FrameQueue, due: Monotonic) -> Result<bool, TooHard> {
        let Some(nonce) = self.find()? else { return Ok(false) };
        self.queue(frames, nonce);
        self.waiting.push_back((self.next_number, due));
        self.next_number = self.next_number.wrapping_add(1);
        Ok(true)
    }

    /// Queues the share that the present job has with that nonce.
    fn queue(&self, frames: &mut FrameQueue, nonce: u32) {
        let Some(Active { job, ntime, .. }) = &self.active else { return };
        let (channel_id, sequence_number, job_id) = (self.id, self.next_number, job.id);
        let (ntime, version) = (*ntime, job.version);
        let message: Message<'_> = match &self.extranonce {
            None => {
                mining::SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version }
                    .into()
            }
            Some(extranonce) => mining::SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce: B032::try_from(extranonce.as_slice()).expect("it is never longer than that type"),
            }
            .into(),
        };
        encode(message, frames).expect("a share fits into a frame");
    }

    /// A nonce that makes a share; none without work. Where every hash is a share, nothing is hashed.
    fn find(&mut self) -> Result<Option<u32>, TooHard> {
        let Some(active) = &mut self.active else { return Ok(None) };
        // Servers differ in whether a new target holds for the present job; the harder one satisfies all.
        let target = active.target.min(self.target);
        let first = active.next_nonce;
        if target == Target::MAX {
            active.next_nonce = first.wrapping_add(1);
            return Ok(Some(first));
        }
        let Some(tip) = self.tip else { return Ok(None) };
        let hasher = active.hasher.get_or_insert_with(|| {
            let extranonce_len = self.extranonce.as_ref().map_or(0, Vec::len);
            hasher(&active.job, active.ntime, tip, &self.extranonce_prefix, extranonce_len)
        });
        let (nonce, _) = hasher.find(first..=first.saturating_add(TRIES_MAX), &target).ok_or(TooHard)?;
        active.next_nonce = nonce.wrapping_add(1);
        Ok(Some(nonce))
    }

    /// Shares up to `last` were accepted; gives `heard` the moments that they were due.
    pub(super) fn accepted(&mut self, last: u32, mut heard: impl FnMut(Monotonic)) {
        while let Some(&(number, due)) = self.waiting.front() {
            if number > last {
                return;
            }
            self.waiting.pop_front();
            heard(due);
        }
    }

    /// The share with that number was refused.
    pub(super) fn refused(&mut self, number: u32) {
        if let Ok(place) = self.waiting.binary_search_by_key(&number, |(number, _)| *number) {
            self.waiting.remove(place);
        }
    }
}

/// Ready to hash the headers of a job whose miner's extranonce is all zeros.
fn hasher(
    job: &Job,
    min_ntime: u32,
    (prev_hash, nbits): ([u8; 32], u32),
    extranonce_prefix: &[u8],
    extranonce_len: usize,
) -> HeaderHasher {
    let merkle_root = match &job.root {
        Root::Fixed(root) => MerkleRoot::Fixed(*root),
        Root::Coinbase { prefix, suffix, path } => {
            let zeros = vec![0; extranonce_len];
            let prefix = [prefix.as_slice(), extranonce_prefix, &zeros].concat();
            let rolled =
                MerkleRoot::Rolled { prefix, extranonce_len: 0, suffix: suffix.clone(), path: path.clone() };
            MerkleRoot::Fixed(rolled.with(&Extranonce::default()))
        }
    };
    let target = Target::from_compact(CompactTarget::from_consensus(nbits));
    let work = Work {
        tip: Arc::new(Tip { prev_hash, nbits, target }),
        job_id: JobId(job.id),
        version: job.version,
        version_rolling: false,
        min_ntime,
        since: Monotonic::from_micros(0),
        target,
        merkle_root,
    };
    let slice = work.slice(0).expect("a job has headers");
    HeaderHasher::new(&work.header(&slice))
}

#[cfg(test)]
mod tests {
    use adit_messages::types::U256;
    use adit_units::Work as Hashes;

    use super::*;

    fn channel(target: Target) -> Channel {
        let mut channel = Channel::new((2, 1), vec![7; 6], Some(vec![0; 14]), target);
        let root = Root::Coinbase { prefix: vec![1; 40], suffix: vec![2; 40], path: vec![[3; 32]] };
        channel.handle_job(Arc::new(Job { id: 5, version: 0x2000_0000, root }), None);
        assert!(!channel.has_work(), "its tip has not come");
        channel.handle_prev_hash(&mining::SetNewPrevHash {
            channel_id: 1,
            job_id: 5,
            prev_hash: U256::from(&[9; 32]),
            min_ntime: 1_700_000_000,
            nbits: 0x1d00_ffff,
        });
        channel
    }

    #[test]
    fn shares_that_cost_nothing_are_not_hashed() {
        let mut channel = channel(Target::MAX);
        assert_eq!([channel.find(), channel.find()], [Ok(Some(0)), Ok(Some(1))]);
        assert!(channel.active.unwrap().hasher.is_none());
    }

    #[test]
    fn harder_shares_are_real_ones() {
        let target = Target::from_work(Hashes::from_hashes(64));
        let mut channel = channel(target);
        let tip = channel.tip.unwrap();
        let nonces = [channel.find().unwrap().unwrap(), channel.find().unwrap().unwrap()];
        assert!(nonces[0] < nonces[1]);
        let active = channel.active.as_ref().unwrap();
        // The naive twin: the coinbase as one text, its root by the miner's own fold with the whole extranonce in the prefix.
        let coinbase = [vec![1; 40], vec![7; 6], vec![0; 14], vec![2; 40]].concat();
        let sha256d = |bytes: &[u8]| {
            use bitcoin::hashes::{Hash as _, sha256d};
            sha256d::Hash::hash(bytes).to_byte_array()
        };
        let root = sha256d(&[sha256d(&coinbase), [3; 32]].concat());
        for nonce in nonces {
            let header = [
                &active.job.version.to_le_bytes()[..],
                &tip.0,
                &root,
                &active.ntime.to_le_bytes(),
                &tip.1.to_le_bytes(),
                &nonce.to_le_bytes(),
            ]
            .concat();
            assert!(target.is_met_by(&sha256d(&header)));
        }
    }

    #[test]
    fn a_target_out_of_reach_is_said_to_be() {
        let target = Target::from_work(Hashes::from_hashes(1 << 60));
        assert_eq!(channel(target).find(), Err(TooHard));
    }

    #[test]
    fn answers_find_their_shares() {
        let (mut channel, mut frames) = (channel(Target::MAX), FrameQueue::default());
        for due in 0..5 {
            assert_eq!(channel.submit(&mut frames, Monotonic::from_micros(due)), Ok(true));
        }
        channel.refused(1);
        let mut heard = Vec::new();
        channel.accepted(2, |due| heard.push(due.to_micros()));
        assert_eq!(heard, [0, 2]);
        assert_eq!(channel.waiting(), 2);
        channel.refused(9);
        assert_eq!(channel.waiting(), 2, "an answer to nothing changes nothing");
        assert_eq!(frames.iter().count(), 5);
    }

    #[test]
    fn a_tip_without_a_job_leaves_nothing_to_do() {
        let mut channel = channel(Target::MAX);
        channel.handle_prev_hash(&mining::SetNewPrevHash {
            channel_id: 1,
            job_id: 6,
            prev_hash: U256::from(&[8; 32]),
            min_ntime: 1,
            nbits: 1,
        });
        assert_eq!(channel.submit(&mut FrameQueue::default(), Monotonic::from_micros(0)), Ok(false));
    }
}

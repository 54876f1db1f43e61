//! Jobs as the pool sends them, and as they are once it is known what they stand on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_messages::mining;
use adit_share::{Job, JobParts, Tip};
use adit_units::{Height, JobId};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget};

use super::UpstreamError;

/// The most bytes of jobs for tips to come that are kept for one connection; a job has one or two thousand.
pub(super) const JOB_BYTES_MAX: usize = 64 << 20;

/// How much memory the jobs of a connection take, shared ones counted once.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Takes that many bytes until the charge is dropped.
    fn charge(&self, bytes: usize) -> Result<Charge, UpstreamError> {
        let charge = Charge { budget: self.clone(), bytes };
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > JOB_BYTES_MAX {
            return Err(UpstreamError::TooMuch("jobs for tips to come"));
        }
        Ok(charge)
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that are taken.
#[derive(Debug)]
struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a job is before its tip is known; those of a group share one.
#[derive(Debug)]
pub(super) struct JobBody {
    pub(super) id: u32,
    version: u32,
    version_rolling_allowed: bool,
    coinbase_prefix: Box<[u8]>,
    coinbase_suffix: Box<[u8]>,
    merkle_path: Vec<[u8; 32]>,
    _charge: Charge,
}

impl JobBody {
    pub(super) fn new(
        job: &mining::NewExtendedMiningJob<'_>,
        fixed_version: bool,
        budget: &Budget,
    ) -> Result<Arc<Self>, UpstreamError> {
        let (prefix, suffix) = (job.coinbase_tx_prefix.as_bytes(), job.coinbase_tx_suffix.as_bytes());
        let merkle_path: Vec<_> = job.merkle_path.iter().map(|hash| *hash.as_array()).collect();
        let bytes = size_of::<Self>() + prefix.len() + suffix.len() + size_of_val(&*merkle_path);
        Ok(Arc::new(Self {
            id: job.job_id,
            version: job.version,
            version_rolling_allowed: job.version_rolling_allowed && !fixed_version,
            coinbase_prefix: prefix.into(),
            coinbase_suffix: suffix.into(),
            merkle_path,
            _charge: budget.charge(bytes)?,
        }))
    }

    fn job(&self, base: &Base, min_ntime: u32, extranonce_len: usize) -> Result<Job, UpstreamError> {
        let height = height(&self.coinbase_prefix);
        Job::from_parts(JobParts {
            // What tells it from others is its source, so that jobs of several channels can be one.
            id: JobId(0),
            tip: Tip::new(base.prev_hash, height, base.nbits, base.min_ntime),
            min_ntime,
            version: self.version,
            version_rolling_allowed: self.version_rolling_allowed,
            coinbase_prefix: &self.coinbase_prefix,
            coinbase_suffix: &self.coinbase_suffix,
            extranonce_len,
            merkle_path: self.merkle_path.clone(),
        })
        .map_err(|_| UpstreamError::Misbehaved("it sent a job that no block can be made of"))
    }
}

/// The height that a coinbase begins its input script with (BIP 34), or zero where there is none; it is for people to read.
pub(crate) fn height(coinbase_prefix: &[u8]) -> Height {
    // Version, number of inputs, the outpoint that does not exist, length of the script.
    const SCRIPT_AT: usize = 4 + 1 + 36 + 1;
    let script = coinbase_prefix.get(SCRIPT_AT..).unwrap_or_default();
    Height(match script {
        [small @ 0x51..=0x60, ..] => u32::from(small - 0x50),
        [len @ 1..=4, rest @ ..] => {
            let bytes = rest.get(..usize::from(*len)).unwrap_or_default();
            bytes.iter().rev().fold(0, |height, &byte| height << 8 | u32::from(byte))
        }
        _ => 0,
    })
}

/// What jobs stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Base {
    prev_hash: BlockHash,
    nbits: CompactTarget,
    min_ntime: u32,
}

/// What `SetNewPrevHash` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainEnd {
    base: Base,
    /// Rises with each `SetNewPrevHash` of the connection.
    pub(super) generation: u64,
}

impl ChainEnd {
    pub(super) fn new(set: &mining::SetNewPrevHash<'_>, generation: u64) -> Self {
        let base = Base {
            prev_hash: BlockHash::from_byte_array(*set.prev_hash.as_array()),
            nbits: CompactTarget::from_consensus(set.nbits),
            min_ntime: set.min_ntime,
        };
        Self { base, generation }
    }

    pub(super) const fn min_ntime(&self) -> u32 {
        self.base.min_ntime
    }
}

/// The jobs that one message has made, so that the channels of a group share them, whenever each of them was told of the tip.
///
/// Pools without groups send each channel a job of its own, which is the one that the channel before it was sent too, or differs in whom it
/// pays: what is the same is held once.
#[derive(Debug)]
pub(super) struct Made {
    jobs: BTreeMap<(usize, Base, usize), Arc<Job>>,
    newest: Option<Arc<Job>>,
}

impl Made {
    /// None yet, and the job that the connection has made last.
    pub(super) const fn like(newest: Option<Arc<Job>>) -> Self {
        Self { jobs: BTreeMap::new(), newest }
    }

    /// The job that the connection has made last.
    pub(super) fn into_newest(self) -> Option<Arc<Job>> {
        self.newest
    }

    /// The job on that tip for extranonces of that length.
    pub(super) fn job(
        &mut self,
        body: &Arc<JobBody>,
        chain: &ChainEnd,
        min_ntime: u32,
        extranonce_len: usize,
    ) -> Result<Arc<Job>, UpstreamError> {
        let name = (Arc::as_ptr(body).addr(), chain.base, extranonce_len);
        if let Some(job) = self.jobs.get(&name) {
            return Ok(Arc::clone(job));
        }
        let job = body.job(&chain.base, min_ntime, extranonce_len)?;
        let job = match &self.newest {
            Some(newest) if **newest == job => Arc::clone(newest),
            Some(newest) => Arc::new(job.held_with(newest)),
            None => Arc::new(job),
        };
        self.newest = Some(Arc::clone(&job));
        self.jobs.insert(name, Arc::clone(&job));
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_height_is_read_as_bip34_writes_it() {
        let with = |script: &[u8]| height(&[&[0; 42], script].concat());
        assert_eq!(with(&[3, 0xa0, 0xbb, 0x0d, 9]), Height(900_000));
        assert_eq!(with(&[1, 17]), Height(17));
        assert_eq!(with(&[0x51]), Height(1));
        assert_eq!(with(&[0x60]), Height(16));
        assert_eq!(with(&[4, 1, 0, 0, 1]), Height(0x0100_0001));
        for none in [&[][..], &[0], &[3, 1, 2], &[5, 1, 2, 3, 4, 5], &[0x61]] {
            assert_eq!(with(none), Height(0));
        }
        assert_eq!(height(&[1; 10]), Height(0));
    }

    #[test]
    fn what_is_charged_comes_back() {
        let budget = Budget::default();
        let charge = budget.charge(JOB_BYTES_MAX).unwrap();
        assert!(matches!(budget.charge(1), Err(UpstreamError::TooMuch(_))));
        assert_eq!(budget.used(), JOB_BYTES_MAX);
        drop(charge);
        assert_eq!(budget.used(), 0);
        assert!(budget.charge(1).is_ok());
    }
}

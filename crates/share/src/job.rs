//! A job: everything that shares on one coinbase and one set of transactions have in common.

use std::sync::Arc;

use adit_units::{Height, JobId, JobTag, Sats, TemplateId};

use crate::coinbase::{self, Coinbase};
use crate::header::Header;
use crate::{Block, CoinbaseSpec, ExtranonceLengthError, HEADER_LEN, Template, Tip, merkle};

/// Greatest weight of a block, in weight units (consensus, BIP 141).
pub const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
/// Greatest cost of a block's signature operations (consensus, BIP 141).
pub const MAX_BLOCK_SIGOPS: u64 = 80_000;
/// Greatest length of a merkle path (the wire type is `SEQ0_255`).
pub const MAX_MERKLE_PATH_LEN: usize = 255;

/// A job that cannot be made; its maker's configuration or payouts are at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The payouts are not what the coinbase creates.
    #[error("the payouts do not add up to the coinbase's {coinbase_value}")]
    Payouts {
        /// The sum of the payouts, or `None` if it is beyond all money.
        payouts: Option<Sats>,
        /// What the template lets the coinbase create.
        coinbase_value: Sats,
    },
    /// There is no payout at all.
    #[error("the coinbase pays nobody; name at least one payout, even if it is worth nothing")]
    NoPayout,
    /// A push in the input script needs more than one byte to announce it.
    #[error("{len} bytes are too long for one push in the coinbase's input script; shorten the signature")]
    PushTooLong {
        /// The length of the pushed data, in bytes.
        len: usize,
    },
    /// The input script is longer or shorter than consensus allows.
    #[error(
        "the coinbase's input script would have {len} bytes; consensus allows 2 to 100, so shorten the signature"
    )]
    ScriptSigLength {
        /// The length of the script, in bytes.
        len: usize,
    },
    /// The extranonce is longer than the wire can carry.
    #[error("an extranonce of {len} bytes is too long; at most 32 are allowed")]
    ExtranonceTooLong {
        /// The length of the extranonce, in bytes.
        len: usize,
    },
    /// A part of the coinbase is longer than the wire can carry.
    #[error("a coinbase part of {len} bytes is too long for its message; pay fewer outputs")]
    CoinbaseTooLong {
        /// The length of the part, in bytes.
        len: usize,
    },
    /// The merkle path is longer than the wire can carry.
    #[error("a merkle path of {len} steps is too long; at most 255 are allowed")]
    PathTooLong {
        /// The number of steps.
        len: usize,
    },
    /// The block would be heavier than consensus allows.
    #[error(
        "the block would weigh {weight}, more than 4000000; pay fewer outputs or have the node reserve more room"
    )]
    TooHeavy {
        /// The block's weight, in weight units.
        weight: u64,
    },
    /// The block would have more signature operations than consensus allows.
    #[error(
        "the block's signature operations would cost {sigops}, more than 80000; pay fewer outputs that need them"
    )]
    TooManySigops {
        /// The cost of the signature operations.
        sigops: u64,
    },
}

/// A job as a message describes it, for those who did not make its coinbase themselves.
#[derive(Clone, Debug)]
pub struct JobParts<'a> {
    /// The job's number.
    pub id: JobId,
    /// What the block will stand on.
    pub tip: Tip,
    /// The smallest time that shares may carry, in seconds since 1970.
    pub min_ntime: u32,
    /// The block's version.
    pub version: u32,
    /// Whether miners may change the free bits of the version.
    pub version_rolling_allowed: bool,
    /// The coinbase up to the extranonce, without witness.
    pub coinbase_prefix: &'a [u8],
    /// The coinbase after the extranonce, without witness.
    pub coinbase_suffix: &'a [u8],
    /// Length of the extranonce, prefix and rolled part together, in bytes.
    pub extranonce_len: usize,
    /// The coinbase's neighbours up the merkle tree, deepest first, in raw byte order.
    pub merkle_path: Vec<[u8; 32]>,
}

/// A job; immutable, and shared by all channels that work on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    id: JobId,
    template_id: Option<TemplateId>,
    tag: Option<JobTag>,
    tip: Tip,
    min_ntime: u32,
    version: u32,
    version_rolling_allowed: bool,
    coinbase: Coinbase,
    merkle_path: Arc<[[u8; 32]]>,
    header: Header,
}

impl Job {
    /// The job that mines `template` with the coinbase that `spec` describes; version rolling is allowed.
    ///
    /// # Errors
    ///
    /// If the payouts do not pay out the coinbase's value exactly, or if the coinbase or the block would exceed a limit of
    /// consensus or of the wire.
    pub fn new(id: JobId, template: &Template, spec: &CoinbaseSpec) -> Result<Self, JobError> {
        let coinbase = spec.write(template)?;
        check_limits(template, spec, &coinbase)?;
        let job = Self::assemble(id, template.tip, coinbase, template.merkle_path.as_slice().into())?;
        Ok(Self {
            template_id: Some(template.id),
            tag: Some(spec.tag),
            min_ntime: template.time,
            version: template.version,
            ..job
        })
    }

    /// A job whose coinbase someone else has made.
    ///
    /// Its coinbase may be that of another job too, as no tag sets it apart. Where its shares earn, whoever keeps count of them must
    /// look at header hashes, because a [`crate::Seen`] set tells such jobs apart by their numbers.
    ///
    /// # Errors
    ///
    /// If a part is longer than the wire could carry it.
    pub fn from_parts(parts: JobParts<'_>) -> Result<Self, JobError> {
        let coinbase = Coinbase::new(parts.coinbase_prefix, parts.coinbase_suffix, parts.extranonce_len)?;
        let job = Self::assemble(parts.id, parts.tip, coinbase, parts.merkle_path.into())?;
        Ok(Self {
            min_ntime: parts.min_ntime,
            version: parts.version,
            version_rolling_allowed: parts.version_rolling_allowed,
            ..job
        })
    }

    /// What somebody would tell of it who has it made elsewhere: [`Self::from_parts`] makes a job of that which pays and hashes alike, and knows
    /// of no template and no tag.
    #[must_use]
    pub fn parts(&self) -> JobParts<'_> {
        JobParts {
            id: self.id,
            tip: self.tip,
            min_ntime: self.min_ntime,
            version: self.version,
            version_rolling_allowed: self.version_rolling_allowed,
            coinbase_prefix: self.coinbase_prefix(),
            coinbase_suffix: self.coinbase_suffix(),
            extranonce_len: self.extranonce_len(),
            merkle_path: self.merkle_path.to_vec(),
        }
    }

    /// The job of that number and version with the coinbase that somebody has declared, on that tip and from that time on.
    pub(crate) fn declared(
        (id, version): (JobId, u32),
        (tip, min_ntime): (Tip, u32),
        coinbase: Coinbase,
        path: Arc<[[u8; 32]]>,
    ) -> Result<Self, JobError> {
        Ok(Self { min_ntime, version, ..Self::assemble(id, tip, coinbase, path)? })
    }

    fn assemble(id: JobId, tip: Tip, coinbase: Coinbase, path: Arc<[[u8; 32]]>) -> Result<Self, JobError> {
        if path.len() > MAX_MERKLE_PATH_LEN {
            return Err(JobError::PathTooLong { len: path.len() });
        }
        Ok(Self {
            id,
            template_id: None,
            tag: None,
            tip,
            min_ntime: tip.min_ntime,
            version: 0,
            version_rolling_allowed: true,
            coinbase,
            merkle_path: path,
            header: Header::on(&tip),
        })
    }

    /// The same job, with version rolling allowed or not.
    #[must_use]
    pub fn with_version_rolling(self, allowed: bool) -> Self {
        Self { version_rolling_allowed: allowed, ..self }
    }

    /// The same job. What it has in common with the other one of coinbase and merkle path, both hold together from now on: for jobs that a
    /// pool sends to each channel by itself although they differ in little.
    #[must_use]
    pub fn held_with(self, other: &Self) -> Self {
        let is_same_path = self.merkle_path == other.merkle_path;
        Self {
            coinbase: self.coinbase.held_with(&other.coinbase),
            merkle_path: if is_same_path { Arc::clone(&other.merkle_path) } else { self.merkle_path },
            ..self
        }
    }

    /// The job's number on the wire.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// The template that the job mines, unless someone else made the coinbase.
    #[must_use]
    pub const fn template_id(&self) -> Option<TemplateId> {
        self.template_id
    }

    /// The mark in the coinbase, unless someone else made it.
    #[must_use]
    pub const fn tag(&self) -> Option<JobTag> {
        self.tag
    }

    /// What the block will stand on.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The height of the block being mined.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.tip.height
    }

    /// The smallest time that shares may carry, in seconds since 1970, and the one that miners start with.
    #[inline]
    #[must_use]
    pub const fn min_ntime(&self) -> u32 {
        self.min_ntime
    }

    /// The block's version, before miners roll its free bits.
    #[inline]
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Whether miners may change the free bits of the version.
    #[inline]
    #[must_use]
    pub const fn version_rolling_allowed(&self) -> bool {
        self.version_rolling_allowed
    }

    /// The coinbase up to the extranonce, without witness (spec 5.3.16).
    #[must_use]
    pub fn coinbase_prefix(&self) -> &[u8] {
        self.coinbase.prefix()
    }

    /// The coinbase after the extranonce, without witness (spec 5.3.16).
    #[must_use]
    pub fn coinbase_suffix(&self) -> &[u8] {
        self.coinbase.suffix()
    }

    /// Length of the extranonce, prefix and rolled part together, in bytes.
    #[must_use]
    pub fn extranonce_len(&self) -> usize {
        self.coinbase.extranonce_len()
    }

    /// The coinbase's neighbours up the merkle tree, deepest first, in raw byte order.
    #[must_use]
    pub fn merkle_path(&self) -> &[[u8; 32]] {
        &self.merkle_path
    }

    /// The merkle root with `extranonce` in the coinbase, in raw byte order; what a standard channel works on (spec 5.1.2.1).
    ///
    /// # Errors
    ///
    /// If the extranonce has not the job's length.
    pub fn merkle_root(&self, extranonce: &[u8]) -> Result<[u8; 32], ExtranonceLengthError> {
        let (given, room) = (extranonce.len(), self.extranonce_len());
        if given != room {
            return Err(ExtranonceLengthError { given, room });
        }
        Ok(self.root_over(extranonce, &[]))
    }

    /// The merkle root with an extranonce whose length, of both parts together, was checked.
    #[inline]
    pub(crate) fn root_over(&self, extranonce_prefix: &[u8], rolled: &[u8]) -> [u8; 32] {
        merkle::fold(self.coinbase.txid(extranonce_prefix, rolled), &self.merkle_path)
    }

    /// The merkle roots of two shares at once, as [`Self::root_over`] makes each of them.
    #[inline]
    pub(crate) fn roots_over(
        jobs: [&Self; 2],
        extranonce_prefixes: [&[u8]; 2],
        rolled: [&[u8]; 2],
    ) -> [[u8; 32]; 2] {
        let leaves = Coinbase::txid_of_two(jobs.map(|job| &job.coinbase), extranonce_prefixes, rolled);
        merkle::fold_two(leaves, jobs.map(|job| &*job.merkle_path))
    }

    /// The header as far as all shares have it in common.
    #[inline]
    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// The block with `header` over `extranonce`, as [`crate::Verdict::Block`] and [`crate::Assignment::extranonce`] give them.
    ///
    /// `template` is the one that the job was made from; with any other, [`Block::check`] fails.
    #[must_use]
    pub fn block(&self, template: &Arc<Template>, header: [u8; HEADER_LEN], extranonce: &[u8]) -> Block {
        let coinbase = self.coinbase.to_bytes(extranonce, template.has_witness_commitment());
        Block::new(header, coinbase, Arc::clone(template))
    }
}

/// That the block, with this coinbase, stays within what consensus allows.
fn check_limits(template: &Template, spec: &CoinbaseSpec, coinbase: &Coinbase) -> Result<(), JobError> {
    let count = bitcoin::VarInt::from(template.transactions.len() + 1);
    let base = (HEADER_LEN + count.size()) as u64 * 4;
    let weight = base + coinbase.weight(template.has_witness_commitment()) + template.weight;
    if weight > MAX_BLOCK_WEIGHT {
        return Err(JobError::TooHeavy { weight });
    }
    let sigops = u64::from(template.sigops) + coinbase::sigops(&spec.payouts);
    if sigops > MAX_BLOCK_SIGOPS {
        return Err(JobError::TooManySigops { sigops });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf, TxOut};

    use super::*;
    use crate::fixture;

    fn template() -> Arc<Template> {
        fixture::template(1, fixture::tip(900_000, 0x1702_0000), 5)
    }

    #[test]
    fn a_job_says_what_its_template_and_its_coinbase_say() {
        let template = template();
        let spec = fixture::spec(&template, JobId(9), 1);
        let job = Job::new(JobId(9), &template, &spec).unwrap();
        assert_eq!(job.id(), JobId(9));
        assert_eq!(job.template_id(), Some(template.id));
        assert_eq!(job.tag(), Some(spec.tag));
        assert_eq!(*job.tip(), template.tip);
        assert_eq!(job.height(), Height(900_001));
        assert_eq!(job.min_ntime(), fixture::TIME);
        assert_eq!(job.version(), 0x2000_0000);
        assert!(job.version_rolling_allowed());
        assert!(!job.clone().with_version_rolling(false).version_rolling_allowed());
        assert_eq!(job.merkle_path(), template.merkle_path);
        assert_eq!(job.extranonce_len(), 20);
    }

    #[test]
    fn a_job_made_of_the_parts_of_another_hashes_the_same() {
        let template = template();
        let job = Job::new(JobId(9), &template, &fixture::spec(&template, JobId(9), 3)).unwrap();
        let copy = Job::from_parts(job.parts()).unwrap();
        assert_eq!(copy, Job { template_id: None, tag: None, ..job.clone() });
        assert_eq!(copy.merkle_root(&[4; 20]), job.merkle_root(&[4; 20]));
    }

    #[test]
    fn what_two_jobs_have_in_common_is_held_once() {
        let template = template();
        let job = Job::new(JobId(9), &template, &fixture::spec(&template, JobId(9), 3)).unwrap();
        let longer = [job.coinbase_suffix(), &[0]].concat();
        let other_path = job.merkle_path().iter().rev().copied().chain([[9; 32]]).collect();
        let of = |parts: JobParts<'_>| Job::from_parts(parts).unwrap();
        let held = |made: &Job, other: &Job| {
            let held = made.clone().held_with(other);
            assert_eq!(held, *made, "it stays what it is");
            assert_eq!(held.merkle_root(&[4; 20]), made.merkle_root(&[4; 20]));
            let path = Arc::ptr_eq(&held.merkle_path, &other.merkle_path);
            (core::ptr::eq(held.coinbase_prefix(), other.coinbase_prefix()), path)
        };
        let first = of(job.parts());
        assert_eq!(held(&of(JobParts { id: JobId(10), ..job.parts() }), &first), (true, true));
        let paid_elsewhere = of(JobParts { coinbase_suffix: &longer, ..job.parts() });
        assert_eq!(held(&paid_elsewhere, &first), (false, true));
        assert_eq!(held(&of(JobParts { merkle_path: other_path, ..job.parts() }), &first), (true, false));
    }

    #[test]
    fn parts_that_the_wire_could_not_carry_are_refused() {
        let template = template();
        let job = Job::new(JobId(9), &template, &fixture::spec(&template, JobId(9), 1)).unwrap();
        let long = vec![0; 0x1_0000];
        let error = |parts| Job::from_parts(parts).unwrap_err();
        let too_long = JobError::CoinbaseTooLong { len: 0x1_0000 };
        assert_eq!(error(JobParts { coinbase_prefix: &long, ..job.parts() }), too_long);
        assert_eq!(error(JobParts { coinbase_suffix: &long, ..job.parts() }), too_long);
        let too_long = JobError::ExtranonceTooLong { len: 33 };
        assert_eq!(error(JobParts { extranonce_len: 33, ..job.parts() }), too_long);
        let too_long = JobError::PathTooLong { len: 256 };
        assert_eq!(error(JobParts { merkle_path: vec![[0; 32]; 256], ..job.parts() }), too_long);
        assert!(Job::from_parts(JobParts { merkle_path: vec![[0; 32]; 255], ..job.parts() }).is_ok());
    }

    #[test]
    fn a_coinbase_that_makes_the_block_too_heavy_is_refused() {
        let mut template = Template::clone(&template());
        let spec = fixture::spec(&template, JobId(9), 100);
        let weight = {
            let job = Job::new(JobId(9), &template, &spec).unwrap();
            let coinbase = job.coinbase.to_bytes(&[0; 20], true);
            let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(&coinbase).unwrap();
            (80 + 1) * 4 + coinbase.weight().to_wu()
        };
        template.weight = MAX_BLOCK_WEIGHT - weight;
        assert!(Job::new(JobId(9), &template, &spec).is_ok());
        template.weight += 1;
        let error = JobError::TooHeavy { weight: MAX_BLOCK_WEIGHT + 1 };
        assert_eq!(Job::new(JobId(9), &template, &spec), Err(error));
    }

    #[test]
    fn a_coinbase_that_makes_too_many_signature_operations_is_refused() {
        let mut template = Template::clone(&template());
        let mut spec = fixture::spec(&template, JobId(9), 1);
        // A payment to a key hash in the old form counts as one operation, which costs four.
        let old_form = [&[0x76, 0xa9, 0x14][..], &[7; 20], &[0x88, 0xac]].concat();
        spec.payouts.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(old_form) });
        template.sigops = 79_996;
        assert!(Job::new(JobId(9), &template, &spec).is_ok());
        template.sigops = 79_997;
        let error = JobError::TooManySigops { sigops: 80_001 };
        assert_eq!(Job::new(JobId(9), &template, &spec), Err(error));
    }

    #[test]
    fn the_merkle_root_wants_the_whole_extranonce() {
        let template = template();
        let job = Job::new(JobId(9), &template, &fixture::spec(&template, JobId(9), 1)).unwrap();
        assert_eq!(job.merkle_root(&[0; 19]), Err(ExtranonceLengthError { given: 19, room: 20 }));
        assert_ne!(job.merkle_root(&[0; 20]), job.merkle_root(&[1; 20]));
    }
}

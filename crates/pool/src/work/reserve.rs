//! The job held in reserve: an empty block for the next height, which miners have before anybody knows what it will stand on.

use core::time::Duration;
use std::sync::Arc;

use adit_channel::ExtranonceBase;
use adit_share::{CoinbaseSpec, Job, Template, TemplateParts, Tip, witness_commitment};
use adit_units::{ChannelId, Height, JobId, Monotonic, Now, Sats, TemplateId};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget, TxOut};

use super::{
    Broadcast, Distribution, JobFactory, Latest, Place, Work, WorkError, check_room, new_extended_mining_job,
    variant,
};
use crate::EmptyJobs;

/// How long a tip must have stood before miners are given the job for the next one: by then all of them have the present one.
pub const RESERVE_DELAY: Duration = Duration::from_secs(2);

/// The number of a template that no node has given.
const OWN_TEMPLATE: TemplateId = TemplateId(0);

/// A job for the next height that creates the subsidy and holds no transaction but its coinbase.
///
/// Nothing that miners are sent of it depends on the block below: `SetNewPrevHash` adds that (spec 5.3.17).
#[derive(Debug)]
pub(crate) struct Reserve {
    height: Height,
    /// As the job of a tip that nobody has: only what it is without one is ever used.
    pattern: Job,
    /// What miners were given, even where the rules for coinbases have changed since.
    coinbase: CoinbaseSpec,
    extranonce: ExtranonceBase,
    version: u32,
    subsidy: Sats,
    /// `NewExtendedMiningJob` without `min_ntime`.
    pub(crate) future_job: Broadcast,
}

impl Reserve {
    /// The number that the job has, now and when it is mined.
    pub(crate) fn id(&self) -> JobId {
        self.pattern.id()
    }

    /// The block's version.
    pub(crate) const fn version(&self) -> u32 {
        self.version
    }

    /// What a standard channel with this extranonce works on.
    pub(crate) fn merkle_root(&self, extranonce: &[u8]) -> [u8; 32] {
        self.pattern
            .merkle_root(extranonce)
            .expect("every job of a server has an extranonce of the full length")
    }

    /// The job as it is for those whose blocks pay in another way.
    pub(crate) fn variant(&self, distribution: &Distribution) -> Job {
        let template = self.template(nowhere(self.height), 0).expect("as when the reserve was made");
        variant(self.id(), &template, &self.coinbase, distribution)
    }

    /// What a standard channel with this extranonce works on whose blocks pay in another way.
    pub(crate) fn variant_root(&self, distribution: &Distribution, extranonce: &[u8]) -> [u8; 32] {
        let root = self.variant(distribution).merkle_root(extranonce);
        root.expect("every job of a server has an extranonce of the full length")
    }

    /// The empty block on `tip`, which is at the reserve's height.
    fn template(&self, tip: Tip, time: u32) -> Result<Template, WorkError> {
        Ok(empty_template(tip, self.version, self.subsidy, time)?)
    }
}

impl JobFactory {
    /// A node has a new tip, whose template may take it a while: makes work of the job that miners hold in reserve.
    ///
    /// Answers nothing where there is no such job, as when [`EmptyJobs::Never`] is configured, or where the tip is not one block
    /// above the present one; then miners are best left with what they have until the template comes.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_template`].
    pub fn handle_tip(&mut self, tip: &Tip, now: Now) -> Result<Option<Arc<Work>>, WorkError> {
        let Some(latest) = &self.latest else { return Ok(None) };
        let Some(reserve) = latest.work.reserve.clone() else { return Ok(None) };
        if self.empty_jobs == EmptyJobs::Never {
            // Since the reserve was made, that is.
            return Ok(None);
        }
        if tip.height != reserve.height || tip.prev_hash == latest.work.tip().prev_hash {
            return Ok(None);
        }
        let node_time = latest.work.node_time;
        let (id, template) = (reserve.id(), reserve.template(*tip, node_time.at(now.monotonic))?);
        let job = Job::new(id, &template, &reserve.coinbase)?;
        let announced = (reserve.pattern.coinbase_prefix(), reserve.pattern.coinbase_suffix());
        if announced != (job.coinbase_prefix(), job.coinbase_suffix()) {
            // The coinbase does not depend on what the block stands on; a miner's work must never hang on that alone.
            tracing::error!(job = id.0, "the job held in reserve is not what miners were given");
            return Ok(None);
        }
        let place = self.place(tip.prev_hash, node_time, true, now.monotonic);
        let place = Place { extranonce: reserve.extranonce, ..place };
        let is_outdated = latest.is_outdated;
        let work = self.put_up(Work::new(Arc::new(template), job, reserve.coinbase.clone(), place), now);
        if let Some(latest) = &mut self.latest {
            latest.is_outdated = is_outdated;
        }
        Ok(Some(work))
    }

    /// When the job for the next tip should be made, if it is missing.
    pub(super) fn reserve_due(&self) -> Option<Monotonic> {
        let EmptyJobs::UntilTemplate = self.empty_jobs else { return None };
        // A job by the rules of now comes first, or a session would have two kinds of jobs.
        let Latest { work, not_before, .. } = self.latest.as_ref().filter(|latest| !latest.is_outdated)?;
        let is_due = work.reserve.is_none() && self.reserve_fault.is_none();
        is_due.then(|| (work.tip_seen + RESERVE_DELAY).max(*not_before))
    }

    /// The present work with a job for the next tip; nothing if there can be none, which is said once.
    pub(super) fn put_by(&mut self, now: Now) -> Result<Option<Arc<Work>>, WorkError> {
        let Some(latest) = &self.latest else { return Ok(None) };
        let Latest { work, made, newest, is_wished, .. } = latest;
        let (work, made, newest, is_wished) = (Arc::clone(work), *made, *newest, *is_wished);
        let reserve = match self.reserve_after(&work, work.node_time.at(now.monotonic)) {
            Ok(reserve) => reserve,
            Err(WorkError::NumbersExhausted) => return Err(WorkError::NumbersExhausted),
            Err(fault) => {
                tracing::error!(error = %fault, "no job for the next tip");
                self.reserve_fault = Some(fault);
                return Ok(None);
            }
        };
        self.last_id = reserve.id();
        let order = self.last_order + 1;
        let work = Work { order, reserve: Some(Arc::new(reserve)), ..Work::clone(&work) };
        let work = self.put_up(work, now);
        if let Some(latest) = &mut self.latest {
            // The job is as old as it was, and waited for as it was.
            (latest.made, latest.newest, latest.is_wished) = (made, newest, is_wished);
        }
        Ok(Some(work))
    }

    /// A job for the height above that of `work`.
    fn reserve_after(&self, work: &Work, time: u32) -> Result<Reserve, WorkError> {
        let template = work.template();
        let (height, interval) = (template.tip.height, self.halving_interval);
        let configured = Sats::subsidy(height, interval);
        if template.subsidy != configured {
            return Err(WorkError::Subsidy { height, node: template.subsidy, configured, interval });
        }
        let (id, height) = (self.next_id()?, Height(height.0.saturating_add(1)));
        let (subsidy, version) = (Sats::subsidy(height, interval), template.version);
        let template = empty_template(nowhere(height), version, subsidy, time)?;
        let coinbase = self.coinbase(id, &template);
        let pattern = Job::new(id, &template, &coinbase)?;
        check_room(id, &template, &coinbase)?;
        let future_job = Broadcast::new(&new_extended_mining_job(&pattern, ChannelId(0), None));
        Ok(Reserve { height, coinbase, extranonce: self.extranonce, version, subsidy, future_job, pattern })
    }
}

/// A tip at that height, of which nothing else is known.
fn nowhere(height: Height) -> Tip {
    Tip::new(BlockHash::all_zeros(), height, CompactTarget::from_consensus(0), 0)
}

/// A block on `tip` with no transaction but its coinbase.
///
/// It commits to the witnesses of none, which BIP 141 leaves open and BIP 325 does not: without a commitment there is no place for the
/// solution that every block of a signet has, and be it an empty one.
fn empty_template(
    tip: Tip,
    version: u32,
    subsidy: Sats,
    time: u32,
) -> Result<Template, adit_share::TemplateError> {
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&[]) };
    Template::new(TemplateParts {
        id: OWN_TEMPLATE,
        tip,
        version,
        time,
        coinbase_value: subsidy,
        subsidy,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: vec![commitment],
    })
}

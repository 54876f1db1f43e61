//! From template to work: one job for all connections, its messages serialised once.

use core::time::Duration;
use std::sync::Arc;

use adit_messages::types::{B064K, Seq0255, Sv2Option, U256};
use adit_messages::{Message, MessageInfo, mining};
use adit_share::{CoinbaseSpec, FULL_EXTRANONCE_LEN, Job, JobError, Template, Tip};
use adit_transport::{FrameQueue, PayloadTooLong};
use adit_units::{ChannelId, JobId, JobTag, Monotonic, Now};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, TxOut};

use crate::{PoolConfig, PoolConfigError};

/// How old a job may become before the same template is mined with a newer time.
///
/// Identical work is not sent again before that, because firmware restarts its pipeline for every new job. Much older work would
/// run into the bound on a share's time, which counts from the job's.
pub const JOB_AGE_MAX: Duration = Duration::from_secs(60);

/// What all connections mine: a template, the job made from it, and the job's messages.
///
/// Immutable and shared. Template and tip travel as one value, so nobody can ever see half of them.
#[derive(Debug)]
pub struct Work {
    template: Arc<Template>,
    job: Job,
    tag: JobTag,
    /// `NewExtendedMiningJob` without `min_ntime`, to be activated by `set_new_prev_hash`.
    pub(crate) future_job: Broadcast,
    /// `NewExtendedMiningJob` that is active at once.
    pub(crate) active_job: Broadcast,
    /// `SetNewPrevHash` that names the job.
    pub(crate) set_new_prev_hash: Broadcast,
}

impl Work {
    fn new(template: Arc<Template>, job: Job, tag: JobTag) -> Self {
        let min_ntime = job.min_ntime();
        Self {
            future_job: Broadcast::new(&new_extended_mining_job(&job, None)),
            active_job: Broadcast::new(&new_extended_mining_job(&job, Some(min_ntime))),
            set_new_prev_hash: Broadcast::new(&set_new_prev_hash(&job)),
            template,
            job,
            tag,
        }
    }

    /// The job's number, the same on all connections.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.job.id()
    }

    /// What the block will stand on.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        self.job.tip()
    }

    /// The mark that the job's coinbase carries.
    #[must_use]
    pub const fn tag(&self) -> JobTag {
        self.tag
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> &Job {
        &self.job
    }

    /// The template that a found block is completed from.
    #[must_use]
    pub const fn template(&self) -> &Arc<Template> {
        &self.template
    }
}

/// A message that goes to many channels and differs only in their number.
#[derive(Debug)]
pub(crate) struct Broadcast {
    info: &'static MessageInfo,
    /// The payload behind the channel's number.
    payload: Box<[u8]>,
}

impl Broadcast {
    fn new(message: &Message<'_>) -> Self {
        let mut payload = Vec::new();
        message.write_payload(&mut payload);
        Self { info: message.info(), payload: payload.into_iter().skip(size_of::<ChannelId>()).collect() }
    }

    /// Queues the message for a channel or group.
    pub(crate) fn queue(&self, channel: ChannelId, frames: &mut FrameQueue) {
        let Self { info, payload } = self;
        let queued = frames.push_with(info.extension_type, info.channel_msg, info.msg_type, |frame| {
            frame.extend(channel.0.to_le_bytes());
            frame.extend_from_slice(payload);
            Ok::<_, PayloadTooLong>(())
        });
        queued.expect("a job's parts are each bounded by their types, far below what a frame carries");
    }
}

/// The job for extended channels and groups (spec 5.3.16).
fn new_extended_mining_job(job: &Job, min_ntime: Option<u32>) -> Message<'_> {
    let merkle_path = job.merkle_path().iter().map(U256::from).collect();
    let part = |bytes| B064K::new(bytes).expect("a job's coinbase parts are checked to fit this type");
    let message = mining::NewExtendedMiningJob {
        channel_id: 0,
        job_id: job.id().0,
        min_ntime: Sv2Option::new(min_ntime),
        version: job.version(),
        version_rolling_allowed: job.version_rolling_allowed(),
        merkle_path: Seq0255::new(merkle_path).expect("a job's merkle path is checked to fit this type"),
        coinbase_tx_prefix: part(job.coinbase_prefix()),
        coinbase_tx_suffix: part(job.coinbase_suffix()),
    };
    message.into()
}

/// The message that starts a tip with this job (spec 5.3.17).
fn set_new_prev_hash(job: &Job) -> Message<'_> {
    let message = mining::SetNewPrevHash {
        channel_id: 0,
        job_id: job.id().0,
        prev_hash: U256::from(job.tip().prev_hash.as_byte_array()),
        min_ntime: job.min_ntime(),
        nbits: job.tip().nbits.to_consensus(),
    };
    message.into()
}

/// Why a template made no job; none of these is any miner's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The template and the configured coinbase do not go together.
    #[error("the template cannot be mined: {0}")]
    Job(#[from] JobError),
    /// Every number for a job has been used since this server started.
    #[error("no job number is left in this run; restart the server")]
    NumbersExhausted,
}

/// Makes every job of one run of a server, each with a number and a coinbase unlike all others.
#[derive(Debug)]
pub struct JobFactory {
    instance: u16,
    boot: u32,
    payout_script: ScriptBuf,
    signature: String,
    last_id: JobId,
    latest: Option<Latest>,
}

/// The work that was made last.
#[derive(Debug)]
struct Latest {
    made: Monotonic,
    work: Arc<Work>,
    /// When its template came, and the time that the node gave it.
    came: Monotonic,
    time: u32,
}

impl JobFactory {
    /// A factory for one run of the server.
    ///
    /// `boot` counts its starts and never repeats for one `instance`: together they keep two jobs from sharing header space.
    ///
    /// # Errors
    ///
    /// We are misconfigured if the configuration does not pass its check.
    pub fn new(config: &PoolConfig, boot: u32) -> Result<Self, PoolConfigError> {
        config.check()?;
        Ok(Self {
            instance: config.instance,
            boot,
            payout_script: config.payout_script.clone(),
            signature: config.signature.clone(),
            last_id: JobId(0),
            latest: None,
        })
    }

    /// Makes work of a template, or nothing if miners have the same work already and it is not older than [`JOB_AGE_MAX`].
    ///
    /// # Errors
    ///
    /// If no valid job can be made; miners are best left with the work that they have.
    pub fn handle_template(
        &mut self,
        template: &Arc<Template>,
        now: Now,
    ) -> Result<Option<Arc<Work>>, WorkError> {
        let known = self.latest.as_ref().filter(|latest| is_same_work(&latest.work.template, template));
        if known.is_some_and(|latest| now.monotonic - latest.made < JOB_AGE_MAX) {
            return Ok(None);
        }
        let (work, made) = (self.make(Arc::clone(template))?, now.monotonic);
        self.latest = Some(Latest { made, work: Arc::clone(&work), came: made, time: template.time });
        Ok(Some(work))
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        self.latest.as_ref().map(|latest| latest.made + JOB_AGE_MAX)
    }

    /// Makes work of the latest template again, with a newer time, once its job is [`JOB_AGE_MAX`] old.
    ///
    /// The time is the node's, moved on by how long ago it was given: nodes judge the block, so the wall clock of this host,
    /// which may be wrong, has no say in it. Not to be called while the template is known to be out of date.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_template`].
    pub fn handle_timeout(&mut self, now: Now) -> Result<Option<Arc<Work>>, WorkError> {
        let now = now.monotonic;
        let due = self.latest.as_ref().filter(|latest| now >= latest.made + JOB_AGE_MAX);
        let Some(&Latest { ref work, came, time, .. }) = due else { return Ok(None) };
        let mut template = Template::clone(&work.template);
        template.time = time.saturating_add(u32::try_from((now - came).as_secs()).unwrap_or(u32::MAX));
        let work = self.make(Arc::new(template))?;
        self.latest = Some(Latest { made: now, work: Arc::clone(&work), came, time });
        Ok(Some(work))
    }

    fn make(&mut self, template: Arc<Template>) -> Result<Arc<Work>, WorkError> {
        let id = self.last_id.0.checked_add(1).map(JobId).ok_or(WorkError::NumbersExhausted)?;
        let tag = JobTag { instance: self.instance, boot: self.boot, job: id };
        let value = Amount::from_sat(template.coinbase_value.to_sats());
        let spec = CoinbaseSpec {
            payouts: vec![TxOut { value, script_pubkey: self.payout_script.clone() }],
            signature: self.signature.clone(),
            tag,
            extranonce_len: FULL_EXTRANONCE_LEN,
        };
        let job = Job::new(id, &template, &spec)?;
        self.last_id = id;
        Ok(Arc::new(Work::new(template, job, tag)))
    }
}

/// Whether two templates differ at most in their number and time.
///
/// The merkle path stands for the transactions, and the required outputs commit to their witnesses.
fn is_same_work(a: &Template, b: &Template) -> bool {
    a.tip == b.tip
        && a.version == b.version
        && a.coinbase_value == b.coinbase_value
        && a.required_outputs == b.required_outputs
        && a.merkle_path == b.merkle_path
}

#[cfg(test)]
mod tests;

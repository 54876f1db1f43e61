//! From template to work: one job for all connections, its messages serialised once.

mod distribution;
mod reserve;

use core::time::Duration;
use std::sync::Arc;

use adit_channel::ExtranonceBase;
use adit_messages::types::{B064K, Seq0255, Sv2Option, U256};
use adit_messages::{Message, MessageInfo, mining};
use adit_share::{CoinbaseSpec, Job, JobError, Template, TemplateError, Tip};
use adit_transport::{FrameQueue, PayloadTooLong};
use adit_units::{ChannelId, Height, JobId, JobTag, Monotonic, Now, Sats, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, ScriptBuf, TxOut};

pub use self::distribution::Distribution;
pub use self::reserve::RESERVE_DELAY;
pub(crate) use self::reserve::Reserve;
use crate::{EmptyJobs, PoolConfig, PoolConfigError};

/// How old a job may become before the same template is mined with a newer time.
///
/// Identical work is not sent again before that, because firmware restarts its pipeline for every new job. Much older work would
/// run into the bound on a share's time, which counts from the job's.
pub const JOB_AGE_MAX: Duration = Duration::from_secs(60);

/// How old a job must be before another one is given or made because a miner waits for it, see [`JobFactory::handle_wish`].
pub const WISHED_JOB_AGE: Duration = Duration::from_secs(10);

/// How long after a job that was renewed for a miner no other one is, where everybody gets it.
pub const WISH_INTERVAL: Duration = Duration::from_secs(60);

/// How long after a job could not be made anew the next try is, unless the rules for coinbases change before.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// What all connections mine: a template, the job made from it, and the job's messages.
///
/// Immutable and shared. Template and tip travel as one value, so nobody can ever see half of them.
#[derive(Clone, Debug)]
pub struct Work {
    template: Arc<Template>,
    job: Arc<Job>,
    /// What the job's coinbase was made of, for those who want to be paid in another way.
    coinbase: CoinbaseSpec,
    tag: JobTag,
    /// What the extranonces are like that the job, and the one in reserve, leave room for.
    extranonce: ExtranonceBase,
    /// Counts what a factory puts up, because job numbers do not tell: a job held in reserve has an older number than the jobs
    /// that it follows.
    order: u64,
    /// When its tip was first heard of.
    tip_seen: Monotonic,
    /// What the node's clock said.
    node_time: NodeTime,
    /// Whether it is the subsidy-only job of a tip that has no template yet.
    is_interim: bool,
    /// Whether it was made because coinbases are to be others than before.
    is_urgent: bool,
    /// Whether it is only for who waits for a job.
    is_aside: bool,
    /// The job that miners may be given ahead for the next tip.
    pub(crate) reserve: Option<Arc<Reserve>>,
    /// `NewExtendedMiningJob` without `min_ntime`, to be activated by `set_new_prev_hash`.
    pub(crate) future_job: Broadcast,
    /// `NewExtendedMiningJob` that is active at once.
    pub(crate) active_job: Broadcast,
    /// `SetNewPrevHash` that names the job.
    pub(crate) set_new_prev_hash: Broadcast,
}

impl Work {
    fn new(template: Arc<Template>, job: Job, coinbase: CoinbaseSpec, place: Place) -> Self {
        let (anyone, min_ntime) = (ChannelId(0), job.min_ntime());
        Self {
            future_job: Broadcast::new(&new_extended_mining_job(&job, anyone, None)),
            active_job: Broadcast::new(&new_extended_mining_job(&job, anyone, Some(min_ntime))),
            set_new_prev_hash: Broadcast::new(&set_new_prev_hash(&job)),
            template,
            job: Arc::new(job),
            tag: coinbase.tag,
            coinbase,
            extranonce: place.extranonce,
            order: place.order,
            tip_seen: place.tip_seen,
            node_time: place.node_time,
            is_interim: place.is_interim,
            is_urgent: place.is_urgent,
            is_aside: false,
            reserve: place.reserve,
        }
    }

    /// Where it stands among all that its factory has put up; a later one has a greater number.
    pub(crate) const fn order(&self) -> u64 {
        self.order
    }

    /// What the extranonces are like that the job leaves room for.
    #[must_use]
    pub const fn extranonce(&self) -> &ExtranonceBase {
        &self.extranonce
    }

    /// When its tip was first heard of.
    #[must_use]
    pub const fn tip_seen(&self) -> Monotonic {
        self.tip_seen
    }

    /// The network's time, by which a share's is judged: what the node's clock said, moved on by how long ago that was.
    ///
    /// Nodes judge the block. The clock of this host has no say in it: were it set back by two hours, no share would be taken.
    #[must_use]
    pub fn network_time(&self, now: Monotonic) -> UnixTime {
        UnixTime::from_secs(self.node_time.at(now))
    }

    /// Whether it only bridges the time until the node has built a template on this tip: a block without transactions.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.is_interim
    }

    /// Whether it was made because coinbases are to be others than before, so that nobody should work on the one before any longer.
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Whether it is only for sessions that wait for a job ([`crate::Session::awaits_job`]): all others have the same work with an older one.
    #[must_use]
    pub const fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// The job's number, the same on all connections.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// What the block will stand on.
    #[must_use]
    pub fn tip(&self) -> &Tip {
        self.job.tip()
    }

    /// The mark that the job's coinbase carries.
    #[must_use]
    pub const fn tag(&self) -> JobTag {
        self.tag
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The job as it is for those whose blocks pay in another way: the same number, mark and template, other payouts.
    pub(crate) fn variant(&self, distribution: &Distribution) -> Job {
        variant(self.id(), &self.template, &self.coinbase, distribution)
    }

    /// The template that a found block is completed from.
    #[must_use]
    pub const fn template(&self) -> &Arc<Template> {
        &self.template
    }
}

/// What a work is beside its job.
#[derive(Clone, Debug)]
struct Place {
    extranonce: ExtranonceBase,
    order: u64,
    tip_seen: Monotonic,
    node_time: NodeTime,
    is_interim: bool,
    is_urgent: bool,
    reserve: Option<Arc<Reserve>>,
}

/// A message that goes to many channels and differs only in their number.
#[derive(Clone, Debug)]
pub(crate) struct Broadcast {
    info: &'static MessageInfo,
    /// The payload behind the channel's number.
    payload: Arc<[u8]>,
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

/// A job that pays in another way than `spec`, for which there is room.
fn variant(id: JobId, template: &Template, spec: &CoinbaseSpec, distribution: &Distribution) -> Job {
    let payouts = distribution.payouts(template.coinbase_value, pool_script(spec));
    let spec = CoinbaseSpec { payouts, ..spec.clone() };
    Job::new(id, template, &spec).expect("no work is made of a template that leaves no room for the widest")
}

/// That a template leaves room for any payouts that a channel may ask for.
fn check_room(id: JobId, template: &Template, spec: &CoinbaseSpec) -> Result<(), JobError> {
    let payouts = Distribution::widest(template.coinbase_value, pool_script(spec));
    Job::new(id, template, &CoinbaseSpec { payouts, ..spec.clone() }).map(drop)
}

/// Who is paid by a coinbase that pays the pool.
fn pool_script(spec: &CoinbaseSpec) -> &ScriptBuf {
    &spec.payouts.first().expect("a pool's coinbase pays the pool").script_pubkey
}

/// The job for extended channels and groups (spec 5.3.16).
pub(crate) fn new_extended_mining_job(job: &Job, channel: ChannelId, min_ntime: Option<u32>) -> Message<'_> {
    let merkle_path = job.merkle_path().iter().map(U256::from).collect();
    let part = |bytes| B064K::new(bytes).expect("a job's coinbase parts are checked to fit this type");
    let message = mining::NewExtendedMiningJob {
        channel_id: channel.0,
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
    /// The node's templates create another subsidy than the configured chain does.
    #[error(
        "at height {height} the node's subsidy is {node}, but {configured} with halvings every {interval} blocks; no \
         empty blocks are mined until they agree, so correct the pool's network"
    )]
    Subsidy {
        /// The height of the template.
        height: Height,
        /// What the node says.
        node: Sats,
        /// What the configured halvings make it.
        configured: Sats,
        /// The configured distance of halvings, in blocks.
        interval: u32,
    },
    /// An empty block for the next height could not be described.
    #[error("no empty block can be mined: {0}")]
    Empty(#[from] TemplateError),
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
    further_outputs: Vec<TxOut>,
    extranonce: ExtranonceBase,
    signature: String,
    empty_jobs: EmptyJobs,
    least_fee_gain: Sats,
    halving_interval: u32,
    last_id: JobId,
    last_order: u64,
    latest: Option<Latest>,
    /// Whether a job that a miner waits for is for everybody.
    is_for_all: bool,
    /// When a job may be renewed for everybody again because a miner waits for it.
    next_wish: Monotonic,
    /// Why no job is held in reserve, where that was said already.
    reserve_fault: Option<WorkError>,
}

/// The work that is up.
#[derive(Debug)]
struct Latest {
    /// When its job was made.
    made: Monotonic,
    /// When the newest job on it was made, be it only for who waited for one.
    newest: Monotonic,
    work: Arc<Work>,
    /// Whether a miner waits for the next job.
    is_wished: bool,
    /// Whether coinbases are to be others than this one's and that of the job in reserve.
    is_outdated: bool,
    /// Until when nothing is tried again, because it could not be done.
    not_before: Monotonic,
}

impl Latest {
    /// When its job is to be made anew.
    fn renewal_due(&self) -> Monotonic {
        let due = match (self.is_outdated, self.is_wished) {
            (true, _) => self.made,
            (false, true) => (self.newest + WISHED_JOB_AGE).min(self.made + JOB_AGE_MAX),
            (false, false) => self.made + JOB_AGE_MAX,
        };
        due.max(self.not_before)
    }
}

/// What a node's clock said, and when.
#[derive(Clone, Copy, Debug)]
struct NodeTime {
    /// Seconds since 1970.
    said: u32,
    came: Monotonic,
}

impl NodeTime {
    /// What it says now, if both clocks run alike.
    fn at(self, now: Monotonic) -> u32 {
        self.said.saturating_add(u32::try_from((now - self.came).as_secs()).unwrap_or(u32::MAX))
    }
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
            further_outputs: config.further_outputs.clone(),
            extranonce: config.extranonce,
            signature: config.signature.clone(),
            empty_jobs: config.empty_jobs,
            least_fee_gain: config.least_fee_gain,
            halving_interval: config.halving_interval,
            last_id: JobId(0),
            last_order: 0,
            latest: None,
            is_for_all: config.relays_shares,
            next_wish: Monotonic::default(),
            reserve_fault: None,
        })
    }

    /// Makes the next job by other rules, and at once if they are about coinbases. The number of the server and the chain stay what they
    /// were at the start.
    pub fn handle_config(&mut self, config: &PoolConfig) {
        let is_same_coinbase = self.payout_script == config.payout_script
            && self.further_outputs == config.further_outputs
            && self.extranonce == config.extranonce
            && self.signature == config.signature;
        if let Some(latest) = self.latest.as_mut().filter(|_| !is_same_coinbase) {
            (latest.is_outdated, latest.not_before) = (true, Monotonic::default());
        }
        self.payout_script.clone_from(&config.payout_script);
        self.further_outputs.clone_from(&config.further_outputs);
        self.extranonce = config.extranonce;
        self.signature.clone_from(&config.signature);
        self.empty_jobs = config.empty_jobs;
        self.least_fee_gain = config.least_fee_gain;
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
        let known = self.latest.as_ref().filter(|latest| self.is_no_better(&latest.work, template));
        if known.is_some_and(|known| !known.is_outdated && now.monotonic - known.made < JOB_AGE_MAX) {
            return Ok(None);
        }
        let node_time = NodeTime { said: template.time, came: now.monotonic };
        self.make(Arc::clone(template), false, node_time, now).map(Some)
    }

    /// Whether a template is not worth a job of its own yet: it is the same as that of `work`, or pays too little more.
    fn is_no_better(&self, work: &Work, template: &Template) -> bool {
        let present = &work.template;
        let enough = present.coinbase_value.checked_add(self.least_fee_gain);
        let gains_little = self.least_fee_gain > Sats::ZERO
            && present.tip.is_same_chain_end(&template.tip)
            && !work.is_interim
            && enough.is_none_or(|enough| template.coinbase_value < enough);
        gains_little || is_same_work(present, template)
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let renewal = self.latest.as_ref()?.renewal_due();
        Some(self.reserve_due().map_or(renewal, |reserve| reserve.min(renewal)))
    }

    /// A miner waits for the next job, because with it another target comes into force ([`crate::Session::take_wish`]).
    ///
    /// As soon as the newest job is [`WISHED_JOB_AGE`] old, [`Self::handle_timeout`] makes another one of the same template for whoever waits
    /// for one ([`Work::is_aside`]). Nobody else has to begin anew, and it does not count when the next job for all is due.
    ///
    /// Where shares are passed on ([`PoolConfig::relays_shares`]) somebody further up has to be told of every job, so the present one is
    /// renewed for everybody instead, but not more often than once in [`WISH_INTERVAL`].
    pub fn handle_wish(&mut self, now: Monotonic) {
        let is_free = !self.is_for_all || now >= self.next_wish;
        // An empty block's job is not worth another one; that of the template comes soon, or everybody's.
        let latest = self.latest.as_mut().filter(|latest| !latest.is_wished && !latest.work.is_interim);
        if let Some(latest) = latest.filter(|_| is_free) {
            latest.is_wished = true;
            self.next_wish = now + WISH_INTERVAL;
        }
    }

    /// Makes work of the latest template again, with a newer time, once its job is [`JOB_AGE_MAX`] old; or puts the same work
    /// up again with a job for the next tip beside it, once the present tip is [`RESERVE_DELAY`] old.
    ///
    /// The time is the node's, moved on by how long ago it was given: nodes judge the block, so the wall clock of this host,
    /// which may be wrong, has no say in it. Not to be called while the template is known to be out of date.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_template`]; it is due again [`RENEWAL_PAUSE`] later.
    pub fn handle_timeout(&mut self, now: Now) -> Result<Option<Arc<Work>>, WorkError> {
        let made = self.do_what_is_due(now);
        if let (Err(_), Some(latest)) = (&made, &mut self.latest) {
            // Or it would be due all the time, and whoever waits for it would do nothing else.
            latest.not_before = now.monotonic + RENEWAL_PAUSE;
        }
        made
    }

    fn do_what_is_due(&mut self, now: Now) -> Result<Option<Arc<Work>>, WorkError> {
        if self.reserve_due().is_some_and(|due| now.monotonic >= due)
            && let Some(work) = self.put_by(now)?
        {
            return Ok(Some(work));
        }
        let due = self.latest.as_ref().filter(|latest| now.monotonic >= latest.renewal_due());
        let Some(Latest { work, made, is_outdated, .. }) = due else { return Ok(None) };
        let is_for_all = self.is_for_all || *is_outdated || now.monotonic >= *made + JOB_AGE_MAX;
        let (is_interim, node_time) = (work.is_interim, work.node_time);
        let mut template = Template::clone(&work.template);
        template.time = node_time.at(now.monotonic);
        let template = Arc::new(template);
        if is_for_all {
            self.make(template, is_interim, node_time, now).map(Some)
        } else {
            self.make_aside(template, node_time, now).map(Some)
        }
    }

    /// Makes a job of the present template for whoever waits for one; for everybody else, all is as it was.
    fn make_aside(
        &mut self,
        template: Arc<Template>,
        node_time: NodeTime,
        now: Now,
    ) -> Result<Arc<Work>, WorkError> {
        let work = self.prepare(template, false, node_time, now)?;
        self.last_order = work.order;
        if let Some(latest) = &mut self.latest {
            (latest.newest, latest.is_wished) = (now.monotonic, false);
        }
        Ok(Arc::new(Work { is_aside: true, ..work }))
    }

    /// Makes the next job, of a template.
    fn make(
        &mut self,
        template: Arc<Template>,
        is_interim: bool,
        node_time: NodeTime,
        now: Now,
    ) -> Result<Arc<Work>, WorkError> {
        let work = self.prepare(template, is_interim, node_time, now)?;
        Ok(self.put_up(work, now))
    }

    /// The next job, with a number that is used up by it.
    fn prepare(
        &mut self,
        template: Arc<Template>,
        is_interim: bool,
        node_time: NodeTime,
        now: Now,
    ) -> Result<Work, WorkError> {
        let (id, template) = (self.next_id()?, self.not_before(template));
        let coinbase = self.coinbase(id, &template);
        let job = Job::new(id, &template, &coinbase)?;
        check_room(id, &template, &coinbase)?;
        self.last_id = id;
        let place = self.place(template.tip.prev_hash, node_time, is_interim, now.monotonic);
        Ok(Work::new(template, job, coinbase, place))
    }

    /// The template with a time that is not before that of the present job on its tip.
    ///
    /// Whoever went over to the tip with that job was told its time as the tip's least (`SetNewPrevHash`, spec 5.3.17), and a job below that is an
    /// error to the reference implementation's client. The node's clock and ours round differently, and another node may be behind.
    fn not_before(&self, template: Arc<Template>) -> Arc<Template> {
        let present = self.latest.as_ref().map(|latest| latest.work.job());
        let least = present.filter(|job| job.tip().is_same_chain_end(&template.tip)).map(Job::min_ntime);
        match least {
            Some(least) if template.time < least => {
                let mut later = Template::clone(&template);
                later.time = least;
                Arc::new(later)
            }
            Some(_) | None => template,
        }
    }

    /// What a work on the block `prev_hash` is beside its job.
    fn place(&self, prev_hash: BlockHash, node_time: NodeTime, is_interim: bool, now: Monotonic) -> Place {
        let same_tip = self.latest.as_ref().filter(|latest| latest.work.tip().prev_hash == prev_hash);
        // A job in reserve that was made by other rules is not taken along; another one comes.
        let reserve = same_tip.filter(|latest| !latest.is_outdated).map(|latest| &latest.work.reserve);
        Place {
            extranonce: self.extranonce,
            order: self.last_order + 1,
            tip_seen: same_tip.map_or(now, |latest| latest.work.tip_seen),
            node_time,
            is_interim,
            is_urgent: self.latest.as_ref().is_some_and(|latest| latest.is_outdated),
            reserve: reserve.and_then(Clone::clone),
        }
    }

    fn put_up(&mut self, work: Work, now: Now) -> Arc<Work> {
        let work = Arc::new(work);
        self.last_order = work.order;
        self.latest = Some(Latest {
            made: now.monotonic,
            newest: now.monotonic,
            work: Arc::clone(&work),
            is_wished: false,
            is_outdated: false,
            not_before: Monotonic::default(),
        });
        work
    }

    fn next_id(&self) -> Result<JobId, WorkError> {
        self.last_id.0.checked_add(1).map(JobId).ok_or(WorkError::NumbersExhausted)
    }

    const fn tag(&self, job: JobId) -> JobTag {
        JobTag { instance: self.instance, boot: self.boot, job }
    }

    /// The coinbase of job `id`, which pays out what `template` creates.
    fn coinbase(&self, id: JobId, template: &Template) -> CoinbaseSpec {
        let mut payouts = Distribution::Pooled.payouts(template.coinbase_value, &self.payout_script);
        payouts.extend_from_slice(&self.further_outputs);
        CoinbaseSpec {
            payouts,
            signature: self.signature.clone(),
            tag: self.tag(id),
            extranonce_len: self.extranonce.full_len(),
        }
    }
}

/// Whether two templates differ at most in their number and time.
///
/// The merkle path stands for the transactions, and the required outputs commit to their witnesses.
fn is_same_work(a: &Template, b: &Template) -> bool {
    a.tip.is_same_chain_end(&b.tip)
        && a.version == b.version
        && a.coinbase_value == b.coinbase_value
        && a.required_outputs == b.required_outputs
        && a.coinbase_form == b.coinbase_form
        && a.merkle_path == b.merkle_path
}

#[cfg(test)]
mod tests;

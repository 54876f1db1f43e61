//! Jobs that miners make themselves: put to the pool, checked, accepted, and their shares judged (spec 5.3.18 to 5.3.20).

mod budget;
mod check;
mod held;
mod shares;

use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{Channel, ChannelKind, CustomShare, ExtranonceBase, JobTable, Token, Used};
use adit_messages::error_code::SetCustomMiningJobError as Code;
use adit_messages::mining;
use adit_share::{Declaration, Job};
use adit_units::{ChannelId, JobId, Now};
use tracing::debug;

pub use self::budget::CUSTOM_BYTES_MAX;
use self::budget::{Budget, Room};
use self::check::Objection;
use self::held::HeldJobs;
pub use self::held::TIP_PATIENCE;
pub use self::shares::FoundCustomBlock;
use super::{OpenChannel, Session, send_target};
use crate::Work;

/// Length of the extranonce of channels whose miners make their own jobs, and what of it is theirs. The rest tells the server, its run, the
/// connection and the channel from all others, because such jobs carry no mark of ours that would.
const EXTRANONCE_LEN: usize = 32;
const ROLLABLE_LEN: usize = 20;

/// The jobs that were accepted for one channel, or for its group while it was part of that. Each channel has a table of its own, so that none
/// makes the jobs of another one past.
pub(super) type OwnJobs = JobTable<Arc<CustomJob>>;

/// What a connection has that makes its own jobs.
#[derive(Debug, Default)]
pub(super) struct CustomWork {
    last_id: JobId,
    /// Those whose token is being looked up, oldest first.
    checking: VecDeque<(Request, CustomJob)>,
    /// Tokens to be looked up, for the last ones of these.
    tokens: VecDeque<Token>,
    held: HeldJobs,
    found: VecDeque<FoundCustomBlock>,
    budget: Budget,
}

/// What an answer must name.
#[derive(Clone, Copy, Debug)]
struct Request {
    channel: u32,
    number: u32,
}

/// A job of a miner's.
#[derive(Debug)]
pub(super) struct CustomJob {
    /// The channel, or the group of channels, that works on it.
    scope: ChannelId,
    job: Job,
    declaration: Declaration,
    worth: Arc<CustomShare>,
    /// Given back with it.
    _room: Room,
}

impl Session {
    /// From the setup on, the peer makes its own jobs.
    pub(super) fn begin_custom_work(&mut self) {
        self.custom = Some(Box::default());
        if let Some((_, work)) = self.jobs.active() {
            self.extranonces.rebase(custom_base(work));
        }
    }

    /// What the extranonces of this connection are like under that work.
    pub(super) fn base_under(&self, work: &Work) -> ExtranonceBase {
        if self.custom.is_some() { custom_base(work) } else { *work.extranonce() }
    }

    /// Takes in `SetCustomMiningJob`, whose payload is `payload`.
    pub(super) fn handle_custom_job(
        &mut self,
        set: &mining::SetCustomMiningJob<'_>,
        payload: &[u8],
        now: Now,
    ) {
        let request = Request { channel: set.channel_id, number: set.request_id };
        match self.check_custom_job(set, now) {
            Ok((token, job)) => self.look_up(request, token, job),
            Err(Objection::UnknownTip) => self.hold(request, payload, now),
            Err(Objection::Refused(code)) => self.refuse_custom_job(request, code),
        }
    }

    /// A token that is to be looked up among those that were used, by all connections; the answer goes to [`Self::handle_token`].
    pub fn poll_token(&mut self) -> Option<Token> {
        self.custom.as_mut()?.tokens.pop_front()
    }

    /// Whether [`Self::poll_token`] has something to give.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| !custom.tokens.is_empty())
    }

    /// Whether the token that [`Self::poll_token`] gave, and no answer was given for, is used for the first time.
    pub fn handle_token(&mut self, verdict: Result<(), Used>, now: Now) {
        let Some(custom) = &mut self.custom else { return };
        let Some((request, job)) = custom.checking.pop_front() else { return };
        match verdict {
            Ok(()) => self.accept_custom_job(request, job, now),
            Err(used) => {
                debug!(connection = self.connection.0, %used, "token of a custom job");
                self.refuse_custom_job(request, Code::InvalidMiningJobToken);
            }
        }
    }

    /// A block that was found on a miner's own job, to be handed out before anything else happens, as far as its transactions are known.
    pub fn poll_custom_block(&mut self) -> Option<FoundCustomBlock> {
        self.custom.as_mut()?.found.pop_front()
    }

    /// Whether [`Self::poll_custom_block`] has something to give.
    #[must_use]
    pub fn has_custom_block(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| !custom.found.is_empty())
    }

    fn look_up(&mut self, request: Request, token: Token, job: CustomJob) {
        let Some(custom) = &mut self.custom else { return };
        custom.tokens.push_back(token);
        custom.checking.push_back((request, job));
    }

    /// Promises to pay for a job.
    fn accept_custom_job(&mut self, request: Request, job: CustomJob, now: Now) {
        let tip = *job.job.tip();
        if self.jobs.active().is_none_or(|(_, work)| work.tip().prev_hash != tip.prev_hash) {
            return self.refuse_custom_job(request, Code::StaleChainTip);
        }
        let Self { custom: Some(custom), channels, frames, connection, .. } = self else { return };
        let mut meant = channels.iter_mut().filter(|open| is_part_of(&open.channel, job.scope)).peekable();
        if meant.peek().is_none() {
            // It was closed in the meantime.
            return self.refuse_custom_job(request, Code::InvalidChannelId);
        }
        let Some(id) = custom.last_id.0.checked_add(1).map(JobId) else {
            return self.refuse_custom_job(request, Code::JobNotYetValidated);
        };
        let Ok(named) = job.declaration.job(id, tip, job.job.min_ntime()) else {
            return self.refuse_custom_job(request, Code::InvalidCoinbaseTx);
        };
        custom.last_id = id;
        let job = Arc::new(CustomJob { job: named, ..job });
        for OpenChannel { channel, own_jobs, .. } in meant {
            let Some(jobs) = own_jobs else { continue };
            if let Some(target) = channel.handle_job(jobs, now.monotonic) {
                send_target(frames, channel.id(), target);
            }
            jobs.activate(id, Arc::clone(&job));
        }
        debug!(connection = connection.0, channel = request.channel, job = id.0, "custom job accepted");
        self.send(mining::SetCustomMiningJobSuccess {
            channel_id: request.channel,
            request_id: request.number,
            job_id: id.0,
        });
    }

    fn refuse_custom_job(&mut self, Request { channel, number }: Request, code: Code) {
        debug!(connection = self.connection.0, channel, %code, "custom job refused");
        self.send(mining::SetCustomMiningJobError {
            channel_id: channel,
            request_id: number,
            error_code: code.to_wire(),
        });
    }

    /// Our node has other work. Jobs on the tip before can earn no more, and one that came too early may be on time now.
    pub(super) fn handle_work_besides(&mut self, work: &Work, is_new_tip: bool, now: Now) {
        if self.custom.is_none() || !is_new_tip {
            return;
        }
        let Self { channels, frames, .. } = self;
        for OpenChannel { channel, own_jobs, .. } in channels {
            let Some(jobs) = own_jobs else { continue };
            if let Some(target) = channel.handle_new_tip(jobs, work.tip().target, now.monotonic) {
                send_target(frames, channel.id(), target);
            }
            jobs.end_tip();
        }
        self.retry_held(now);
    }

    /// Whether a channel of that kind can be opened here.
    pub(super) fn serves(&self, kind: ChannelKind) -> bool {
        kind == ChannelKind::Extended || self.custom.is_none()
    }
}

/// Whether a job for a channel or group of that number is one for this channel.
fn is_part_of(channel: &Channel, scope: ChannelId) -> bool {
    channel.id() == scope || channel.group() == scope
}

/// The extranonces of miners who make their own jobs, on the server and in the run that `work` is of.
fn custom_base(work: &Work) -> ExtranonceBase {
    let tag = work.tag();
    let [a, b] = tag.instance.to_le_bytes();
    let [c, d, e, f] = tag.boot.to_le_bytes();
    ExtranonceBase::new(&[a, b, c, d, e, f], EXTRANONCE_LEN, ROLLABLE_LEN)
        .expect("six bytes, six for the channel and twenty for the miner are thirty-two")
}

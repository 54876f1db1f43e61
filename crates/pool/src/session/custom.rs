//! Jobs that miners make themselves: put to the pool, checked, accepted, and their shares judged (spec 5.3.18 to 5.3.20).

mod check;
mod shares;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{ChannelKind, CustomShare, ExtranonceBase, JobTable, Token, Used};
use adit_messages::error_code::SetCustomMiningJobError as Code;
use adit_messages::{Message, Protocol, decode, mining};
use adit_share::{Declaration, Job};
use adit_transport::Frame;
use adit_units::{ChannelId, JobId, Monotonic, Now};
use tracing::debug;

use self::check::Objection;
pub use self::shares::FoundCustomBlock;
use super::{Session, send_target};
use crate::Work;

/// How long a job on a block that our node has not seen yet waits for it. A miner's node may well be the first to see a block, and there
/// are clients that leave a pool for good when it refuses a job.
pub const TIP_PATIENCE: Duration = Duration::from_secs(5);

/// Jobs that may wait for the word on their token; a driver gives it at once.
const CHECKING_MAX: usize = 8;

/// `msg_type` of `SetCustomMiningJob` (spec 8).
const MESSAGE_TYPE: u8 = 0x22;

/// Length of the extranonce of channels whose miners make their own jobs, and what of it is theirs. The rest tells the server, its run, the
/// connection and the channel from all others, because such jobs carry no mark of ours that would.
const EXTRANONCE_LEN: usize = 32;
const ROLLABLE_LEN: usize = 20;

/// What a connection has that makes its own jobs.
#[derive(Debug, Default)]
pub(super) struct CustomWork {
    /// Those that were accepted.
    jobs: JobTable<Arc<CustomJob>>,
    last_id: JobId,
    /// Those whose token is being looked up, oldest first.
    checking: VecDeque<(Request, CustomJob)>,
    /// Tokens to be looked up, for the last ones of these.
    tokens: VecDeque<Token>,
    /// One that stands on a block that we do not know, as it came, and how long it waits.
    held: Option<(Request, Box<[u8]>, Monotonic)>,
    found: VecDeque<FoundCustomBlock>,
}

/// What an answer must name.
#[derive(Clone, Copy, Debug)]
struct Request {
    channel: u32,
    number: u32,
}

/// A job of a miner's.
#[derive(Clone, Debug)]
pub(super) struct CustomJob {
    /// The channel, or the group of channels, that works on it.
    scope: ChannelId,
    job: Job,
    declaration: Declaration,
    worth: Arc<CustomShare>,
}

impl CustomWork {
    /// The jobs whose shares are judged.
    pub(super) const fn jobs(&self) -> &JobTable<Arc<CustomJob>> {
        &self.jobs
    }
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
        if custom.checking.len() == CHECKING_MAX {
            return self.refuse_custom_job(request, Code::JobNotYetValidated);
        }
        custom.tokens.push_back(token);
        custom.checking.push_back((request, job));
    }

    /// Makes a job wait for its tip. A newer one takes its place.
    fn hold(&mut self, request: Request, payload: &[u8], now: Now) {
        let Some(custom) = &mut self.custom else { return };
        let held = custom.held.replace((request, payload.into(), now.monotonic + TIP_PATIENCE));
        if let Some((former, ..)) = held {
            self.refuse_custom_job(former, Code::StaleChainTip);
        }
    }

    /// Promises to pay for a job.
    fn accept_custom_job(&mut self, Request { channel, number }: Request, job: CustomJob, now: Now) {
        let (tip, request) = (*job.job.tip(), Request { channel, number });
        if self.jobs.active().is_none_or(|(_, work)| work.tip().prev_hash != tip.prev_hash) {
            return self.refuse_custom_job(request, Code::StaleChainTip);
        }
        let Self { custom: Some(custom), channels, frames, connection, .. } = self else { return };
        let Some(id) = custom.last_id.0.checked_add(1).map(JobId) else {
            return self.refuse_custom_job(request, Code::JobNotYetValidated);
        };
        let Ok(named) = job.declaration.job(id, tip, job.job.min_ntime()) else {
            return self.refuse_custom_job(request, Code::InvalidCoinbaseTx);
        };
        custom.last_id = id;
        for open in channels {
            if let Some(target) = open.channel.handle_job(&custom.jobs, now.monotonic) {
                send_target(frames, open.channel.id(), target);
            }
        }
        debug!(connection = connection.0, channel, job = id.0, "custom job accepted");
        custom.jobs.activate(id, Arc::new(CustomJob { job: named, ..job }));
        self.send(mining::SetCustomMiningJobSuccess {
            channel_id: channel,
            request_id: number,
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
        let Self { custom: Some(custom), channels, frames, .. } = self else { return };
        if !is_new_tip {
            return;
        }
        for open in channels {
            if let Some(target) = open.channel.handle_new_tip(&custom.jobs, work.tip().target, now.monotonic)
            {
                send_target(frames, open.channel.id(), target);
            }
        }
        custom.jobs.end_tip();
        self.retry_held(now);
    }

    /// Looks at the job again that waits for its tip.
    fn retry_held(&mut self, now: Now) {
        let Some((request, payload, deadline)) = self.custom.as_mut().and_then(|custom| custom.held.take())
        else {
            return;
        };
        let Ok(frame) = Frame::new(0, true, MESSAGE_TYPE, &payload) else { return };
        // It has been decoded once already.
        let Ok(Message::SetCustomMiningJob(set)) = decode(Protocol::Mining, frame) else { return };
        match self.check_custom_job(&set, now) {
            Ok((token, job)) => self.look_up(request, token, job),
            Err(Objection::UnknownTip) => {
                if let Some(custom) = &mut self.custom {
                    custom.held = Some((request, payload, deadline));
                }
            }
            Err(Objection::Refused(code)) => self.refuse_custom_job(request, code),
        }
    }

    /// When the job that waits for its tip has waited long enough.
    pub(super) fn custom_timeout(&self) -> Option<Monotonic> {
        self.custom.as_ref()?.held.as_ref().map(|&(_, _, deadline)| deadline)
    }

    /// Refuses the job that has waited for its tip for too long.
    pub(super) fn handle_custom_timeout(&mut self, now: Now) {
        let Some(custom) = &mut self.custom else { return };
        if let Some((request, ..)) = custom.held.take_if(|&mut (_, _, deadline)| deadline <= now.monotonic) {
            self.refuse_custom_job(request, Code::StaleChainTip);
        }
    }

    /// Whether a channel of that kind can be opened here.
    pub(super) fn serves(&self, kind: ChannelKind) -> bool {
        kind == ChannelKind::Extended || self.custom.is_none()
    }
}

/// The extranonces of miners who make their own jobs, on the server and in the run that `work` is of.
fn custom_base(work: &Work) -> ExtranonceBase {
    let tag = work.tag();
    let [a, b] = tag.instance.to_le_bytes();
    let [c, d, e, f] = tag.boot.to_le_bytes();
    ExtranonceBase::new(&[a, b, c, d, e, f], EXTRANONCE_LEN, ROLLABLE_LEN)
        .expect("six bytes, six for the channel and twenty for the miner are thirty-two")
}

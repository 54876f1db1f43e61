//! Jobs that miners have made on a block that our node has not seen yet.

use core::time::Duration;
use std::collections::VecDeque;

use adit_messages::error_code::SetCustomMiningJobError as Code;
use adit_messages::{Message, Protocol, decode};
use adit_transport::Frame;
use adit_units::{Monotonic, Now};

use super::Request;
use super::budget::Room;
use super::check::Objection;
use crate::session::Session;

/// How long a job on a block that our node has not seen yet waits for it. A miner's node may well be the first to see a block, and there
/// are clients that leave a pool for good when it refuses a job.
pub const TIP_PATIENCE: Duration = Duration::from_secs(5);

/// `msg_type` of `SetCustomMiningJob` (spec 8).
const MESSAGE_TYPE: u8 = 0x22;

/// Jobs that stand on a block that we do not know, the longest waiting first; one for each channel or group.
pub(super) type HeldJobs = VecDeque<HeldJob>;

/// One of them.
#[derive(Debug)]
pub(super) struct HeldJob {
    request: Request,
    /// As it came.
    payload: Box<[u8]>,
    deadline: Monotonic,
    /// Given back with it.
    _room: Room,
}

impl Session {
    /// Makes a job wait for its tip. A newer one for the same channel or group takes its place.
    pub(super) fn hold(&mut self, request: Request, payload: &[u8], now: Now) {
        let Some(custom) = &mut self.custom else { return };
        let former = custom.held.iter().position(|held| held.request.channel == request.channel);
        if let Some(former) = former.and_then(|place| custom.held.remove(place)) {
            self.refuse_custom_job(former.request, Code::StaleChainTip);
        }
        let room = self.make_room(size_of::<HeldJob>() + payload.len());
        let (Some(room), Some(custom)) = (room, &mut self.custom) else {
            return self.refuse_custom_job(request, Code::StaleChainTip);
        };
        let deadline = now.monotonic + TIP_PATIENCE;
        custom.held.push_back(HeldJob { request, payload: payload.into(), deadline, _room: room });
    }

    /// Looks at the jobs again that wait for their tip.
    pub(super) fn retry_held(&mut self, now: Now) {
        let Some(custom) = &mut self.custom else { return };
        for held in core::mem::take(&mut custom.held) {
            let Ok(frame) = Frame::new(0, true, MESSAGE_TYPE, &held.payload) else { continue };
            // It has been decoded once already.
            let Ok(Message::SetCustomMiningJob(set)) = decode(Protocol::Mining, frame) else { continue };
            match self.check_custom_job(&set, now) {
                Ok((token, job)) => self.look_up(held.request, token, job),
                Err(Objection::UnknownTip) => {
                    if let Some(custom) = &mut self.custom {
                        custom.held.push_back(held);
                    }
                }
                Err(Objection::Refused(code)) => self.refuse_custom_job(held.request, code),
            }
        }
    }

    /// When a job that waits for its tip has waited long enough.
    pub(in crate::session) fn custom_timeout(&self) -> Option<Monotonic> {
        self.custom.as_ref()?.held.front().map(|held| held.deadline)
    }

    /// Refuses the jobs that have waited for their tip for too long.
    pub(in crate::session) fn handle_custom_timeout(&mut self, now: Now) {
        while let Some(custom) = &mut self.custom
            && custom.held.front().is_some_and(|held| held.deadline <= now.monotonic)
            && let Some(held) = custom.held.pop_front()
        {
            self.refuse_custom_job(held.request, Code::StaleChainTip);
        }
    }
}

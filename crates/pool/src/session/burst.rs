//! Frames that came together, so that of the shares among them two are hashed at once.

use adit_channel::{ChannelKind, Lookup};
use adit_messages::{MessageKind, Protocol, info};
use adit_share::{Checked, Submission, Unhashed};
use adit_transport::{Frame, Header};
use adit_units::{ChannelId, Now};

use super::{FoundBlock, Session, State, place_of};
use crate::Disconnect;

/// Longest payload of a share that may wait for another: the message, a worker's name, and some of what other extensions may add. A longer
/// one is judged by itself.
const WAITING_MAX: usize = 128;

/// The frames of one read; see [`Session::burst`].
///
/// All that a session does is the same and in the same order as if each frame had been given to [`Session::handle_frame`], except
/// that what comes of an extended share may come one frame later: it waits for another, because two are hashed in two thirds of the time. It never
/// waits for bytes that may not come: [`Self::finish`] ends that, and so does dropping this. While this lives, nothing else can be done with the
/// session.
#[derive(Debug)]
pub struct Burst<'a> {
    session: &'a mut Session,
    now: Now,
    waiting: Option<Waiting>,
}

/// The payload of an extended share.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    payload: [u8; WAITING_MAX],
    len: usize,
}

impl Waiting {
    /// A copy, if it is short enough.
    fn new(share: &[u8]) -> Option<Self> {
        let mut payload = [0; WAITING_MAX];
        payload.get_mut(..share.len())?.copy_from_slice(share);
        Some(Self { payload, len: share.len() })
    }

    fn payload(&self) -> &[u8] {
        self.payload.get(..self.len).unwrap_or_default()
    }
}

impl Session {
    /// Takes in frames that came together, at one moment.
    pub const fn burst(&mut self, now: Now) -> Burst<'_> {
        Burst { session: self, now, waiting: None }
    }

    /// Whether a frame is an extended share, at a time for shares.
    fn expects_extended_share(&self, header: &Header) -> bool {
        let is_set_up = !matches!(self.state, State::ExpectSetup { .. });
        is_set_up
            && info(Protocol::Mining, header)
                .is_some_and(|info| info.kind == MessageKind::SubmitSharesExtended)
    }

    /// The hashes of two extended shares, if both would be hashed were they judged now, and the second too after the first.
    fn hash_two(&self, payloads: [&[u8]; 2], now: Now) -> Option<[[u8; 32]; 2]> {
        let [first, second] = payloads.map(Submission::parse_extended);
        let (first, second) = (first.ok()?, second.ok()?);
        let (channel, checked, share) = self.candidate(&first, now)?;
        let (other_channel, other_checked, other) = self.candidate(&second, now)?;
        if (channel, checked) == (other_channel, other_checked) {
            return None;
        }
        Some(Unhashed::hash_two([share, other]))
    }

    /// An extended share that would be hashed if it were judged now, with its channel.
    fn candidate<'a>(
        &'a self,
        share: &'a Submission<'a>,
        now: Now,
    ) -> Option<(ChannelId, Checked, Unhashed<'a>)> {
        let open = self.channels.get(place_of(&self.channels, share.channel_id)?)?;
        let Lookup::Open { job: work, activation } = self.jobs.lookup(share.job_id) else { return None };
        if open.channel.kind() != ChannelKind::Extended {
            return None;
        }
        let job = self.groups.kept_job(open.channel.group_at(activation)?, work)?;
        let judged_at = Now { unix: work.network_time(now.monotonic), ..now };
        let (checked, share) = open.channel.candidate(job, activation, share, judged_at)?;
        Some((open.channel.id(), checked, share))
    }
}

impl Burst<'_> {
    /// As [`Session::frame_limit`].
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        self.session.frame_limit(header)
    }

    /// Bytes of the answers so far, as they lie in [`Session::frames`].
    #[must_use]
    pub fn answers_len(&self) -> usize {
        self.session.frames.len_bytes()
    }

    /// Takes in one frame.
    ///
    /// # Errors
    ///
    /// As those of [`Session::handle_frame`] for this frame or the one before, after which no more frames are to be given.
    pub fn handle_frame(&mut self, frame: Frame<'_>) -> Result<(), Disconnect> {
        let is_share = self.session.expects_extended_share(&frame.header);
        let Some(share) = is_share.then_some(frame.payload).and_then(Waiting::new) else {
            self.judge_waiting()?;
            return self.session.handle_frame(frame, self.now);
        };
        let Some(first) = self.waiting.take() else {
            self.waiting = Some(share);
            return Ok(());
        };
        let Some([hash, other]) = self.session.hash_two([first.payload(), share.payload()], self.now) else {
            self.session.handle_extended_share(first.payload(), None, self.now)?;
            self.waiting = Some(share);
            return Ok(());
        };
        self.session.handle_extended_share(first.payload(), Some(hash), self.now)?;
        self.session.handle_extended_share(share.payload(), Some(other), self.now)
    }

    /// As [`Session::poll_block`], to be called after each frame.
    pub fn poll_block(&mut self) -> Option<FoundBlock> {
        self.session.poll_block()
    }

    /// Whether a block is waiting to be taken.
    #[must_use]
    pub fn has_block(&self) -> bool {
        self.session.has_block() || self.session.has_custom_block()
    }

    /// Whether a token is waiting to be looked up.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.session.has_token()
    }

    /// There are no more frames for now: judges the share that waits, if one does. It may be a block.
    ///
    /// # Errors
    ///
    /// As those of [`Session::handle_frame`] for the last frame.
    pub fn finish(mut self) -> Result<(), Disconnect> {
        self.judge_waiting()
    }

    fn judge_waiting(&mut self) -> Result<(), Disconnect> {
        match self.waiting.take() {
            Some(share) => self.session.handle_extended_share(share.payload(), None, self.now),
            None => Ok(()),
        }
    }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        // Whoever drops this has another reason to end the connection, or the next frame will find the same one.
        let _told_by_another = self.judge_waiting();
    }
}

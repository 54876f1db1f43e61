//! The client's side of one connection of the template distribution protocol, as a state machine.
//!
//! Frames and the time come in by `handle_*`; frames go out by [`Client::frames`] and news by [`Client::poll_event`]. What is known of one
//! provider over all connections to it is in [`memory`], and [`follow()`] drives both with sockets.

mod config;
mod draft;
mod follow;
mod memory;
mod templates;

use core::time::Duration;
use std::collections::VecDeque;

use adit_messages::template_distribution::{
    CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution,
};
use adit_messages::types::{B064K, Str0255};
use adit_messages::{
    DecodeError, Message, MessageInfo, PROTOCOL_VERSION, Protocol, Side, common, decode, encode, info, limits,
};
use adit_share::Tip;
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{Monotonic, Now, TemplateId};
use bitcoin::block::Header as BlockHeader;
use bitcoin::{BlockHash, CompactTarget};

pub use config::TdpConfig;
pub use draft::Candidate;
pub(super) use draft::share;
#[cfg(feature = "ipc")]
pub(crate) use draft::{share as share_transactions, split_prefix};
pub(crate) use follow::{Provider, follow, probe};
pub use memory::{HANDED_KEPT, OFFERED_KEPT, Offered, TIPS_KEPT};

use super::NO_TEMPLATE;
use crate::rpc::TemplateRefused;
use draft::Draft;

/// How long a provider has to answer `SetupConnection`.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a provider has for its first template and the block that it stands on, which it must send at once (spec 7).
pub const FIRST_TEMPLATE_PATIENCE: Duration = Duration::from_secs(60);

/// How long a provider may take over the transactions of a template, of which there are up to four megabytes.
pub const TRANSACTIONS_PATIENCE: Duration = Duration::from_secs(60);

/// The least time between two requests for transactions on one tip: each may cost the provider and the line a whole block.
pub const REQUEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a provider may say nothing before it is asked for a sign of life, and how long it then has for that.
pub const QUIET_PATIENCE: Duration = Duration::from_secs(15);

/// How long a provider may take over the template that its new block names (spec 7.3), where it has not sent that first.
pub const NAMED_PATIENCE: Duration = Duration::from_secs(5);

/// How long a provider may call each template outdated that it is asked about, and give no other on the same block.
pub const STALE_PATIENCE: Duration = Duration::from_secs(5);

/// Most templates for a block to come that are remembered (spec 7.3 sets no bound); the oldest are forgotten.
pub const FUTURES_KEPT: usize = 8;

/// Most requests for transactions that are open at once: one on the newest tip beside one that a new tip has outdated.
const REQUESTS_MAX: usize = 2;

/// How far ahead of this machine's clock a block's time may be: as far as nodes accept.
const TIME_AHEAD_MAX: u32 = 7_200;

/// Room that a provider is asked to leave in every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of coinbase outputs.
    pub bytes: u32,
    /// Signature operations, by their cost (BIP 141).
    pub sigops: u16,
}

/// What a client says of itself and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The host that was connected to; at most 255 bytes of it are told.
    pub host: String,
    /// The port that was connected to.
    pub port: u16,
    /// Room for our outputs.
    pub room: Room,
    /// What is known of the provider's answers to questions for a sign of life.
    pub pulse: Pulse,
}

/// What is known of a provider's answers to questions about templates that it does not have, each a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing: its answer would be good to have, and no answer means nothing yet.
    Unknown,
    /// It gives them, so its silence means that it hangs.
    Given,
    /// It does not, and is not asked again before this.
    NotBefore(Monotonic),
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The chain has a new end, on which there is no template with transactions yet.
    Tip(Tip),
    /// Blocks may be made of this template from now on.
    Offered(Offered),
    /// A template has its transactions. Look at it, and say so with [`Client::handle_judged`].
    Candidate(Box<Candidate>),
    /// The provider does not hand out the transactions of its newest template; with its reason, made printable.
    Withheld(String),
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientEnd {
    /// The provider does not want the connection.
    #[error("it refuses the connection: {0}; check that a template provider listens there, not a pool")]
    Refused(String),
    /// The provider sent what is no message.
    #[error("it sent a message that cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The payload is longer than any such message, or than what was asked for.
    #[error("it sent a payload of {length} bytes where at most {limit} are expected")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most bytes that such a message may have now.
        limit: usize,
    },
    /// The provider broke the protocol.
    #[error("it broke the protocol: {0}")]
    Misbehaved(&'static str),
    /// The provider sent a template that nothing can be made of.
    #[error("its template is refused: {0}")]
    Template(#[from] TemplateRefused),
    /// The block's time is in the future.
    #[error(
        "its next block would be {0} s ahead of this machine's clock, more than nodes accept; check both clocks"
    )]
    Time(u32),
    /// The provider wants its clients to go elsewhere, where nobody vouches for what they would find.
    #[error("it sends its clients elsewhere; configure another provider, or wait for this one to be back")]
    SentAway,
    /// Something did not come in time.
    #[error("it has not sent {what} within {secs} s; its node may be starting, or hang")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long, in seconds.
        secs: u64,
    },
}

/// A coinbase that no message can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coinbase has over 65535 bytes, which template distribution cannot carry")]
pub struct CoinbaseTooLong;

/// One connection to a template provider.
#[derive(Debug)]
pub struct Client {
    room: Room,
    state: State,
    frames: FrameQueue,
    events: VecDeque<Event>,
    pulse: Pulse,
    /// Whether it was asked for a sign of life on this connection, and whether it has given one.
    was_asked: bool,
    has_answered: bool,
    /// When something was last heard.
    heard: Monotonic,
    /// When the question that is open was asked.
    asked: Option<Monotonic>,
}

#[derive(Debug)]
enum State {
    /// The answer to `SetupConnection`.
    ExpectSetup { deadline: Monotonic },
    /// Templates.
    Serving(Box<Serving>),
}

/// What the provider has told and was asked.
#[derive(Debug)]
struct Serving {
    /// When a first template with its block must have come.
    deadline: Monotonic,
    last_id: Option<TemplateId>,
    standing: Option<Standing>,
    futures: VecDeque<Draft>,
    /// A new block whose template has not come yet, and until when it must.
    named: Option<(NewEnd, Monotonic)>,
    /// Since when each template that it was asked about is outdated, on this block.
    stale_since: Option<Monotonic>,
    /// The newest template on the tip, while its transactions are not asked for.
    wanted: Option<Draft>,
    /// Not before this are transactions asked for again.
    next_request: Monotonic,
    requests: VecDeque<Request>,
}

/// Where the chain ends, as the last `SetNewPrevHash` said.
#[derive(Clone, Copy, Debug)]
struct Standing {
    tip: Tip,
    header_time: u32,
    told: Monotonic,
}

/// What a `SetNewPrevHash` says.
#[derive(Clone, Copy, Debug)]
struct NewEnd {
    id: TemplateId,
    prev_hash: BlockHash,
    nbits: CompactTarget,
    header_time: u32,
}

/// Transactions that were asked for.
#[derive(Debug)]
struct Request {
    id: TemplateId,
    prev_hash: BlockHash,
    /// What they belong to, and until when they must come; `None` once they have and are looked at.
    open: Option<(Draft, Monotonic)>,
}

impl Client {
    /// A client that has just finished the handshake; its first frame is already in [`Self::frames`].
    #[must_use]
    pub fn new(config: &ClientConfig, now: Now) -> Self {
        let mut client = Self {
            room: config.room,
            state: State::ExpectSetup { deadline: now.monotonic + SETUP_PATIENCE },
            frames: FrameQueue::default(),
            events: VecDeque::new(),
            pulse: config.pulse,
            was_asked: false,
            has_answered: false,
            heard: now.monotonic,
            asked: None,
        };
        client.send(common::SetupConnection {
            protocol: common::Protocol::TemplateDistributionProtocol,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: 0,
            endpoint_host: text(&config.host),
            endpoint_port: config.port,
            vendor: text("adit"),
            hardware_version: text(""),
            firmware: text(env!("CARGO_PKG_VERSION")),
            device_id: text(""),
        });
        client
    }

    /// The most payload bytes that a frame with this header may have now.
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        let State::Serving(serving) = &self.state else {
            return limits::before_setup(Side::Client, header);
        };
        let limit = limits::after_setup(Protocol::TemplateDistribution, Side::Client, header);
        let is_data = info(Protocol::TemplateDistribution, header).is_some_and(|info| info.name == DATA);
        // Megabytes are only read when they were asked for.
        if is_data && !serving.awaits_transactions() { 0 } else { limit }
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` if nothing comes due by itself. What it has been called for is not due again
    /// at the same moment.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let serving = match &self.state {
            State::ExpectSetup { deadline } => return Some(*deadline),
            State::Serving(serving) => serving,
        };
        let first = serving.standing.is_none().then_some(serving.deadline);
        let named = serving.named.map(|(_, deadline)| deadline);
        let request = serving.wanted.is_some().then_some(serving.next_request);
        let request = request.filter(|_| serving.may_request());
        let open = serving.requests.iter().filter_map(|request| request.open.as_ref());
        let open = open.map(|(_, deadline)| *deadline).min();
        [first, named, request, open, self.pulse_due()].into_iter().flatten().min()
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If the provider has let a deadline pass.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), ClientEnd> {
        let late = |what, patience: Duration| ClientEnd::Late { what, secs: patience.as_secs() };
        let now = now.monotonic;
        match &self.state {
            State::ExpectSetup { deadline } if now >= *deadline => {
                return Err(late("an answer to SetupConnection", SETUP_PATIENCE));
            }
            State::ExpectSetup { .. } => return Ok(()),
            State::Serving(serving) => {
                if serving.standing.is_none() && now >= serving.deadline {
                    return Err(late("a template and the block that it stands on", FIRST_TEMPLATE_PATIENCE));
                }
                if serving.named.is_some_and(|(_, deadline)| now >= deadline) {
                    return Err(late("the template that its new block names", NAMED_PATIENCE));
                }
                let passed = |request: &Request| request.open.as_ref().is_some_and(|(_, at)| now >= *at);
                if serving.requests.iter().any(passed) {
                    return Err(late("the transactions of a template", TRANSACTIONS_PATIENCE));
                }
            }
        }
        self.request(now);
        self.look_for_life(now)
    }

    /// Takes in a frame.
    ///
    /// # Errors
    ///
    /// If the connection is of no more use.
    pub fn handle_frame(&mut self, frame: Frame<'_>, now: Now) -> Result<(), ClientEnd> {
        let (length, limit) = (frame.payload.len(), self.frame_limit(&frame.header));
        if length > limit {
            return Err(ClientEnd::TooLong { length, limit });
        }
        self.handle_sign_of_life(now.monotonic);
        let Some(info) = info(Protocol::TemplateDistribution, &frame.header) else {
            return self.handle_unknown(frame.header);
        };
        if !info.direction.reaches(Side::Client) {
            return Err(ClientEnd::Misbehaved("it sent what only a client may send"));
        }
        let message = decode(Protocol::TemplateDistribution, frame)?;
        match self.state {
            State::ExpectSetup { .. } => self.handle_setup(&message, now.monotonic),
            State::Serving(_) => self.handle_message(info, &message, now),
        }
    }

    /// Notes that bytes came, whatever they are: the provider is alive.
    pub fn handle_sign_of_life(&mut self, now: Monotonic) {
        self.heard = now;
        self.asked = None;
    }

    /// Notes that a [`Candidate`] was looked at, so that the next may be asked for.
    pub fn handle_judged(&mut self, id: TemplateId, now: Now) {
        if let State::Serving(serving) = &mut self.state {
            serving.requests.retain(|request| request.id != id || request.open.is_some());
        }
        self.request(now.monotonic);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent; clear it when that is done.
    pub const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    /// What the newest block is, once the provider has told.
    #[must_use]
    pub fn tip(&self) -> Option<&Tip> {
        match &self.state {
            State::Serving(serving) => serving.standing.as_ref().map(|standing| &standing.tip),
            State::ExpectSetup { .. } => None,
        }
    }

    /// Asks for a sign of life, unless that was done already; whether one can be expected.
    ///
    /// A provider counts on being asked only once it has answered, so the first question is no pulse.
    pub fn ping(&mut self, now: Monotonic) -> bool {
        let is_too_early = matches!(self.pulse, Pulse::NotBefore(then) if now < then);
        if self.tip().is_none() || is_too_early {
            return false;
        }
        if self.asked.is_none() {
            self.asked = Some(now);
            self.was_asked = true;
            self.send(RequestTransactionData { template_id: NO_TEMPLATE.0 });
        }
        self.pulse == Pulse::Given
    }

    /// Whether the provider was asked for a sign of life and has given none; if the connection ends now, it may be for that.
    #[must_use]
    pub const fn has_left_unanswered(&self) -> bool {
        self.was_asked && !self.has_answered
    }

    /// Whether the provider was asked for a sign of life and has given one.
    #[must_use]
    pub const fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Tells the provider of a block that was found on one of its templates; `coinbase` with its witness.
    ///
    /// # Errors
    ///
    /// If the coinbase does not fit into a message.
    pub fn submit(
        &mut self,
        id: TemplateId,
        header: &BlockHeader,
        coinbase: &[u8],
    ) -> Result<(), CoinbaseTooLong> {
        let solution = SubmitSolution {
            template_id: id.0,
            version: header.version.to_consensus().cast_unsigned(),
            header_timestamp: header.time,
            header_nonce: header.nonce,
            coinbase_tx: B064K::new(coinbase).map_err(|_| CoinbaseTooLong)?,
        };
        self.send(solution);
        Ok(())
    }

    fn handle_setup(&mut self, message: &Message<'_>, now: Monotonic) -> Result<(), ClientEnd> {
        match message {
            Message::SetupConnectionSuccess(success) if success.used_version == PROTOCOL_VERSION => {}
            Message::SetupConnectionSuccess(_) => {
                return Err(ClientEnd::Misbehaved("it chose a version that was not offered"));
            }
            Message::SetupConnectionError(error) => {
                return Err(ClientEnd::Refused(printable(&error.error_code)));
            }
            _ => return Err(ClientEnd::Misbehaved("it did not answer SetupConnection first")),
        }
        self.send(CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: self.room.bytes,
            coinbase_output_max_additional_sigops: self.room.sigops,
        });
        self.state = State::Serving(Box::new(Serving {
            deadline: now + FIRST_TEMPLATE_PATIENCE,
            last_id: None,
            standing: None,
            futures: VecDeque::new(),
            named: None,
            stale_since: None,
            wanted: None,
            next_request: now,
            requests: VecDeque::new(),
        }));
        Ok(())
    }

    fn handle_message(
        &mut self,
        info: &'static MessageInfo,
        message: &Message<'_>,
        now: Now,
    ) -> Result<(), ClientEnd> {
        match message {
            Message::NewTemplate(new) => self.handle_template(new, now.monotonic)?,
            Message::TemplateSetNewPrevHash(tip) => self.handle_tip(tip, now)?,
            Message::RequestTransactionDataSuccess(data) => self.handle_transactions(data, now)?,
            Message::RequestTransactionDataError(error) => self.handle_no_transactions(error, now.monotonic),
            Message::Reconnect(_) => return Err(ClientEnd::SentAway),
            Message::SetupConnectionSuccess(_) | Message::SetupConnectionError(_) => {
                return Err(ClientEnd::Misbehaved("it answered SetupConnection twice"));
            }
            // Of channels (spec 3.6.4) and extensions nothing was asked, so nothing follows.
            _ => tracing::debug!(message = info.name, "ignored"),
        }
        self.request(now.monotonic);
        Ok(())
    }

    /// Ignores a message of an extension that nobody here knows (spec 3.4.1); the core protocol has no unknown messages.
    fn handle_unknown(&self, header: Header) -> Result<(), ClientEnd> {
        if header.extension_type == 0 {
            return Err(ClientEnd::Misbehaved("it sent a message that template distribution does not have"));
        }
        match self.state {
            State::ExpectSetup { .. } => {
                Err(ClientEnd::Misbehaved("it did not answer SetupConnection first"))
            }
            State::Serving(_) => Ok(()),
        }
    }

    /// When the provider has been quiet for too long; `None` before it has given a template.
    fn pulse_due(&self) -> Option<Monotonic> {
        self.tip()?;
        let quiet = self.asked.unwrap_or(self.heard) + QUIET_PATIENCE;
        match self.pulse {
            Pulse::NotBefore(then) if self.asked.is_none() => Some(quiet.max(then)),
            Pulse::Unknown | Pulse::Given | Pulse::NotBefore(_) => Some(quiet),
        }
    }

    /// Asks a quiet provider for a sign of life, or gives it up: one that hangs and one that does not answer such questions look the same, but
    /// the first gives no template on the next connection.
    fn look_for_life(&mut self, now: Monotonic) -> Result<(), ClientEnd> {
        if self.pulse_due().is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.asked.is_some() {
            let what = "a sign of life";
            return Err(ClientEnd::Late { what, secs: QUIET_PATIENCE.as_secs() });
        }
        self.ping(now);
        Ok(())
    }

    fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        encode(message, &mut self.frames).expect("what a client says fits into a frame");
    }
}

/// The one message of megabytes.
const DATA: &str = "RequestTransactionData.Success";

impl Serving {
    /// Whether transactions were asked for that have not come.
    fn awaits_transactions(&self) -> bool {
        self.requests.iter().any(|request| request.open.is_some())
    }

    /// Whether one more request may be open: one at a time on a tip, so that a provider who sends templates faster than anybody looks at
    /// them is only asked for the newest.
    fn may_request(&self) -> bool {
        let Some(standing) = &self.standing else { return false };
        let on_tip = |request: &Request| request.prev_hash == standing.tip.prev_hash;
        self.requests.len() < REQUESTS_MAX && !self.requests.iter().any(on_tip)
    }
}

/// A text as messages carry it, cut where it is too long.
fn text(text: &str) -> Str0255<'_> {
    let bytes = text.as_bytes();
    let most = bytes.len().min(usize::from(u8::MAX));
    Str0255::new(bytes.get(..most).unwrap_or_default()).expect("255 bytes fit")
}

/// A reason of the provider's, safe to log.
fn printable(text: &Str0255<'_>) -> String {
    text.as_bytes().escape_ascii().to_string()
}

#[cfg(test)]
mod tests;

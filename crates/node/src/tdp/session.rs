//! The server's side of one connection of the template distribution protocol, as a state machine.
//!
//! Frames, offers and the time come in by `handle_*`; frames go out by [`Session::frames`] and blocks by [`Session::poll_block`]. A question
//! about the template that no provider has is one for a sign of life, and [`Session::handle_pulse`] answers it.

mod patience;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::error_code::{
    RequestTransactionDataError as DataError, SetupConnectionError as SetupError,
};
use adit_messages::extensions::{
    EXTENSIONS_NEGOTIATION, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
};
use adit_messages::template_distribution::{
    CoinbaseOutputConstraints, NewTemplate, RequestTransactionDataError, RequestTransactionDataSuccess,
    SetNewPrevHash, SubmitSolution,
};
use adit_messages::types::{B016M, B064K, B0255, Seq064K, Seq0255, U256};
use adit_messages::{
    DecodeError, Message, MessageInfo, PROTOCOL_VERSION, Protocol, Side, common, decode, encode, info, limits,
};
use adit_share::{Block, MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT, Template};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{Monotonic, Now, TemplateId};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{BlockHash, consensus};
use tracing::{debug, warn};

use super::offers::{Form, ISSUES_PER_OFFER, Offer};
use super::solution::assemble;
use super::{FIXED_WEIGHT, NO_TEMPLATE, Offers, SolutionError};
use patience::Patience;
pub use patience::{
    LISTS_MAX, LISTS_PER_SECOND, WORTHLESS_LOG_INTERVAL, WORTHLESS_MAX, WORTHLESS_PER_SECOND,
};

/// How long a client has for `SetupConnection`, from the end of the handshake.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client then has for `CoinbaseOutputConstraints`, which it must send at once (spec 7).
pub const CONSTRAINTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Most questions for a sign of life that wait for the node; more at once are worth nothing to anybody.
pub const PULSES_OWED_MAX: u8 = 16;

/// Most characters that are kept of a client's name for the log.
const CLIENT_NAME_MAX: usize = 96;

/// Why a session ended; what it has queued to say is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The payload is not the message that its header announces.
    #[error("the client sent a message that cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The payload is longer than any such message, or than what is read of unknown ones.
    #[error("the client sent a payload of {length} bytes where at most {limit} are expected")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most bytes that such a message may have now.
        limit: usize,
    },
    /// The protocol has no such message.
    #[error("the client sent a message of type {msg_type:#04x}, which template distribution does not have")]
    UnknownMessage {
        /// The type in the frame's header.
        msg_type: u8,
    },
    /// Only a server may send this message.
    #[error("the client sent {message}, which only a server may send")]
    WrongDirection {
        /// The message's name.
        message: &'static str,
    },
    /// The message has its place, but not here.
    #[error("the client sent {message} where {expected}")]
    WrongState {
        /// The message's name.
        message: &'static str,
        /// What could have come instead.
        expected: &'static str,
    },
    /// The connection cannot be set up; the client was told why.
    #[error("the connection was refused: {0}")]
    Refused(SetupError),
    /// `SetupConnection` or `CoinbaseOutputConstraints` did not come in time.
    #[error("the client sent no {0} in time")]
    Idle(&'static str),
    /// No block has so much room.
    #[error(
        "the client wants {size} bytes and {sigops} signature operations for its outputs; no block has that much room"
    )]
    NoRoom {
        /// Bytes that it wants for outputs.
        size: u32,
        /// Signature operations that it wants, by their cost.
        sigops: u16,
    },
    /// The constraints changed too often while the template stayed the same.
    #[error("the client changed its constraints {ISSUES_PER_OFFER} times on one template")]
    TooManyConstraints,
    /// Too many solutions made no block.
    #[error(
        "the client sent more than {WORTHLESS_MAX} solutions that make no block; its job maker is at fault"
    )]
    TooManyWorthless,
    /// Transactions were asked for too often.
    #[error("the client asked for the transactions of templates more than {LISTS_MAX} times in a row")]
    TooManyLists,
    /// More questions for a sign of life than wait.
    #[error("the client asked for more than {PULSES_OWED_MAX} signs of life at once")]
    TooManyPulses,
}

/// One client of a template provider.
#[derive(Debug)]
pub struct Session {
    connection: u64,
    state: State,
    offers: Arc<Offers>,
    frames: FrameQueue,
    blocks: VecDeque<Block>,
    patience: Patience,
    /// Questions for a sign of life that are not answered yet.
    pulses_owed: u8,
}

#[derive(Debug)]
enum State {
    ExpectSetup { deadline: Monotonic },
    ExpectConstraints { deadline: Monotonic },
    Serving(Serving),
}

/// What a client wants and has.
#[derive(Clone, Copy, Debug)]
struct Serving {
    constraints: CoinbaseOutputConstraints,
    /// The block that its last `SetNewPrevHash` named.
    tip: Option<BlockHash>,
    /// The number of the offer that it was sent last, and how often it has been sent that.
    issued: Option<(u64, u8)>,
}

impl Session {
    /// A session whose client has just finished the handshake. `connection` stands in the log.
    #[must_use]
    pub fn new(connection: u64, offers: Arc<Offers>, now: Now) -> Self {
        let state = State::ExpectSetup { deadline: now.monotonic + SETUP_TIMEOUT };
        Self {
            connection,
            state,
            offers,
            frames: FrameQueue::default(),
            blocks: VecDeque::new(),
            patience: Patience::new(now.monotonic),
            pulses_owed: 0,
        }
    }

    /// The most payload bytes that a frame with this header may have now.
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        match self.state {
            State::ExpectSetup { .. } => limits::before_setup(Side::Server, header),
            State::ExpectConstraints { .. } | State::Serving(_) => {
                limits::after_setup(Protocol::TemplateDistribution, Side::Server, header)
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Monotonic> {
        match self.state {
            State::ExpectSetup { deadline } | State::ExpectConstraints { deadline } => Some(deadline),
            State::Serving(_) => None,
        }
    }

    /// Whether the client has shown that it speaks the protocol.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Serving(_))
    }

    /// What is to be sent; clear it when that is done.
    pub const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    /// The next block that the client has found; hand it to the node before anything else.
    pub fn poll_block(&mut self) -> Option<Block> {
        self.blocks.pop_front()
    }

    /// Whether the client waits for a sign of life. It wants to know of the node behind this server, so ask that.
    #[must_use]
    pub const fn awaits_pulse(&self) -> bool {
        self.pulses_owed > 0
    }

    /// The node has given a sign of life, so the client gets its.
    pub fn handle_pulse(&mut self) {
        for _ in 0..core::mem::take(&mut self.pulses_owed) {
            self.send_no_transactions(NO_TEMPLATE, DataError::TemplateIdNotFound);
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If the client has let a deadline pass.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), SessionEnd> {
        match self.state {
            State::ExpectSetup { deadline } if now.monotonic >= deadline => {
                Err(SessionEnd::Idle("SetupConnection"))
            }
            State::ExpectConstraints { deadline } if now.monotonic >= deadline => {
                Err(SessionEnd::Idle("CoinbaseOutputConstraints"))
            }
            State::ExpectSetup { .. } | State::ExpectConstraints { .. } | State::Serving(_) => Ok(()),
        }
    }

    /// Takes in newer offers, and tells the client.
    ///
    /// # Errors
    ///
    /// If not even a block without transactions has the room that the client wants.
    pub fn handle_offers(&mut self, offers: Arc<Offers>, now: Now) -> Result<(), SessionEnd> {
        self.offers = offers;
        match self.state {
            State::Serving(serving) => self.send_newest(serving, now),
            State::ExpectSetup { .. } | State::ExpectConstraints { .. } => Ok(()),
        }
    }

    /// Takes in a frame.
    ///
    /// # Errors
    ///
    /// If the client breaks the rules, or cannot be served.
    pub fn handle_frame(&mut self, frame: Frame<'_>, now: Now) -> Result<(), SessionEnd> {
        let Some(info) = info(Protocol::TemplateDistribution, &frame.header) else {
            return self.handle_unknown(&frame);
        };
        if !info.direction.reaches(Side::Server) {
            return Err(SessionEnd::WrongDirection { message: info.name });
        }
        self.check_length(&frame)?;
        match self.state {
            State::ExpectSetup { .. } => self.handle_setup(info, frame, now),
            State::ExpectConstraints { .. } | State::Serving(_) => self.handle_message(info, frame, now),
        }
    }

    fn handle_message(
        &mut self,
        info: &'static MessageInfo,
        frame: Frame<'_>,
        now: Now,
    ) -> Result<(), SessionEnd> {
        match decode(Protocol::TemplateDistribution, frame)? {
            Message::CoinbaseOutputConstraints(constraints) => {
                return self.handle_constraints(constraints, now);
            }
            // A client may ask for what it was sent before it lost its connection, and above all bring a block.
            Message::RequestTransactionData(request) => {
                return self.handle_request(TemplateId(request.template_id), now.monotonic);
            }
            Message::SubmitSolution(solution) => return self.handle_solution(&solution, now.monotonic),
            Message::RequestExtensions(request) => self.handle_extensions(&request),
            // The client's only other message is SetupConnection, which has had its turn.
            _ => {
                let expected = "the connection is set up already";
                return Err(SessionEnd::WrongState { message: info.name, expected });
            }
        }
        Ok(())
    }

    /// Ignores a message of an extension that nobody here knows (spec 3.4.1); the core protocol has no unknown messages.
    fn handle_unknown(&self, frame: &Frame<'_>) -> Result<(), SessionEnd> {
        let Header { extension_type, msg_type, .. } = frame.header;
        if extension_type == 0 {
            return Err(SessionEnd::UnknownMessage { msg_type });
        }
        if let State::ExpectSetup { .. } = self.state {
            let message = "a message of an extension";
            return Err(SessionEnd::WrongState { message, expected: EXPECT_SETUP });
        }
        self.check_length(frame)
    }

    /// Holds a frame against the limit that it should have been read with.
    fn check_length(&self, frame: &Frame<'_>) -> Result<(), SessionEnd> {
        let (length, limit) = (frame.payload.len(), self.frame_limit(&frame.header));
        if length > limit { Err(SessionEnd::TooLong { length, limit }) } else { Ok(()) }
    }

    /// Takes in the first frame, which must be `SetupConnection` (spec 3.6.1).
    fn handle_setup(
        &mut self,
        info: &'static MessageInfo,
        frame: Frame<'_>,
        now: Now,
    ) -> Result<(), SessionEnd> {
        let setup = match decode(Protocol::TemplateDistribution, frame) {
            Ok(Message::SetupConnection(setup)) => setup,
            Err(DecodeError::UnknownProtocol(_)) => {
                return Err(self.refuse(SetupError::UnsupportedProtocol, 0));
            }
            Err(malformed) if info.name == "SetupConnection" => return Err(malformed.into()),
            Ok(_) | Err(_) => {
                return Err(SessionEnd::WrongState { message: info.name, expected: EXPECT_SETUP });
            }
        };
        if Protocol::from(setup.protocol) != Protocol::TemplateDistribution {
            return Err(self.refuse(SetupError::UnsupportedProtocol, 0));
        }
        if !(setup.min_version..=setup.max_version).contains(&PROTOCOL_VERSION) {
            return Err(self.refuse(SetupError::ProtocolVersionMismatch, 0));
        }
        // This protocol defines no flags (spec 3.6.1).
        if setup.flags != 0 {
            return Err(self.refuse(SetupError::UnsupportedFeatureFlags, setup.flags));
        }
        let name = [setup.vendor, setup.firmware].map(|text| printable(text.as_bytes())).join(" ");
        debug!(connection = self.connection, client = name.trim(), "set up");
        self.state = State::ExpectConstraints { deadline: now.monotonic + CONSTRAINTS_TIMEOUT };
        self.send(common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: 0 });
        Ok(())
    }

    /// Tells the client why the connection is refused, and which flags are to blame (spec 3.6.3).
    fn refuse(&mut self, code: SetupError, flags: u32) -> SessionEnd {
        self.send(common::SetupConnectionError { flags, error_code: code.to_wire() });
        SessionEnd::Refused(code)
    }

    /// Takes in how much room the client needs, and answers with the best template that leaves it (spec 7).
    fn handle_constraints(
        &mut self,
        constraints: CoinbaseOutputConstraints,
        now: Now,
    ) -> Result<(), SessionEnd> {
        let serving = match self.state {
            State::Serving(serving) => Serving { constraints, ..serving },
            State::ExpectSetup { .. } | State::ExpectConstraints { .. } => {
                Serving { constraints, tip: None, issued: None }
            }
        };
        debug!(
            connection = self.connection,
            size = constraints.coinbase_output_max_additional_size,
            sigops = constraints.coinbase_output_max_additional_sigops,
            "coinbase constraints"
        );
        self.send_newest(serving, now)
    }

    /// Sends the newest offer in the form that leaves enough room, and after it the block that it stands on if the client does not know
    /// that yet (spec 7.3).
    fn send_newest(&mut self, serving: Serving, now: Now) -> Result<(), SessionEnd> {
        let offer = Arc::clone(self.offers.newest());
        let form = self.form(&offer, &serving.constraints)?;
        let issue = match serving.issued {
            Some((number, issue)) if number == offer.number() => issue + 1,
            Some(_) | None => 0,
        };
        if issue >= ISSUES_PER_OFFER {
            return Err(SessionEnd::TooManyConstraints);
        }
        let (id, template) = (offer.id(form, issue), offer.template(form));
        let is_future = serving.tip != Some(offer.prev_hash());
        self.send_template(id, template, is_future);
        if is_future {
            self.send_tip(id, template, now);
        }
        let (tip, issued) = (Some(offer.prev_hash()), Some((offer.number(), issue)));
        self.state = State::Serving(Serving { tip, issued, ..serving });
        Ok(())
    }

    /// The form of an offer that leaves the room that the client wants.
    fn form(&self, offer: &Offer, constraints: &CoinbaseOutputConstraints) -> Result<Form, SessionEnd> {
        if leaves_room(offer.template(Form::Full), constraints) {
            return Ok(Form::Full);
        }
        let CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: size,
            coinbase_output_max_additional_sigops: sigops,
        } = *constraints;
        if !leaves_room(offer.template(Form::Empty), constraints) {
            return Err(SessionEnd::NoRoom { size, sigops });
        }
        warn!(
            connection = self.connection,
            size, sigops, "client gets a template without transactions: the node's leaves too little room"
        );
        Ok(Form::Empty)
    }

    fn send_template(&mut self, id: TemplateId, template: &Template, is_future: bool) {
        let outputs: Vec<u8> = template.required_outputs.iter().flat_map(consensus::serialize).collect();
        let Ok(outputs) = B064K::new(&outputs) else {
            return warn!(template = id.0, "not sent: its outputs do not fit into a message");
        };
        let form = &template.coinbase_form;
        // The height, as consensus wants it at the beginning of the coinbase (BIP 34).
        let mut prefix = Builder::new().push_int(i64::from(template.tip.height.0)).into_bytes();
        prefix.extend_from_slice(form.after_height.as_bytes());
        let Ok(prefix) = B0255::new(&prefix) else {
            return warn!(template = id.0, "not sent: its coinbase prefix does not fit into a message");
        };
        let path: Vec<U256<'_>> = template.merkle_path.iter().map(U256::from).collect();
        let count = u32::try_from(template.required_outputs.len());
        self.send(NewTemplate {
            template_id: id.0,
            future_template: is_future,
            version: template.version,
            coinbase_tx_version: form.version.0.cast_unsigned(),
            coinbase_prefix: prefix,
            coinbase_tx_input_sequence: form.sequence.to_consensus_u32(),
            coinbase_tx_value_remaining: template.coinbase_value.to_sats(),
            coinbase_tx_outputs_count: count.expect("outputs in 64 KiB are few"),
            coinbase_tx_outputs: outputs,
            coinbase_tx_locktime: form.lock_time.to_consensus_u32(),
            merkle_path: Seq0255::new(path).expect("no block has so many transactions"),
        });
    }

    fn send_tip(&mut self, id: TemplateId, template: &Template, now: Now) {
        let tip = &template.tip;
        self.send(SetNewPrevHash {
            template_id: id.0,
            prev_hash: U256::from(tip.prev_hash.as_byte_array()),
            // A template that says nothing new is not given out again, so its own time may be old.
            header_timestamp: template.time.max(now.unix.to_secs()),
            n_bits: tip.nbits.to_consensus(),
            target: U256::from(&tip.target.to_le_bytes()),
        });
    }

    /// Answers with a template's transactions (spec 7.4).
    fn handle_request(&mut self, id: TemplateId, now: Monotonic) -> Result<(), SessionEnd> {
        if id == NO_TEMPLATE {
            if self.pulses_owed >= PULSES_OWED_MAX {
                return Err(SessionEnd::TooManyPulses);
            }
            self.pulses_owed += 1;
            return Ok(());
        }
        match self.offers.find(id) {
            Some(found) if found.is_current => {
                if !self.patience.grants_list(now) {
                    return Err(SessionEnd::TooManyLists);
                }
                self.send_transactions(id, &found.template);
            }
            Some(_) => self.send_no_transactions(id, DataError::StaleTemplateId),
            None => self.send_no_transactions(id, DataError::TemplateIdNotFound),
        }
        Ok(())
    }

    fn send_no_transactions(&mut self, id: TemplateId, code: DataError) {
        self.send(RequestTransactionDataError { template_id: id.0, error_code: code.to_wire() });
    }

    fn send_transactions(&mut self, id: TemplateId, template: &Template) {
        let list = template.transactions.iter().map(|transaction| {
            B016M::new(transaction.as_bytes()).expect("a transaction is smaller than a block")
        });
        self.send(RequestTransactionDataSuccess {
            template_id: id.0,
            excess_data: B064K::new(&[]).expect("nothing fits everywhere"),
            transaction_list: Seq064K::new(list.collect()).expect("a block has fewer transactions"),
        });
    }

    /// Makes a block of a solution (spec 7.7).
    fn handle_solution(&mut self, solution: &SubmitSolution<'_>, now: Monotonic) -> Result<(), SessionEnd> {
        let (connection, template) = (self.connection, solution.template_id);
        let found = self.offers.find(TemplateId(template)).ok_or(SolutionError::UnknownTemplate);
        match found.and_then(|found| assemble(&found.template, solution)) {
            Ok(block) => self.blocks.push_back(block),
            Err(error) => {
                if let Some(count) = self.patience.worthless_to_log(now) {
                    warn!(connection, template, %error, count, "solution makes no block");
                }
                if !self.patience.forgives_worthless(now) {
                    return Err(SessionEnd::TooManyWorthless);
                }
            }
        }
        Ok(())
    }

    /// Answers which extensions are spoken here: none but the one that asks (extension 0x0001, section 4).
    fn handle_extensions(&mut self, request: &RequestExtensions<'_>) {
        let request_id = request.request_id;
        let asked = &request.requested_extensions;
        let knows = asked.iter().any(|asked| *asked == EXTENSIONS_NEGOTIATION);
        if knows || asked.is_empty() {
            let supported = asked.iter().copied().filter(|asked| *asked == EXTENSIONS_NEGOTIATION).take(1);
            let supported_extensions = Seq064K::new(supported.collect()).expect("one fits");
            self.send(RequestExtensionsSuccess { request_id, supported_extensions });
        } else {
            self.send(RequestExtensionsError {
                request_id,
                unsupported_extensions: asked.clone(),
                required_extensions: Seq064K::new(Vec::new()).expect("none fit"),
            });
        }
    }

    fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        encode(message, &mut self.frames).expect("what a block can hold fits into a frame");
    }
}

/// What a connection must begin with.
const EXPECT_SETUP: &str = "the first message must be SetupConnection";

/// Whether a block of the template stays within consensus with all that the client may add (spec 7.1).
fn leaves_room(template: &Template, constraints: &CoinbaseOutputConstraints) -> bool {
    let outputs = 4 * u64::from(constraints.coinbase_output_max_additional_size);
    let sigops = u64::from(template.sigops) + u64::from(constraints.coinbase_output_max_additional_sigops);
    template.weight + FIXED_WEIGHT + outputs <= MAX_BLOCK_WEIGHT && sigops <= MAX_BLOCK_SIGOPS
}

/// What a client says of itself, safe to log.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|character| !character.is_control()).take(CLIENT_NAME_MAX / 2).collect()
}

#[cfg(test)]
mod tests;

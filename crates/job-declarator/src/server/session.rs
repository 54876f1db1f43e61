//! One connection of a job declarator client, from `SetupConnection` to its end.

mod declare;
mod job;
mod setup;
mod solution;
mod tokens;

use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{DeclarationId, TokenKey, UserIdentity};
use adit_messages::{
    Message, MessageInfo, MessageKind, Protocol, Side, decode, encode, info, limits as lengths,
};
use adit_share::Tip;
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{ConnectionId, Height, Monotonic, Now};
use bitcoin::{BlockHash, Wtxid};
use rand_core::CryptoRng;

use self::declare::{Pending, Proposed};
pub use self::job::DeclaredJob;
use self::setup::Terms;
use self::tokens::Tokens;
use super::limits::{
    Budget, Hold, Pace, REQUEST_INTERVAL, REQUESTS_MAX, SETUP_TIMEOUT, SOLUTION_INTERVAL, SOLUTIONS_MAX,
};
use super::{Disconnect, JdsConfig};

/// What a session wants to have done.
#[derive(Debug)]
pub enum Request {
    /// To find transactions by their hashes; [`Session::handle_resolved`] takes the answer.
    Resolve {
        /// The number of the question.
        id: u64,
        /// The hashes that cover everything in them.
        wtxids: Vec<Wtxid>,
    },
    /// To have a node judge a block that nobody has solved yet; [`Session::handle_checked`] takes the answer.
    Check {
        /// The number of the question.
        id: u64,
        /// Whose declaration it is: SHA-256 of the account.
        account: [u8; 32],
        /// Two blocks of the same declaration are the same but for what does not matter to a node.
        declaration: DeclarationId,
        /// The block, consensus-serialised.
        block: Vec<u8>,
        /// For the block's bytes; to be kept for as long as the block is, also when the session has ended.
        hold: Hold,
    },
    /// To remember a job that was accepted, for those who find a block on it elsewhere.
    Keep(Arc<DeclaredJob>),
    /// To hand a solved block to every node, before anything else happens.
    Propagate(Solved),
}

/// A block that a client has solved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solved {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: Height,
    /// The block, consensus-serialised.
    pub bytes: Vec<u8>,
    /// Who declared it.
    pub user: UserIdentity,
}

/// What a node says of a block that nobody has solved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Solved, it would be accepted.
    Valid,
    /// It breaks a rule. With the node's reason.
    Refused(String),
    /// It does not stand on the node's last block, which the node has seen just now. With the node's word.
    OffTip(String),
    /// Nobody could tell. With the reason.
    Unknown(String),
}

/// One connection; see the module's text for how to drive it.
#[derive(Debug)]
pub struct Session {
    config: Arc<JdsConfig>,
    key: Arc<TokenKey>,
    connection: ConnectionId,
    budget: Budget,
    state: State,
    tip: Option<Tip>,
    tokens: Tokens,
    /// The declaration that is under way.
    pending: Option<Pending>,
    /// Those that wait for it.
    waiting: VecDeque<Proposed>,
    /// Those that were accepted last, the newest first.
    recent: VecDeque<Arc<DeclaredJob>>,
    /// How often transactions were asked for without an answer yet; as many long answers may come.
    unanswered: u32,
    /// What is held to read these answers one after the other; there is none if none is to come.
    room: Option<Hold>,
    requests: VecDeque<Request>,
    last_question: u64,
    messages: Pace,
    solutions: Pace,
    /// The blocks that were handed over last.
    solved: VecDeque<BlockHash>,
    frames: FrameQueue,
    counters: Counters,
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tokens that were given out.
    pub tokens: u64,
    /// Declarations that were accepted.
    pub accepted: u64,
    /// Declarations that were refused.
    pub refused: u64,
    /// Blocks that were handed on.
    pub blocks: u64,
}

/// What the session waits for.
#[derive(Clone, Copy, Debug)]
enum State {
    /// `SetupConnection`, which must be the first message (spec 3.6.1).
    ExpectSetup { deadline: Monotonic },
    /// The first request for a token; before it, extensions may be negotiated.
    ExpectToken { deadline: Monotonic, terms: Terms },
    /// Declarations and solutions.
    Declaring { terms: Terms },
}

impl State {
    const fn terms(&self) -> Terms {
        match *self {
            Self::ExpectSetup { .. } => Terms { full_template: false },
            Self::ExpectToken { terms, .. } | Self::Declaring { terms } => terms,
        }
    }
}

impl Session {
    /// A connection whose handshake has just been completed.
    ///
    /// `budget` is the share of the client's address, which all sessions of that address have between them.
    #[must_use]
    pub fn new(
        config: Arc<JdsConfig>,
        key: Arc<TokenKey>,
        connection: ConnectionId,
        budget: Budget,
        now: Now,
    ) -> Self {
        Self {
            config,
            key,
            connection,
            budget,
            state: State::ExpectSetup { deadline: now.monotonic + SETUP_TIMEOUT },
            tip: None,
            tokens: Tokens::default(),
            pending: None,
            waiting: VecDeque::new(),
            recent: VecDeque::new(),
            unanswered: 0,
            room: None,
            requests: VecDeque::new(),
            last_question: 0,
            messages: Pace::new(REQUESTS_MAX, REQUEST_INTERVAL),
            solutions: Pace::new(SOLUTIONS_MAX, SOLUTION_INTERVAL),
            solved: VecDeque::new(),
            frames: FrameQueue::default(),
            counters: Counters::default(),
        }
    }

    /// The most payload bytes that a frame with this header may have now; a longer one is not to be read.
    ///
    /// Only who has agreed to reveal transactions may send a list of them, and only who was asked for some may send them, and no more
    /// than there is room for.
    #[must_use]
    pub fn frame_limit(&self, header: &Header) -> usize {
        if let State::ExpectSetup { .. } = self.state {
            return lengths::before_setup(Side::Server, header);
        }
        let limit = lengths::after_setup(Protocol::JobDeclaration, Side::Server, header);
        let most = match info(Protocol::JobDeclaration, header).map(|info| info.kind) {
            Some(MessageKind::DeclareMiningJob) if !self.state.terms().full_template => lengths::UNKNOWN,
            Some(MessageKind::ProvideMissingTransactionsSuccess) => {
                self.room.as_ref().map_or(0, Hold::bytes).max(lengths::UNKNOWN)
            }
            Some(_) | None => limit,
        };
        limit.min(most)
    }

    /// Takes in one frame.
    ///
    /// # Errors
    ///
    /// Why the connection must be closed, once everything that is queued has been sent.
    pub fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        now: Now,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Disconnect> {
        let Some(info) = info(Protocol::JobDeclaration, &frame.header) else {
            return self.handle_unknown(&frame, now);
        };
        if !info.direction.reaches(Side::Server) {
            return Err(Disconnect::WrongDirection { message: info.name });
        }
        self.check_length(&frame)?;
        if let State::ExpectSetup { .. } = self.state {
            return self.handle_setup(info, frame, now);
        }
        self.count_message(now)?;
        self.handle_message(info, frame, now, rng)
    }

    fn handle_message(
        &mut self,
        info: &'static MessageInfo,
        frame: Frame<'_>,
        now: Now,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Disconnect> {
        let length = frame.payload.len();
        match decode(Protocol::JobDeclaration, frame)? {
            Message::AllocateMiningJobToken(allocate) => return self.handle_allocate(&allocate, now, rng),
            Message::DeclareMiningJob(declare) => self.handle_declare(&declare, length, now),
            Message::ProvideMissingTransactionsSuccess(provided) => self.handle_provided(&provided, now),
            Message::PushSolution(solution) => self.handle_solution(&solution, now),
            Message::RequestExtensions(request) => return self.handle_extensions(info, &request),
            // The client's only other message is SetupConnection, which has had its turn.
            _ => {
                let expected = "the connection is set up already";
                return Err(Disconnect::WrongState { message: info.name, expected });
            }
        }
        Ok(())
    }

    /// Ignores a message of an extension that nobody here knows (spec 3.4.1); the core protocol has no unknown messages.
    fn handle_unknown(&mut self, frame: &Frame<'_>, now: Now) -> Result<(), Disconnect> {
        let Header { extension_type, msg_type, .. } = frame.header;
        if extension_type == 0 {
            return Err(Disconnect::UnknownMessage { msg_type });
        }
        if let State::ExpectSetup { .. } = self.state {
            let message = "a message of an extension";
            return Err(Disconnect::WrongState { message, expected: setup::EXPECTED });
        }
        self.check_length(frame)?;
        self.count_message(now)
    }

    /// Holds a frame against the limit that it should have been read with.
    fn check_length(&self, frame: &Frame<'_>) -> Result<(), Disconnect> {
        let (length, limit) = (frame.payload.len(), self.frame_limit(&frame.header));
        if length > limit { Err(Disconnect::TooLong { length, limit }) } else { Ok(()) }
    }

    fn count_message(&mut self, now: Now) -> Result<(), Disconnect> {
        if self.messages.take(now.monotonic) { Ok(()) } else { Err(Disconnect::Requests) }
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If the client has let a deadline pass.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut impl CryptoRng) -> Result<(), Disconnect> {
        match self.state {
            State::ExpectSetup { deadline } if now.monotonic >= deadline => return Err(Disconnect::NoSetup),
            State::ExpectToken { deadline, .. } if now.monotonic >= deadline => {
                return Err(Disconnect::NoToken);
            }
            State::ExpectSetup { .. } | State::ExpectToken { .. } | State::Declaring { .. } => {}
        }
        self.grant_tokens(now, rng);
        self.give_up_late(now);
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called; to be asked again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let state = match self.state {
            State::ExpectSetup { deadline } | State::ExpectToken { deadline, .. } => Some(deadline),
            State::Declaring { .. } => None,
        };
        let pending = self.pending.as_ref().map(Pending::deadline);
        [state, pending, self.tokens.next()].into_iter().flatten().min()
    }

    /// The node mines on another tip from now on; the first is to be told right after [`Self::new`].
    pub fn handle_tip(&mut self, tip: Tip, now: Now) {
        let former = self.tip.replace(tip).map(|former| former.prev_hash);
        if former == Some(tip.prev_hash) {
            return;
        }
        let may_still_win = |job: &Arc<DeclaredJob>| {
            let stands_on = Some(job.tip().prev_hash);
            stands_on == Some(tip.prev_hash) || stands_on == former
        };
        self.recent.retain(may_still_win);
        self.resume_on(tip, now);
    }

    /// Goes by other rules from now on. Tokens that were given out keep the payout that they were given with.
    pub fn handle_rules(&mut self, config: Arc<JdsConfig>) {
        self.config = config;
    }

    /// Something that the session wants to have done. Blocks come first.
    pub fn poll_request(&mut self) -> Option<Request> {
        let block = self.requests.iter().position(|request| matches!(request, Request::Propagate(_)));
        self.requests.remove(block.unwrap_or(0))
    }

    /// What the session has to say; to be sent, then cleared.
    pub const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    /// What has been done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the client has shown what it is for.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Declaring { .. })
    }

    /// Transactions that the session holds for a declaration that is under way.
    #[must_use]
    pub fn pending_transactions(&self) -> usize {
        self.pending.as_ref().map_or(0, Pending::transactions)
    }

    /// A number for a question that no other question of this session had.
    const fn next_question(&mut self) -> u64 {
        self.last_question += 1;
        self.last_question
    }

    /// Queues a message.
    fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        encode(message, &mut self.frames)
            .expect("no message of a declarator server is longer than a frame can carry");
    }
}

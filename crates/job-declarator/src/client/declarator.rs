//! The connection to the job declarator server: tokens, declarations, and blocks for it to complete.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_messages::flags::JobDeclarationSetupFlags;
use adit_messages::types::{B016M, B032, Seq064K, Str0255, U256};
use adit_messages::{Message, Protocol, Side, common, encode, job_declaration, limits};
use adit_transport::{Frame, FrameQueue, Header};
use adit_units::Monotonic;
use bitcoin::{Amount, TxOut, consensus};

use super::setup::{SETUP_PATIENCE, check_deadline, introduce, printable, push, read, read_answer};
use super::upstream::{Mode, Server, UpstreamConfig, UpstreamError};
use super::{Proposal, Share};

/// How long the server may take to hand out a token.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes that the outputs of a token may have together. Nodes keep 4 000 weight units of each block free for a coinbase, which has room
/// for that and one more output.
pub(super) const OUTPUTS_LEN_MAX: usize = 700;

/// Most signature operations that they may have, each of which costs four of the 400 that nodes keep free.
pub(super) const OUTPUTS_SIGOPS_MAX: usize = 90;

/// A token that can be used once, and what jobs must pay that are declared with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) bytes: Box<[u8]>,
    /// The first one is the pool's payout.
    pub(super) outputs: Vec<TxOut>,
}

/// What the server said.
#[derive(Debug)]
pub(super) enum DeclaratorEvent {
    /// A token that was asked for.
    Token(Token),
    /// A job is declared; the pool is to be shown this token.
    Declared { request: u32, token: Box<[u8]> },
    /// A job is refused.
    Refused { request: u32, code: String, details: String },
    /// The server does not know some of a job's transactions.
    Missing { request: u32, positions: Vec<u16> },
    /// The server wants its clients elsewhere.
    Redirected { host: String, port: u16 },
}

/// One connection.
#[derive(Debug)]
pub(super) struct DeclaratorSide {
    config: Arc<UpstreamConfig>,
    is_set_up: bool,
    frames: FrameQueue,
    events: VecDeque<DeclaratorEvent>,
    /// When the server's silence on `SetupConnection` ends the connection.
    deadline: Option<Monotonic>,
    /// Requests for tokens that have no answer yet, and when that is too long.
    asked: VecDeque<(u32, Monotonic)>,
}

impl DeclaratorSide {
    pub(super) fn new(config: Arc<UpstreamConfig>, now: Monotonic) -> Self {
        let flags = match config.mode {
            Mode::FullTemplate => JobDeclarationSetupFlags::DECLARE_TX_DATA,
            Mode::CoinbaseOnly => JobDeclarationSetupFlags::NONE,
        };
        let mut frames = FrameQueue::default();
        let (host, port) = &config.declarator;
        introduce(common::Protocol::JobDeclarationProtocol, flags.bits(), (host, *port), &mut frames);
        Self {
            config,
            is_set_up: false,
            frames,
            events: VecDeque::new(),
            deadline: Some(now + SETUP_PATIENCE),
            asked: VecDeque::new(),
        }
    }

    pub(super) fn frame_limit(&self, header: &Header) -> usize {
        if self.is_set_up {
            limits::after_setup(Protocol::JobDeclaration, Side::Client, header)
        } else {
            limits::before_setup(Side::Client, header)
        }
    }

    pub(super) const fn frames(&mut self) -> &mut FrameQueue {
        &mut self.frames
    }

    pub(super) fn poll_event(&mut self) -> Option<DeclaratorEvent> {
        self.events.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Monotonic> {
        self.deadline.into_iter().chain(self.asked.front().map(|&(_, deadline)| deadline)).min()
    }

    pub(super) fn handle_timeout(&self, now: Monotonic) -> Result<(), UpstreamError> {
        check_deadline(Server::Declarator, self.deadline, "an answer to SetupConnection", now)?;
        let deadline = self.asked.front().map(|&(_, deadline)| deadline);
        check_deadline(Server::Declarator, deadline, "a token", now)
    }

    /// Whether the server has agreed to work with us.
    pub(super) const fn is_set_up(&self) -> bool {
        self.is_set_up
    }

    /// How many tokens are on their way.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn handle_frame(&mut self, frame: Frame<'_>) -> Result<(), UpstreamError> {
        let Some(message) = read(Server::Declarator, Protocol::JobDeclaration, frame)? else { return Ok(()) };
        if !self.is_set_up {
            read_answer(Server::Declarator, &message)?;
            (self.is_set_up, self.deadline) = (true, None);
            return Ok(());
        }
        let event = match message {
            Message::AllocateMiningJobTokenSuccess(success) => match self.take_token(&success)? {
                Some(token) => DeclaratorEvent::Token(token),
                // Nobody asked for it: a stock that others can fill has no limit.
                None => return Ok(()),
            },
            Message::DeclareMiningJobSuccess(success) => DeclaratorEvent::Declared {
                request: success.request_id,
                token: success.new_mining_job_token.as_bytes().into(),
            },
            Message::DeclareMiningJobError(error) => DeclaratorEvent::Refused {
                request: error.request_id,
                code: printable(error.error_code.as_bytes()),
                details: printable(
                    error.error_details.as_bytes().get(..256).unwrap_or(error.error_details.as_bytes()),
                ),
            },
            Message::ProvideMissingTransactions(missing) => DeclaratorEvent::Missing {
                request: missing.request_id,
                positions: missing.unknown_tx_position_list.iter().copied().collect(),
            },
            Message::Reconnect(reconnect) => DeclaratorEvent::Redirected {
                host: printable(reconnect.new_host.as_bytes()),
                port: reconnect.new_port,
            },
            _ => {
                let what = "it sent a message out of turn";
                return Err(UpstreamError::Misbehaved { server: Server::Declarator, what });
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    /// Reads a token; `None` if it was not asked for.
    fn take_token(
        &mut self,
        success: &job_declaration::AllocateMiningJobTokenSuccess<'_>,
    ) -> Result<Option<Token>, UpstreamError> {
        let Some(place) = self.asked.iter().position(|&(request, _)| request == success.request_id) else {
            return Ok(None);
        };
        self.asked.remove(place);
        let len = success.coinbase_outputs.as_bytes().len();
        if len > OUTPUTS_LEN_MAX {
            return Err(UpstreamError::OutputsTooLarge { len, sigops: 0 });
        }
        let outputs: Vec<TxOut> = consensus::deserialize(success.coinbase_outputs.as_bytes())
            .map_err(|_| UpstreamError::Outputs)?;
        let [payout, further @ ..] = &*outputs else { return Err(UpstreamError::Outputs) };
        if payout.script_pubkey.is_empty() || payout.script_pubkey.is_op_return() {
            return Err(UpstreamError::Outputs);
        }
        if further.iter().any(|output| output.value != Amount::ZERO) {
            return Err(UpstreamError::OutputValues);
        }
        let sigops = outputs.iter().map(|output| output.script_pubkey.count_sigops_legacy()).sum();
        if sigops > OUTPUTS_SIGOPS_MAX {
            return Err(UpstreamError::OutputsTooLarge { len, sigops });
        }
        Ok(Some(Token { bytes: success.mining_job_token.as_bytes().into(), outputs }))
    }

    /// Asks for a token.
    pub(super) fn ask(&mut self, request: u32, now: Monotonic) {
        let user_identifier =
            Str0255::try_from(&*self.config.user).expect("the config's check limits its length");
        let ask = job_declaration::AllocateMiningJobToken { user_identifier, request_id: request };
        push(&mut self.frames, ask);
        self.asked.push_back((request, now + TOKEN_PATIENCE));
    }

    /// Declares a job.
    pub(super) fn declare(&mut self, request: u32, token: &Token, proposal: &Proposal) {
        push(&mut self.frames, proposal.declare(request, &token.bytes));
    }

    /// Hands over transactions of a job that the server asks for.
    pub(super) fn provide(
        &mut self,
        request: u32,
        positions: &[u16],
        proposal: &Proposal,
    ) -> Result<(), UpstreamError> {
        let transactions = &proposal.template().transactions;
        let misbehaved = |what| UpstreamError::Misbehaved { server: Server::Declarator, what };
        if positions.len() > transactions.len() {
            return Err(misbehaved("it asks for more transactions than the job has"));
        }
        let asked = positions.iter().map(|&position| transactions.get(usize::from(position)));
        let asked: Option<Vec<B016M<'_>>> =
            asked.map(|transaction| B016M::try_from(transaction?.as_bytes()).ok()).collect();
        let Some(asked) = asked else {
            return Err(misbehaved("it asks for transactions that the job does not have"));
        };
        let provide = job_declaration::ProvideMissingTransactionsSuccess {
            request_id: request,
            transaction_list: Seq064K::new(asked)
                .map_err(|_| misbehaved("it asks for too many transactions"))?,
        };
        encode(provide, &mut self.frames)
            .map_err(|_| misbehaved("it asks for more transactions than a frame carries"))
    }

    /// Hands over a block, for the server to complete and send out too (spec 6.4.9).
    pub(super) fn push_solution(&mut self, share: &Share, proposal: &Proposal) {
        let Ok(extranonce) = B032::try_from(&*share.extranonce) else { return };
        push(
            &mut self.frames,
            job_declaration::PushSolution {
                extranonce,
                prev_hash: U256::from(proposal.prev_hash_bytes()),
                nonce: share.nonce,
                ntime: share.ntime,
                nbits: proposal.nbits(),
                version: share.version,
            },
        );
    }
}

//! One attempt at one pool and its job declarator server, from the first message to the reason why it is over.

mod error;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_transport::{Frame, FrameQueue, Header};
use adit_units::{Hashrate, JobId, Monotonic};
use bitcoin::TxOut;

use super::declarator::{DeclaratorEvent, DeclaratorSide, Token};
use super::pool::{PoolEvent, PoolSide};
use super::relay::{Passed, Relay};
use super::{Proposal, Share};

pub use self::error::UpstreamError;

/// Tokens that are kept ready, so that a new template need not wait for one.
const STOCK: usize = 2;

/// How old a token may be when it is used; servers forget them some time.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(20 * 60);

/// How long the job declarator server may take over a job, anew after it has asked for transactions. It may have to wait for a block that we
/// have seen first, and then twice for its node, to find the transactions and to check the whole.
const DECLARE_PATIENCE: Duration = Duration::from_secs(75);

/// How long the pool may take over a job. One that sees a new block later than we do may hold the job until then.
const SET_PATIENCE: Duration = Duration::from_secs(15);

/// How often a job is put again that was refused for a reason that passes, and how many jobs in a row may be refused because the job declarator
/// server is in trouble.
const TRIES_MAX: u8 = 3;

/// How long after it was refused because the server is at another block, or because its token was not good. Twice as long each time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long after a refusal because the job declarator server is in trouble, with a full queue or a node that starts, it is left alone. Twice
/// as long each time.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);

/// Shares of accepted jobs that a pool may refuse in a row before it is left (spec 6.2), stale ones not counted.
const REFUSALS_MAX: u32 = 3;

/// Jobs whose templates are kept, to complete blocks with and to answer for.
const PROPOSALS_KEPT: usize = 8;

/// How long to wait at least before the pool is told of another hash rate.
const HASHRATE_INTERVAL: Duration = Duration::from_secs(10);

/// How much of a template's origin the other side is shown (spec 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The declarator server sees all transactions, and helps to send out blocks.
    #[default]
    FullTemplate,
    /// Nobody sees the transactions before there is a block; the pool sees what the coinbase pays.
    CoinbaseOnly,
}

/// Which of the two servers of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// The one that shares go to.
    Pool,
    /// The one that jobs are declared to.
    Declarator,
}

impl core::fmt::Display for Server {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Pool => "the pool",
            Self::Declarator => "the job declarator server",
        })
    }
}

/// An upstream, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Host and port of the pool; the host has at most 255 bytes.
    pub pool: (String, u16),
    /// Host and port of its job declarator server; the host has at most 255 bytes.
    pub declarator: (String, u16),
    /// Whom the pool is to credit, at most 255 bytes.
    pub user: String,
    /// What is shown to the server.
    pub mode: Mode,
    /// How fast the miners below are together, as far as that is known.
    pub nominal_hashrate: Hashrate,
    /// The bytes of extranonce that the miners below need to share and to roll.
    pub min_extranonce_size: u16,
    /// Whether to name the worker of each share, where the pool takes names.
    pub names_workers: bool,
}

impl UpstreamConfig {
    /// Whether all texts fit into their messages.
    #[must_use]
    pub fn fits(&self) -> bool {
        [&self.pool.0, &self.declarator.0, &self.user].iter().all(|text| (1..=255).contains(&text.len()))
    }
}

/// What jobs must be like for this upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What every extranonce begins with.
    pub extranonce_prefix: Box<[u8]>,
    /// How many bytes follow it.
    pub extranonce_size: usize,
    /// What every coinbase must have among its outputs; the first is to be paid.
    pub outputs: Vec<TxOut>,
}

/// A share of an accepted job that the pool has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The job's number among those below.
    pub job: Option<JobId>,
    /// The pool's code, made printable.
    pub code: String,
}

/// What happened; see [`Upstream::poll_event`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Everything is set up: jobs that keep these terms can be proposed.
    Ready(Terms),
    /// From now on jobs must keep other terms; those that are accepted stay good (spec 5.3.10).
    Changed(Terms),
    /// The pool pays for shares of that job.
    JobAccepted(JobId),
    /// So many shares were accepted.
    SharesAccepted(u32),
    /// A share was refused.
    ShareRefused(Refusal),
    /// A server wants its clients elsewhere (spec 3.6.5): begin anew there, with the same authority.
    Redirected {
        /// Which one.
        server: Server,
        /// The host, empty for the present one.
        host: String,
        /// The port, 0 for the present one.
        port: u16,
    },
}

/// Which answer a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Declaring,
    Setting,
}

/// A job that a server is thinking about.
#[derive(Debug)]
struct UnderWay {
    proposal: Arc<Proposal>,
    request: u32,
    step: Step,
    deadline: Monotonic,
    tries: u8,
}

/// A job that is to be put to the servers.
#[derive(Debug)]
struct Waiting {
    proposal: Arc<Proposal>,
    not_before: Monotonic,
    tries: u8,
}

/// One attempt. Its driver sends what [`Self::pool_frames`] and [`Self::declarator_frames`] hold after each call, over a connection to
/// each of the two servers, and ends both when a method returns an error.
#[derive(Debug)]
pub struct Upstream {
    mode: Mode,
    pool: PoolSide,
    declarator: DeclaratorSide,
    /// What was told of last; `None` until everything is set up.
    terms: Option<Terms>,
    /// Oldest first.
    stock: VecDeque<(Token, Monotonic)>,
    last_request: u32,
    under_way: Option<UnderWay>,
    waiting: Option<Waiting>,
    /// Declarations in a row that the job declarator server was in no state to judge, and until when it is left alone for that.
    troubles: (u8, Monotonic),
    /// Oldest first.
    proposals: VecDeque<Arc<Proposal>>,
    relay: Relay,
    /// Shares refused since one was last accepted.
    refusals: u32,
    /// What the pool was told last, and when.
    told_hashrate: (Hashrate, Monotonic),
    hashrate: Hashrate,
    events: VecDeque<Event>,
}

impl Upstream {
    /// An attempt over two connections that have just been made; the first frames are there already.
    #[must_use]
    pub fn new(config: &Arc<UpstreamConfig>, now: Monotonic) -> Self {
        Self {
            mode: config.mode,
            pool: PoolSide::new(Arc::clone(config), now),
            declarator: DeclaratorSide::new(Arc::clone(config), now),
            terms: None,
            stock: VecDeque::new(),
            last_request: 0,
            under_way: None,
            waiting: None,
            troubles: (0, now),
            proposals: VecDeque::new(),
            relay: Relay::default(),
            refusals: 0,
            told_hashrate: (config.nominal_hashrate, now),
            hashrate: config.nominal_hashrate,
            events: VecDeque::new(),
        }
    }

    /// The most payload bytes that a frame of the pool with this header may have.
    #[must_use]
    pub fn pool_frame_limit(&self, header: &Header) -> usize {
        self.pool.frame_limit(header)
    }

    /// The most payload bytes that a frame of the job declarator server with this header may have.
    #[must_use]
    pub fn declarator_frame_limit(&self, header: &Header) -> usize {
        self.declarator.frame_limit(header)
    }

    /// What is to be sent to the pool; to be cleared then.
    pub const fn pool_frames(&mut self) -> &mut FrameQueue {
        self.pool.frames()
    }

    /// What is to be sent to the job declarator server; to be cleared then.
    pub const fn declarator_frames(&mut self) -> &mut FrameQueue {
        self.declarator.frames()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes in a frame of the pool.
    ///
    /// # Errors
    ///
    /// If the upstream is to be left.
    pub fn handle_pool_frame(&mut self, frame: Frame<'_>, now: Monotonic) -> Result<(), UpstreamError> {
        self.pool.handle_frame(frame, now)?;
        while let Some(event) = self.pool.poll_event() {
            self.handle_pool_event(event, now)?;
        }
        self.advance(now);
        Ok(())
    }

    /// Takes in a frame of the job declarator server.
    ///
    /// # Errors
    ///
    /// If the upstream is to be left.
    pub fn handle_declarator_frame(&mut self, frame: Frame<'_>, now: Monotonic) -> Result<(), UpstreamError> {
        self.declarator.handle_frame(frame)?;
        while let Some(event) = self.declarator.poll_event() {
            self.handle_declarator_event(event, now)?;
        }
        self.advance(now);
        Ok(())
    }

    /// The miners below have been given a job. The answer is whether it keeps the terms; one that does not is not put to anybody, and no
    /// share of it will earn.
    ///
    /// It is put to the servers as soon as they have answered the one before. One that has waited till then in vain, because a newer one
    /// came, is never put to them.
    pub fn handle_proposal(&mut self, proposal: Arc<Proposal>, now: Monotonic) -> bool {
        let Some(terms) = &self.terms else { return false };
        let extranonce_len = terms.extranonce_prefix.len() + terms.extranonce_size;
        if proposal.extranonce_len() != extranonce_len || !proposal.pays(&terms.outputs) {
            return false;
        }
        self.relay.propose(proposal.number(), proposal.prev_hash(), &terms.extranonce_prefix);
        self.proposals.push_back(Arc::clone(&proposal));
        if self.proposals.len() > PROPOSALS_KEPT {
            self.proposals.pop_front();
        }
        if let Some(passed_over) = self.waiting.replace(Waiting { proposal, not_before: now, tries: 0 }) {
            self.relay.drop_job(passed_over.proposal.number());
        }
        self.advance(now);
        true
    }

    /// A share was accepted below. A block goes to both servers before anything else; the rest is held until its job is accepted.
    pub fn handle_share(&mut self, share: Share) {
        if share.is_block && self.relay.is_declared(share.job) {
            self.push_solution(&share);
        }
        if let Some(passed) = self.relay.take(share) {
            self.submit(&passed);
        }
    }

    /// The miners below have this speed together; the pool is told when it differs by more than a fifth.
    pub fn handle_hashrate(&mut self, hashrate: Hashrate, now: Monotonic) {
        self.hashrate = hashrate;
        self.tell_hashrate(now);
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// If a server has been silent for too long, so that the upstream is to be left.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Result<(), UpstreamError> {
        self.pool.handle_timeout(now)?;
        self.declarator.handle_timeout(now)?;
        if let Some(UnderWay { step, deadline, .. }) = &self.under_way
            && *deadline <= now
        {
            let (server, what) = match step {
                Step::Declaring => (Server::Declarator, "an answer to DeclareMiningJob"),
                Step::Setting => (Server::Pool, "an answer to SetCustomMiningJob"),
            };
            return Err(UpstreamError::Silent { server, what });
        }
        self.tell_hashrate(now);
        self.advance(now);
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called; to be asked again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let under_way = self.under_way.as_ref().map(|under_way| under_way.deadline);
        let waiting = self.waiting.as_ref().filter(|_| self.under_way.is_none() && !self.stock.is_empty());
        let hashrate = self.owes_hashrate().then(|| self.told_hashrate.1 + HASHRATE_INTERVAL);
        let sides = [self.pool.poll_timeout(), self.declarator.poll_timeout()];
        let own = [under_way, waiting.map(|waiting| waiting.not_before.max(self.troubles.1)), hashrate];
        sides.into_iter().chain(own).flatten().min()
    }

    /// How many shares wait for their job to be accepted.
    #[must_use]
    pub fn held(&self) -> usize {
        self.relay.held()
    }

    /// How many shares were let go because their job was never accepted, or because too many were held.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.relay.tally().lost
    }

    fn handle_pool_event(&mut self, event: PoolEvent, now: Monotonic) -> Result<(), UpstreamError> {
        match event {
            PoolEvent::Opened | PoolEvent::Moved => self.tell_terms(),
            PoolEvent::JobAccepted { request, job } => self.handle_job_accepted(request, job),
            PoolEvent::JobRefused { request, code } => {
                return self.handle_job_refused(Server::Pool, request, (code, String::new()), now);
            }
            PoolEvent::SharesAccepted { last, count } => {
                self.refusals = 0;
                self.relay.settle(last);
                self.events.push_back(Event::SharesAccepted(count));
            }
            PoolEvent::ShareRefused { sequence_number, code } => {
                return self.handle_share_refused(sequence_number, code);
            }
            PoolEvent::Redirected { host, port } => {
                self.events.push_back(Event::Redirected { server: Server::Pool, host, port });
            }
        }
        Ok(())
    }

    fn handle_declarator_event(
        &mut self,
        event: DeclaratorEvent,
        now: Monotonic,
    ) -> Result<(), UpstreamError> {
        match event {
            DeclaratorEvent::Token(token) => self.handle_token(token, now),
            DeclaratorEvent::Declared { request, token } => self.handle_declared(request, &token, now),
            DeclaratorEvent::Refused { request, code, details } => {
                return self.handle_job_refused(Server::Declarator, request, (code, details), now);
            }
            DeclaratorEvent::Missing { request, positions } => {
                // An answer to a job that is no longer waited for is not missed by anybody.
                if let Some(under_way) =
                    self.under_way.as_mut().filter(|under_way| under_way.request == request)
                {
                    under_way.deadline = now + DECLARE_PATIENCE;
                    let proposal = Arc::clone(&under_way.proposal);
                    return self.declarator.provide(request, &positions, &proposal);
                }
            }
            DeclaratorEvent::Redirected { host, port } => {
                self.events.push_back(Event::Redirected { server: Server::Declarator, host, port });
            }
        }
        Ok(())
    }

    fn handle_token(&mut self, token: Token, now: Monotonic) {
        if self.stock.back().is_some_and(|(known, _)| known.outputs != token.outputs) {
            // Jobs that pay by the newer token could not be declared with these.
            self.stock.clear();
        }
        let outputs = token.outputs.clone();
        self.stock.push_back((token, now));
        match &self.terms {
            Some(terms) if terms.outputs == outputs => {}
            Some(_) | None => self.tell_terms(),
        }
    }

    /// Says what jobs must be like, if that is known and not what was said last.
    fn tell_terms(&mut self) {
        let known = self.terms.as_ref().map(|terms| &terms.outputs);
        let outputs = self.stock.back().map(|(token, _)| &token.outputs).or(known);
        let (Some(channel), Some(outputs)) = (self.pool.channel(), outputs) else { return };
        let terms = Terms {
            extranonce_prefix: channel.prefix.clone(),
            extranonce_size: channel.extranonce_size,
            outputs: outputs.clone(),
        };
        match self.terms.replace(terms.clone()) {
            None => self.events.push_back(Event::Ready(terms)),
            Some(known) if known != terms => {
                if let Some(waiting) = self.waiting.take() {
                    self.relay.drop_job(waiting.proposal.number());
                }
                self.events.push_back(Event::Changed(terms));
            }
            Some(_) => {}
        }
    }

    /// Keeps tokens ready, and puts the job that waits to the servers if nothing stands against it.
    fn advance(&mut self, now: Monotonic) {
        while self.stock.front().is_some_and(|&(_, since)| now.saturating_since(since) > TOKEN_AGE_MAX) {
            self.stock.pop_front();
        }
        self.begin(now);
        while self.declarator.is_set_up() && self.stock.len() + self.declarator.asked() < STOCK {
            let request = self.next_request();
            self.declarator.ask(request, now);
        }
    }

    fn begin(&mut self, now: Monotonic) {
        let Some(channel) = self.pool.channel() else { return };
        // One that is put again may have been made before the channel moved.
        let moved =
            |waiting: &mut Waiting| !self.relay.is_made_for(waiting.proposal.number(), &channel.prefix);
        if let Some(Waiting { proposal, .. }) = self.waiting.take_if(moved) {
            self.relay.drop_job(proposal.number());
        }
        let is_due = self.waiting.as_ref().is_some_and(|waiting| waiting.not_before <= now);
        if !is_due || self.troubles.1 > now || self.under_way.is_some() {
            return;
        }
        let Some((token, _)) = self.stock.pop_front() else { return };
        let Some(Waiting { proposal, tries, .. }) = self.waiting.take() else { return };
        let request = self.next_request();
        let (step, patience) = match self.mode {
            Mode::FullTemplate => {
                self.declarator.declare(request, &token, &proposal);
                (Step::Declaring, DECLARE_PATIENCE)
            }
            Mode::CoinbaseOnly => {
                self.pool.set_custom_job(request, &token.bytes, &proposal);
                (Step::Setting, SET_PATIENCE)
            }
        };
        self.under_way = Some(UnderWay { proposal, request, step, deadline: now + patience, tries });
    }

    fn handle_declared(&mut self, request: u32, token: &[u8], now: Monotonic) {
        let Some(under_way) = &mut self.under_way else { return };
        if under_way.request != request || under_way.step != Step::Declaring {
            return;
        }
        (under_way.step, under_way.deadline) = (Step::Setting, now + SET_PATIENCE);
        self.troubles.0 = 0;
        let proposal = Arc::clone(&under_way.proposal);
        for block in self.relay.declare(proposal.number()) {
            self.push_solution(&block);
        }
        let channel = self.pool.channel();
        if channel.is_some_and(|channel| self.relay.is_made_for(proposal.number(), &channel.prefix)) {
            self.pool.set_custom_job(request, token, &proposal);
        } else {
            // The channel has moved: the pool would put another coinbase together than the miners have.
            self.under_way = None;
            self.relay.drop_job(proposal.number());
        }
    }

    fn handle_job_accepted(&mut self, request: u32, job: JobId) {
        let is_meant = |under_way: &UnderWay| under_way.request == request && under_way.step == Step::Setting;
        let Some(UnderWay { proposal, .. }) = self.under_way.take_if(|under_way| is_meant(under_way)) else {
            return;
        };
        let (number, Some(channel)) = (proposal.number(), self.pool.channel()) else { return };
        if !self.relay.is_made_for(number, &channel.prefix) {
            // The channel moved while the pool thought about the job, so by its answer the job is one with the new prefix (spec 5.3.10),
            // which nobody works on.
            return self.relay.drop_job(number);
        }
        for passed in self.relay.accept(number, job, channel.target) {
            self.submit(&passed);
        }
        self.events.push_back(Event::JobAccepted(number));
    }

    fn handle_job_refused(
        &mut self,
        server: Server,
        request: u32,
        (code, details): (String, String),
        now: Monotonic,
    ) -> Result<(), UpstreamError> {
        let Some(UnderWay { proposal, tries, .. }) =
            self.under_way.take_if(|under_way| under_way.request == request)
        else {
            return Ok(());
        };
        let is_trouble = server == Server::Declarator && code == "internal-error";
        if is_trouble && self.troubles.0 < TRIES_MAX {
            let until = now + TROUBLE_PAUSE * (1 << self.troubles.0);
            self.troubles = (self.troubles.0 + 1, until);
            match self.waiting {
                Some(_) => self.relay.drop_job(proposal.number()),
                None => self.waiting = Some(Waiting { proposal, not_before: until, tries }),
            }
            return Ok(());
        }
        // Both sides hear of blocks at different times, and of tokens that were lost with a restart.
        let may_pass = matches!(&*code, "stale-chain-tip" | "invalid-mining-job-token");
        if may_pass && self.waiting.is_some() {
            self.relay.drop_job(proposal.number());
            return Ok(());
        }
        if may_pass && tries < TRIES_MAX {
            let not_before = now + RETRY_PAUSE * (1 << tries);
            self.waiting = Some(Waiting { proposal, not_before, tries: tries + 1 });
            return Ok(());
        }
        Err(UpstreamError::JobRefused { server, code, details })
    }

    fn handle_share_refused(&mut self, sequence_number: u32, code: String) -> Result<(), UpstreamError> {
        let sent = self.relay.refuse(sequence_number);
        let target = self.pool.channel().map(|channel| channel.target);
        match (&*code, sent, target) {
            ("stale-share", ..) => {}
            // Some pools judge by the target that they told of last, also what was mined before.
            ("difficulty-too-low", Some(sent), Some(target)) if !target.is_met_by(&sent.hash) => {
                self.relay.retarget(sent.job, target);
            }
            _ => self.refusals += 1,
        }
        if self.refusals >= REFUSALS_MAX {
            return Err(UpstreamError::SharesRefused(code));
        }
        self.events.push_back(Event::ShareRefused(Refusal { job: sent.map(|sent| sent.job), code }));
        Ok(())
    }

    fn submit(&mut self, passed: &Passed) {
        match self.pool.submit(passed) {
            Some(sequence_number) => {
                self.relay.note_sent(sequence_number, passed.share.job, passed.share.hash);
            }
            None => self.relay.note_lost(),
        }
    }

    fn push_solution(&mut self, share: &Share) {
        let proposal = self.proposals.iter().rfind(|proposal| proposal.number() == share.job);
        if let Some(proposal) = proposal {
            self.declarator.push_solution(share, proposal);
        }
    }

    fn owes_hashrate(&self) -> bool {
        let told = self.told_hashrate.0.to_hashes_per_second();
        self.pool.channel().is_some() && self.hashrate.to_hashes_per_second().abs_diff(told) > told / 5
    }

    fn tell_hashrate(&mut self, now: Monotonic) {
        if self.owes_hashrate() && now.saturating_since(self.told_hashrate.1) >= HASHRATE_INTERVAL {
            self.pool.update(self.hashrate);
            self.told_hashrate = (self.hashrate, now);
        }
    }

    const fn next_request(&mut self) -> u32 {
        self.last_request = self.last_request.wrapping_add(1);
        self.last_request
    }
}

#[cfg(test)]
mod tests;

//! The tokio shell of the client: keeps the board up to date with a template provider, and hands it found blocks.
//!
//! One task owns the connection and all that is remembered of the provider; whoever holds the handle sends it requests.

use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use adit_net::{Clock, ConnectError, Connection, Intake, Io, IoError, QueueError, Timer, at_once, connect};
use adit_share::Template;
use adit_transport::OpenError;
use adit_units::{Height, Monotonic, TemplateId};
use bitcoin::BlockHash;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::memory::{Memory, Solved};
use super::{Candidate, Client, ClientConfig, ClientEnd, Event, Pulse, TdpConfig};
use crate::board::Board;
use crate::rpc::TemplateRefused;
use crate::sources::ChainEnd;
use crate::{Fate, NodeError, NodeInfo, Submitted};

/// Requests that may wait for the task; beyond that whoever asks waits.
const REQUESTS_WAITING: usize = 64;

/// Most blocks that wait for the provider to tell of them; later ones are handed over all the same.
const SUBMITS_WAITING: usize = 64;

/// Most questions for a sign of life that wait for one.
const PULSES_WAITING: usize = 8;

/// How long a connection must have lasted to be worth coming back to without a longer pause.
const WORTHWHILE: Duration = Duration::from_secs(30);

/// How many connections in a row must give a template, but never a sign of life, before a provider is taken for one that gives none; more
/// where it has given one before. One that hangs gives no template on the next connection, and one that is restarted does not end every
/// connection in the moment of the first question.
const UNANSWERED_MAX: u32 = 2;
/// See [`UNANSWERED_MAX`].
const UNANSWERED_MAX_AFTER_ANSWERS: u32 = 8;

/// How long such a provider is not asked again.
const UNASKED_FOR: Duration = Duration::from_secs(3_600);

/// How long a probe waits for a template.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

/// The way to one template provider.
#[derive(Debug)]
pub(crate) struct Provider {
    config: TdpConfig,
    requests: mpsc::Sender<Request>,
}

/// What is asked of the task.
#[derive(Debug)]
pub(crate) enum Request {
    Submit { block: Vec<u8>, answer: oneshot::Sender<Submitted> },
    Fate { hash: BlockHash, answer: oneshot::Sender<Fate> },
    Pulse { answer: oneshot::Sender<Result<ChainEnd, NodeError>> },
}

impl Provider {
    /// The way to a provider, and the other end for [`follow`].
    pub(crate) fn new(config: &TdpConfig) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(REQUESTS_WAITING);
        (Self { config: config.clone(), requests }, received)
    }

    /// Hands over a block, trying a few times while there is no connection.
    pub(crate) async fn submit(&self, block: &[u8]) -> Submitted {
        let timing = &self.config.timing;
        let mut pause = timing.first_retry;
        for _ in 1..timing.submit_tries {
            match self.submit_once(block).await {
                Submitted::Unreachable(reason) => debug!(reason, "a block could not be handed over"),
                answer => return answer,
            }
            sleep(pause).await;
            pause = (pause * 2).min(timing.max_retry);
        }
        self.submit_once(block).await
    }

    async fn submit_once(&self, block: &[u8]) -> Submitted {
        let asking = self.ask(|answer| Request::Submit { block: block.to_vec(), answer });
        match timeout(self.config.timing.answer, asking).await {
            Ok(answered) => answered.unwrap_or_else(|| Submitted::Unreachable(GONE.to_owned())),
            // The protocol has no answer; the next block that the provider tells of is one.
            Err(_) => {
                Submitted::Undecided("it was handed over, and no new block was told of since".to_owned())
            }
        }
    }

    /// Where a block is, as far as the provider has told.
    pub(crate) async fn fate(&self, hash: BlockHash) -> Fate {
        let answered = self.ask(|answer| Request::Fate { hash, answer }).await;
        answered.unwrap_or_else(|| Fate::Unreachable(GONE.to_owned()))
    }

    /// Where the chain ends; takes as long as the provider needs for a sign of life.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        let answered = self.ask(|answer| Request::Pulse { answer }).await;
        answered.unwrap_or_else(|| Err(NodeError::Gone(GONE.to_owned())))
    }

    /// What the provider says, on a connection of its own.
    pub(crate) async fn probe(&self) -> Result<NodeInfo, NodeError> {
        probe(&self.config).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// What is said when the task has ended, as it does with the program.
const GONE: &str = "the template provider is no longer followed";

/// What is said while a connection is being set up.
const SILENT_YET: &str = "it has given no template yet";

/// Asks a provider for a template, and says what can be known of it; starts nothing that stays.
///
/// # Errors
///
/// When there is no connection, or no template on it.
pub(crate) async fn probe(config: &TdpConfig) -> Result<NodeInfo, NodeError> {
    let fault = |reason: String| NodeError::Provider { url: config.name(), reason };
    let late = || {
        let secs = PROBE_PATIENCE.as_secs();
        fault(format!("it has given no template within {secs} s; its node may be starting, or hang"))
    };
    let asked = timeout(PROBE_PATIENCE, first_template(config)).await.map_err(|_| late())?;
    let candidate = asked.map_err(|end| fault(end.to_string()))?;
    let tip = *candidate.tip();
    let network = config.network;
    let judged = tokio::task::spawn_blocking(move || candidate.check(network, None)).await;
    let trouble = match judged {
        Ok(Ok(_)) => None,
        Ok(Err(refused)) => Some(NodeError::Template(refused)),
        Err(error) => Some(NodeError::Gone(error.to_string())),
    };
    Ok(NodeInfo {
        network,
        height: Height(tip.height.0.saturating_sub(1)),
        best_block: tip.prev_hash,
        initial_block_download: false,
        user_agent: "template provider".to_owned(),
        peers: None,
        trouble: trouble.map(Arc::new),
    })
}

/// Connects, and waits for a template with its transactions.
async fn first_template(config: &TdpConfig) -> Result<Candidate, End> {
    let mut connection = connect(&config.url.address(), config.url.authority()).await?;
    let mut client = Client::new(&client_config(config, Pulse::Unknown), Clock.now());
    let mut timer = Timer::default();
    loop {
        connection.queue(client.frames())?;
        timer.set(client.poll_timeout());
        tokio::select! {
            () = timer.fired() => client.handle_timeout(Clock.now())?,
            done = connection.io(Intake::Open) => {
                done?;
                take_frames(&mut client, &mut connection)?;
            }
        }
        while let Some(event) = client.poll_event() {
            match event {
                Event::Candidate(candidate) => return Ok(*candidate),
                Event::Withheld(reason) => return Err(End::Withheld(reason)),
                Event::Tip(_) | Event::Offered(_) => {}
            }
        }
    }
}

fn client_config(config: &TdpConfig, pulse: Pulse) -> ClientConfig {
    let (host, port) = (config.url.host().to_owned(), config.url.port());
    ClientConfig { host, port, room: config.room(), pulse }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Client(#[from] ClientEnd),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("it does not hand out the transactions of its template: {0}")]
    Withheld(String),
}

/// Hands whole frames that have come to the client.
fn take_frames(client: &mut Client, connection: &mut Connection) -> Result<(), End> {
    while let Some(frame) = connection.next_frame(|header| client.frame_limit(header))? {
        client.handle_frame(frame, Clock.now())?;
    }
    Ok(())
}

/// Follows the provider for ever.
pub(crate) async fn follow(config: TdpConfig, board: Arc<Board>, requests: mpsc::Receiver<Request>) {
    let mut follower = Follower {
        absence: "not connected yet".to_owned(),
        config,
        board,
        requests,
        memory: Memory::default(),
        habit: Habit::default(),
    };
    let (first, longest) = (follower.config.timing.first_retry, follower.config.timing.max_retry);
    let mut pause = first;
    loop {
        let began = Clock.monotonic();
        let end = follower.connection().await;
        follower.note_end(&end);
        if Clock.monotonic().saturating_since(began) >= WORTHWHILE {
            pause = first;
        }
        follower.while_away(sleep(pause)).await;
        pause = (pause * 2).min(longest);
    }
}

/// What outlives connections.
struct Follower {
    config: TdpConfig,
    board: Arc<Board>,
    requests: mpsc::Receiver<Request>,
    memory: Memory,
    habit: Habit,
    /// Why there is no connection.
    absence: String,
}

/// Whether the provider answers questions for a sign of life, as far as its connections have shown.
#[derive(Debug, Default)]
struct Habit {
    has_answered: bool,
    /// Connections in a row that have given a template, but no answer.
    unanswered: u32,
    /// Until when it is not asked.
    unasked_until: Option<Monotonic>,
}

impl Habit {
    /// What a new connection is told of the provider.
    fn pulse(&self, now: Monotonic) -> Pulse {
        match self.unasked_until.filter(|until| now < *until) {
            Some(until) => Pulse::NotBefore(until),
            None if self.has_answered => Pulse::Given,
            None => Pulse::Unknown,
        }
    }

    /// Learns from a connection that has ended; answers whether the provider is not asked any more for a while.
    fn note_end(&mut self, client: &Client, end: &End, now: Monotonic) -> bool {
        if client.has_answered() {
            *self = Self { has_answered: true, ..Self::default() };
            return false;
        }
        // Of every other end the reason is known, and says nothing of these questions.
        let is_for_that = matches!(end, End::Io(_) | End::Client(ClientEnd::Late { .. }));
        if !client.has_left_unanswered() || !is_for_that {
            return false;
        }
        self.unanswered += 1;
        let most = if self.has_answered { UNANSWERED_MAX_AFTER_ANSWERS } else { UNANSWERED_MAX };
        let is_mute = self.unanswered >= most;
        if is_mute {
            *self = Self { unasked_until: Some(now + UNASKED_FOR), ..Self::default() };
        }
        is_mute
    }
}

impl Follower {
    /// Connects, and serves the connection until it ends.
    async fn connection(&mut self) -> End {
        let (address, authority) = (self.config.url.address(), self.config.url.authority());
        let connection = match self.while_away(connect(&address, authority)).await {
            Ok(connection) => connection,
            Err(error) => return error.into(),
        };
        debug!(source = self.board.source(), "connected");
        let now = Clock.now();
        let mut line = Line {
            client: Client::new(&client_config(&self.config, self.habit.pulse(now.monotonic)), now),
            connection,
            timer: Timer::default(),
            checks: JoinSet::new(),
            pulses: Vec::new(),
            submits: Vec::new(),
            last: None,
        };
        let end = loop {
            if let Err(end) = self.step(&mut line).await {
                break end;
            }
        };
        if self.habit.note_end(&line.client, &end, Clock.monotonic()) {
            warn!(
                source = self.board.source(),
                "it does not answer questions for a sign of life, and is not asked for an hour; a hang shows late"
            );
        }
        for (_, answer) in line.submits {
            // Whoever asked tries again.
            let _ = answer.send(Submitted::Unreachable(end.to_string()));
        }
        end
    }

    /// Tells that there is no connection, and why.
    fn note_end(&mut self, end: &End) {
        self.absence = end.to_string();
        self.board.down(self.fault(self.absence.clone()));
    }

    fn fault(&self, reason: String) -> NodeError {
        NodeError::Provider { url: self.config.name(), reason }
    }

    /// Waits for something, and answers requests as long as that takes.
    async fn while_away<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                Some(request) = self.requests.recv() => self.decline(request),
            }
        }
    }

    /// Answers while there is no connection. Nobody waits for the answer any more if it cannot be sent.
    fn decline(&self, request: Request) {
        let reason = || format!("{}: {}", self.config.name(), self.absence);
        match request {
            Request::Submit { answer, .. } => drop(answer.send(Submitted::Unreachable(reason()))),
            Request::Fate { answer, .. } => drop(answer.send(Fate::Unreachable(reason()))),
            Request::Pulse { answer } => drop(answer.send(Err(self.fault(self.absence.clone())))),
        }
    }

    /// Waits for the next thing to do, and does it.
    async fn step(&mut self, line: &mut Line) -> Result<(), End> {
        let Line { client, connection, timer, checks, .. } = line;
        connection.queue(client.frames())?;
        timer.set(client.poll_timeout());
        tokio::select! {
            biased;
            Some(request) = self.requests.recv() => self.handle_request(line, request),
            Some(judged) = checks.join_next() => self.handle_judged(line, judged),
            () = timer.fired() => {
                // After a pause of the whole process, what the provider has said in time waits to be read, and counts.
                if let Some(done) = at_once(connection.io(Intake::Open)).await {
                    self.hear(line, done?)?;
                }
                line.client.handle_timeout(Clock.now())?;
            }
            done = connection.io(Intake::Open) => self.hear(line, done?)?,
        }
        Ok(())
    }

    /// Takes what has come.
    fn hear(&mut self, line: &mut Line, done: Io) -> Result<(), End> {
        let Io::Read(_) = done else { return Ok(()) };
        line.client.handle_sign_of_life(Clock.monotonic());
        let taken = take_frames(&mut line.client, &mut line.connection);
        // What came before an error counts.
        self.handle_events(line);
        line.answer_pulses();
        taken
    }

    fn handle_events(&mut self, line: &mut Line) {
        while let Some(event) = line.client.poll_event() {
            match event {
                Event::Tip(tip) => {
                    self.memory.note_tip(&tip);
                    self.board.announce(self.board.tip(), tip);
                    line.answer_submits(&self.memory);
                }
                Event::Offered(offered) => self.memory.note_offered(offered),
                Event::Candidate(candidate) => {
                    let (network, board) = (self.config.network, Arc::clone(&self.board));
                    let (id, prev_hash) = (candidate.id(), candidate.tip().prev_hash);
                    // Shares on other tasks need not wait for megabytes to be hashed.
                    line.checks.spawn_blocking(move || {
                        let before = board.templates().borrow().clone();
                        let outcome = candidate.check(network, before.as_deref());
                        Judged { id, prev_hash, outcome }
                    });
                }
                Event::Withheld(reason) => {
                    self.board.down(self.fault(End::Withheld(reason).to_string()));
                }
            }
        }
    }

    /// Puts up a template that was found good, if it still stands on the newest block.
    fn handle_judged(&self, line: &mut Line, judged: Result<Judged, JoinError>) {
        let judged = match judged {
            Ok(judged) => judged,
            Err(panic) => return self.board.down(NodeError::Gone(panic.to_string())),
        };
        let is_current = line.client.tip().is_some_and(|tip| tip.prev_hash == judged.prev_hash);
        match judged.outcome {
            Ok(template) if is_current && line.last.is_none_or(|last| last < judged.id) => {
                line.last = Some(judged.id);
                self.board.offer(self.board.tip(), template);
                self.board.up();
                if line.client.tip().is_some() {
                    // So that it is known early whether its silence means something.
                    let _ = line.client.ping(Clock.monotonic());
                }
            }
            Ok(_) => {}
            Err(refused) if is_current => self.board.down(NodeError::Template(refused)),
            Err(refused) => debug!(source = self.board.source(), %refused, "an outdated template is refused"),
        }
        line.client.handle_judged(judged.id, Clock.now());
    }

    fn handle_request(&mut self, line: &mut Line, request: Request) {
        match request {
            Request::Submit { block, answer } => self.handle_block(line, &block, answer),
            Request::Fate { hash, answer } => drop(answer.send(self.memory.fate(hash))),
            Request::Pulse { answer } => {
                let Some(end) = line.chain_end() else {
                    return drop(answer.send(Err(self.fault(SILENT_YET.to_owned()))));
                };
                line.pulses.retain(|waiting| !waiting.is_closed());
                if line.client.ping(Clock.monotonic()) && line.pulses.len() < PULSES_WAITING {
                    line.pulses.push(answer);
                } else {
                    drop(answer.send(Ok(end)));
                }
            }
        }
    }

    /// Tells the provider of a block, if it is of one of its templates.
    fn handle_block(&mut self, line: &mut Line, block: &[u8], answer: oneshot::Sender<Submitted>) {
        let Some(solved) = Solved::read(block) else {
            return drop(answer.send(Submitted::Refused("it is not a block".to_owned())));
        };
        let hash = solved.hash;
        if self.memory.was_tip(hash) {
            return drop(answer.send(Submitted::AlreadyKnown));
        }
        // Its template may be offered again in a moment, with an id that the provider knows for sure.
        if line.client.tip().is_none() {
            let reason = format!("{}: {SILENT_YET}", self.config.name());
            return drop(answer.send(Submitted::Unreachable(reason)));
        }
        let Some(id) = self.memory.find(&solved) else {
            let reason = "it is not of a template of this provider, and template distribution carries no others; \
                          a node beside it, over RPC or IPC, takes every block";
            return drop(answer.send(Submitted::Undecided(reason.to_owned())));
        };
        if let Err(error) = line.client.submit(id, &solved.header, solved.coinbase) {
            return drop(answer.send(Submitted::Refused(error.to_string())));
        }
        debug!(source = self.board.source(), %hash, template = id.0, "block handed over");
        if let Some(height) = self.memory.height_on(solved.header.prev_blockhash) {
            self.memory.note_handed(hash, height);
        }
        line.submits.retain(|(_, waiting)| !waiting.is_closed());
        if line.submits.len() < SUBMITS_WAITING {
            line.submits.push((hash, answer));
        } else {
            let reason = "it was handed over; many others wait for an answer".to_owned();
            drop(answer.send(Submitted::Undecided(reason)));
        }
    }
}

/// What came of the look at a template.
struct Judged {
    id: TemplateId,
    prev_hash: BlockHash,
    outcome: Result<Template, TemplateRefused>,
}

/// One connection.
struct Line {
    client: Client,
    connection: Connection,
    timer: Timer,
    /// Templates that are looked at; the client keeps them few.
    checks: JoinSet<Judged>,
    pulses: Vec<oneshot::Sender<Result<ChainEnd, NodeError>>>,
    submits: Vec<(BlockHash, oneshot::Sender<Submitted>)>,
    /// The last template that went up.
    last: Option<TemplateId>,
}

impl Line {
    fn chain_end(&self) -> Option<ChainEnd> {
        self.client.tip().map(ChainEnd::below)
    }

    /// Bytes came, so the provider is alive.
    fn answer_pulses(&mut self) {
        let Some(end) = self.chain_end() else { return };
        for answer in self.pulses.drain(..) {
            drop(answer.send(Ok(end)));
        }
    }

    /// The chain has a new end, which says what became of blocks that were handed over.
    fn answer_submits(&mut self, memory: &Memory) {
        let mut waiting = Vec::new();
        for (hash, answer) in self.submits.drain(..) {
            match memory.fate(hash) {
                Fate::InChain { .. } => drop(answer.send(Submitted::Accepted)),
                Fate::Stale => {
                    let reason = "the provider has told of another block at this height".to_owned();
                    drop(answer.send(Submitted::Undecided(reason)));
                }
                Fate::Unknown | Fate::Unreachable(_) => waiting.push((hash, answer)),
            }
        }
        self.submits = waiting;
    }
}

#[cfg(test)]
mod tests;

//! What is done over one connection: templates and tips are followed and calls are answered, until it breaks or nobody needs it.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use adit_share::Tip;
use adit_units::{Height, TemplateId};
use bitcoin::{BlockHash, Network};
use bitcoin_capnp_types::mining_capnp::block_template;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::answers;
use super::config::IpcConfig;
use super::held::{Content, Held};
use super::lanes::{Delivery, FateOf, Lanes, Question, Reply, refuse};
use super::link::{BlockRef, Caller, Link, Lost, breaks};
use super::template::{Terms, read_header};
use super::wtxids;
use crate::board::{Board, Offered};
use crate::sources::ChainEnd;
use crate::{Health, NodeError, NodeInfo};

/// The longest time that the node is let wait for a new tip or template in one call, so that none waits for ever for one who is gone.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often in a row a node may say that it waited for no tip before that is worth a line in the log.
const TIPLESS_MAX: u32 = 4;

/// How a session ended.
pub(super) enum Ended {
    /// Nobody needs the node any more.
    Closed,
    /// The connection is of no more use.
    Failed(Arc<NodeError>),
}

/// What outlives a session.
#[derive(Default)]
pub(super) struct Memory {
    /// How many templates have been numbered.
    numbered: Cell<u64>,
    /// The last tip, and the least time of blocks on it: the node tells only what time it is.
    least_time: Cell<Option<(BlockHash, u32)>>,
}

impl Memory {
    fn next_id(&self) -> TemplateId {
        let id = self.numbered.get() + 1;
        self.numbered.set(id);
        TemplateId(id)
    }

    /// The least time of blocks on `tip`: that of the first template, so that later ones differ by nothing but their own time.
    fn least_time(&self, tip: BlockHash, time: u32) -> u32 {
        match self.least_time.get() {
            Some((known, least)) if known == tip => least,
            Some(_) | None => {
                self.least_time.set(Some((tip, time)));
                time
            }
        }
    }
}

/// One connection and what is done over it.
pub(super) struct Session<'a> {
    config: &'a IpcConfig,
    board: &'a Board,
    memory: &'a Memory,
    link: Rc<Link>,
    network: Network,
    held: RefCell<Held>,
    /// Whether a good template has come.
    served: Cell<bool>,
    /// Where the node's chain ended when it was asked last.
    end: watch::Sender<Option<BlockHash>>,
}

impl<'a> Session<'a> {
    /// Connects, and makes sure that it is the right node: another one may have been started in its place.
    pub(super) async fn open(
        config: &'a IpcConfig,
        board: &'a Board,
        memory: &'a Memory,
    ) -> Result<(Self, Lost), NodeError> {
        let (link, lost) = Link::open(config).await?;
        let network = answers::network(&link.caller().await?, config).await?;
        let (held, served, end) = (RefCell::default(), Cell::new(false), watch::Sender::default());
        Ok((Self { config, board, memory, link, network, held, served, end }, lost))
    }

    /// Whether a good template has come.
    pub(super) fn served(&self) -> bool {
        self.served.get()
    }

    /// Follows the node and answers calls, until the connection is `lost` or nobody needs it.
    pub(super) async fn run(&self, lost: Lost, lanes: &mut Lanes) -> Ended {
        let Lanes { pulses, deliveries, fates, questions, closed } = lanes;
        let error = tokio::select! {
            biased;
            _ = closed => return Ended::Closed,
            reason = lost => {
                let reason = reason.unwrap_or_default();
                Arc::new(NodeError::Unplugged { url: self.config.url(), reason })
            }
            error = self.answer_pulses(pulses) => error,
            error = self.take_blocks(deliveries) => error,
            error = self.answer_fates(fates) => error,
            error = self.answer_questions(questions) => error,
            error = self.follow_tips() => Arc::new(error),
            error = self.follow_templates() => Arc::new(error),
            error = self.notice_standstill() => Arc::new(error),
        };
        Ended::Failed(error)
    }

    /// Tells where the chain ends, to those who ask and to ourselves: a node that hangs is noticed by it.
    async fn answer_pulses(&self, asked: &mut mpsc::Receiver<Reply<ChainEnd>>) -> Arc<NodeError> {
        let caller = match self.link.caller().await {
            Ok(caller) => caller,
            Err(error) => return Arc::new(error),
        };
        let mut ticks = interval(self.config.timing.tip_poll.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reply = tokio::select! {
                Some(reply) = asked.recv() => Some(reply),
                _ = ticks.tick() => None,
            };
            match answers::tip(&caller).await {
                Ok(BlockRef { hash, height }) => {
                    self.end.send_if_modified(|end| end.replace(hash) != Some(hash));
                    let end = ChainEnd { hash, height: Height(height), work: None };
                    // Who no longer waits does not get it.
                    reply.map(|reply| reply.send(Ok(end)));
                }
                Err(error) => {
                    let error = Arc::new(error);
                    if let Some(reply) = reply {
                        refuse(reply, &error);
                    }
                    return error;
                }
            }
        }
    }

    /// Hands over blocks, one after the other.
    async fn take_blocks(&self, brought: &mut mpsc::Receiver<Delivery>) -> Arc<NodeError> {
        let caller = match self.link.caller().await {
            Ok(caller) => caller,
            Err(error) => return Arc::new(error),
        };
        while let Some(Delivery { bytes, found, reply }) = brought.recv().await {
            let answer = answers::submit(&caller, &self.held, bytes, found).await;
            if let Some(error) = respond(reply, answer) {
                return error;
            }
        }
        core::future::pending().await
    }

    /// Tells what became of blocks.
    async fn answer_fates(&self, asked: &mut mpsc::Receiver<FateOf>) -> Arc<NodeError> {
        let caller = match self.link.caller().await {
            Ok(caller) => caller,
            Err(error) => return Arc::new(error),
        };
        while let Some(FateOf(hash, reply)) = asked.recv().await {
            if let Some(error) = respond(reply, answers::fate(&caller, hash).await) {
                return error;
            }
        }
        core::future::pending().await
    }

    /// Answers what may take the node a while.
    async fn answer_questions(&self, asked: &mut mpsc::Receiver<Question>) -> Arc<NodeError> {
        let caller = match self.link.caller().await {
            Ok(caller) => caller,
            Err(error) => return Arc::new(error),
        };
        while let Some(question) = asked.recv().await {
            let broken = match question {
                Question::Check(block, reply) => respond(reply, answers::check(&caller, &block).await),
                Question::Transactions(wtxids, reply) => {
                    respond(reply, wtxids::transactions(&caller, &wtxids).await)
                }
                Question::Probe(reply) => respond(reply, self.probe(&caller).await),
            };
            if let Some(error) = broken {
                return error;
            }
        }
        core::future::pending().await
    }

    /// What the node says of itself, and whether its templates can be used.
    pub(super) async fn probe(&self, caller: &Caller) -> Result<NodeInfo, NodeError> {
        let mut info = answers::info(caller, self.config).await?;
        info.trouble = match self.first_template(caller).await {
            Ok(template) => self.read(caller, &template).await.err().map(Arc::new),
            Err(error) => Some(Arc::new(error)),
        };
        Ok(info)
    }

    /// As [`Self::probe`], for one who does nothing else with the node.
    pub(super) async fn probe_once(&self) -> Result<NodeInfo, NodeError> {
        self.probe(&self.link.caller().await?).await
    }

    /// Puts up templates, and says how the node is; ends when the connection is of no more use.
    async fn follow_templates(&self) -> NodeError {
        let mut pause = self.config.timing.first_retry;
        loop {
            let error = match self.link.caller().await {
                Ok(caller) => self.put_up_templates(&caller).await,
                Err(error) => error,
            };
            if breaks(&error) {
                return error;
            }
            if self.served.get() {
                pause = self.config.timing.first_retry;
            }
            self.served.set(false);
            self.board.down(error);
            sleep(pause).await;
            pause = (pause * 2).min(self.config.timing.max_retry);
        }
    }

    /// Puts up one template after the other; ends with what fails.
    async fn put_up_templates(&self, caller: &Caller) -> NodeError {
        let mut asked_at = self.board.tip();
        let mut template = match self.first_template(caller).await {
            Ok(template) => template,
            Err(error) => return error,
        };
        loop {
            let next = match self.put_up(caller, asked_at, &template).await {
                Ok(Offered::Published | Offered::Unchanged) => {
                    self.board.up();
                    self.served.set(true);
                    asked_at = self.board.tip();
                    self.next_template(caller, &template).await
                }
                // The tip was told meanwhile; the next answer is newer than that.
                Ok(Offered::Crossed) => {
                    asked_at = self.board.tip();
                    caller.create(true).await
                }
                Err(error) => Err(error),
            };
            template = match next {
                Ok(next) => next,
                Err(error) => return error,
            };
        }
    }

    /// Ends when the node has had another last block for as long as an answer may take, and the templates still stand on the one
    /// before although nothing is wrong with them: what makes them in the node hangs, while other threads of it go on answering.
    async fn notice_standstill(&self) -> NodeError {
        let (mut end, mut templates) = (self.end.subscribe(), self.board.templates());
        let patience = self.config.timing.answer;
        loop {
            let known = *end.borrow_and_update();
            let stands_on = templates.borrow_and_update().as_deref().map(|template| template.tip.prev_hash);
            let lags = known.is_some() && stands_on.is_some() && stands_on != known;
            let news = async {
                // The board has no end, nor has this.
                tokio::select! {
                    _ = end.changed() => {}
                    _ = templates.changed() => {}
                }
            };
            if !lags {
                news.await;
            } else if timeout(patience, news).await.is_err() && self.is_up() {
                let (url, secs) = (self.config.url(), patience.as_secs());
                return NodeError::Silent { url, method: "waitNext", secs };
            }
        }
    }

    /// Whether nothing is wrong with the templates. Where something is, the next is asked for again and again, each time with a deadline.
    fn is_up(&self) -> bool {
        matches!(*self.board.health().borrow(), Health::Up)
    }

    /// A template, if the node is done with downloading the chain.
    async fn first_template(&self, caller: &Caller) -> Result<block_template::Client, NodeError> {
        answers::in_sync(caller).await?;
        caller.create(true).await
    }

    /// Offers a template to the board, and has the node keep it.
    async fn put_up(
        &self,
        caller: &Caller,
        asked_at: Option<BlockHash>,
        template: &block_template::Client,
    ) -> Result<Offered, NodeError> {
        let read = self.read(caller, template).await?;
        let content = Content::of(&read);
        let offered = self.board.offer(asked_at, read);
        if offered != Offered::Crossed {
            self.held.borrow_mut().keep(content, template.clone());
        }
        Ok(offered)
    }

    /// Fetches what a template says, and checks it.
    async fn read(
        &self,
        caller: &Caller,
        template: &block_template::Client,
    ) -> Result<adit_share::Template, NodeError> {
        let raw = caller.offer(template).await?;
        let header = read_header(&raw.block)?;
        let terms = Terms {
            id: self.memory.next_id(),
            network: self.network,
            reserve: self.config.coinbase,
            min_ntime: self.memory.least_time(header.prev_blockhash, header.time),
        };
        let before = self.board.templates().borrow().clone();
        // A full block takes some milliseconds to read; the pulse need not wait for that.
        let read = tokio::task::spawn_blocking(move || raw.check(terms, before.as_deref())).await;
        Ok(read.map_err(|error| NodeError::Gone(error.to_string()))??)
    }

    /// Waits for the template after `template`: for a while only on a new tip, later also when fees have risen.
    async fn next_template(
        &self,
        caller: &Caller,
        template: &block_template::Client,
    ) -> Result<block_template::Client, NodeError> {
        let timing = &self.config.timing;
        let mut quiet = timing.refresh;
        while !quiet.is_zero() {
            let patience = quiet.min(WAIT_MAX);
            if let Some(next) = caller.wait_next(template, patience, None).await? {
                return Ok(next);
            }
            quiet -= patience;
        }
        let fee_rise = i64::try_from(self.config.fee_rise.to_sats()).unwrap_or(i64::MAX);
        loop {
            if let Some(next) = caller.wait_next(template, WAIT_MAX, Some(fee_rise)).await? {
                return Ok(next);
            }
        }
    }

    /// Tells of new tips before there is a template on them, and has the node keep an empty template on each.
    async fn follow_tips(&self) -> NodeError {
        match self.announce_tips().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn announce_tips(&self) -> Result<core::convert::Infallible, NodeError> {
        let caller = self.link.caller().await?;
        // Nobody is told of tips before the first template.
        let mut tips = self.board.tips();
        if tips.wait_for(Option::is_some).await.is_err() {
            return core::future::pending().await;
        }
        let (mut seen, mut tipless) = (None, Tipless::new(self.config));
        loop {
            let asked_at = self.board.tip();
            let tip = caller.wait_tip_changed(seen.unwrap_or_else(no_block), WAIT_MAX).await?;
            let Some(tip) = tip else {
                tipless.pause().await;
                continue;
            };
            tipless = Tipless::new(self.config);
            if seen == Some(tip.hash) {
                continue;
            }
            match self.announce(&caller, asked_at, tip).await {
                Ok(()) => seen = Some(tip.hash),
                Err(error) if breaks(&error) => return Err(error),
                Err(error) => {
                    // The template says the same and more.
                    debug!(%error, "a new tip cannot be told ahead of its template");
                    seen = Some(tip.hash);
                }
            }
        }
    }

    /// Learns from an empty template, which takes the node no time, what a block on `tip` must be.
    async fn announce(
        &self,
        caller: &Caller,
        asked_at: Option<BlockHash>,
        tip: BlockRef,
    ) -> Result<(), NodeError> {
        let template = caller.create(false).await?;
        let header = read_header(&caller.header(&template).await?)?;
        if header.prev_blockhash != tip.hash {
            // There is a newer tip already, which comes next.
            return Ok(());
        }
        self.held.borrow_mut().keep(Content::empty(tip.hash), template);
        let least_time = self.memory.least_time(tip.hash, header.time);
        let height = Height(tip.height.saturating_add(1));
        self.board.announce(asked_at, Tip::new(tip.hash, height, header.bits, least_time));
        Ok(())
    }
}

/// How often in a row the node has waited for a tip and told of none, as one does that is shutting down.
struct Tipless<'a> {
    config: &'a IpcConfig,
    times: u32,
    next: Duration,
}

impl<'a> Tipless<'a> {
    fn new(config: &'a IpcConfig) -> Self {
        Self { config, times: 0, next: config.timing.first_retry }
    }

    /// Waits before the node is asked again, longer from time to time.
    async fn pause(&mut self) {
        self.times = self.times.saturating_add(1);
        if self.times == TIPLESS_MAX {
            warn!(
                node = self.config.url(),
                "the node waits for no new block although it is asked to, so those are told late; restart it unless it is ending"
            );
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.config.timing.max_retry);
    }
}

/// A hash that no block has, so that every tip is news.
fn no_block() -> BlockHash {
    bitcoin::hashes::Hash::all_zeros()
}

/// Answers a call; an error after which the connection is of no more use is also given back.
fn respond<T>(reply: Reply<T>, answer: Result<T, NodeError>) -> Option<Arc<NodeError>> {
    match answer {
        Err(error) if breaks(&error) => {
            let error = Arc::new(error);
            refuse(reply, &error);
            Some(error)
        }
        answer => {
            // Who no longer waits does not get it.
            let _ = reply.send(answer);
            None
        }
    }
}

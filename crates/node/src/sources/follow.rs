//! Listens to several nodes and puts up the templates of the one to use.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_share::{Template, Tip};
use adit_units::{Monotonic, Now, TemplateId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::choice::{Choice, Decision, Idle, State};
use super::{ChainEnd, Standing};
use crate::board::Board;
use crate::{Health, Node, NodeError};

/// How long after its last answer a node is asked for its last block again.
const PULSE: Duration = Duration::from_millis(500);
/// How often the decision is looked at when nothing has been heard.
const TICK: Duration = Duration::from_millis(100);
/// How long a known block may lack a template before that is worth a line in the log.
const BEHIND_PATIENCE: Duration = Duration::from_secs(2);
/// How much news may wait; whoever brings more waits with it.
const MAX_NEWS: usize = 64;

/// Most tips that are remembered: of rivals, each is told by some node, and any may be the one that counts.
const TIPS_KEPT: usize = 16;

/// What is heard of a node.
enum News {
    Template(Arc<Template>),
    /// A tip on which it may have no template yet.
    Tip(Tip),
    State(State),
    /// It is asked for its last block.
    Question,
    End(ChainEnd),
    /// It cannot be asked.
    Failure(String),
}

/// Follows all nodes for ever.
pub(crate) async fn follow(
    nodes: Arc<[Node]>,
    board: Arc<Board>,
    standing: watch::Sender<Standing>,
    clock: impl Fn() -> Now,
) {
    let (news, mut heard) = mpsc::channel(MAX_NEWS);
    // Dropped with this task, and every listener with it.
    let mut listeners = JoinSet::new();
    for (index, node) in nodes.iter().enumerate() {
        listeners.spawn(listen(index, node.clone(), news.clone()));
    }
    let mut follower = Follower::new(nodes, board, standing, clock().monotonic);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // This function holds a sender, so there is always more to come.
            Some((index, news)) = heard.recv() => follower.handle(index, news, clock().monotonic),
            _ = ticks.tick() => {}
        }
        follower.act(clock().monotonic);
    }
}

/// Brings the news of one node.
async fn listen(index: usize, node: Node, news: mpsc::Sender<(usize, News)>) {
    tokio::join!(
        listen_for_templates(index, &node, &news),
        listen_for_tips(index, &node, &news),
        listen_for_state(index, &node, &news),
        feel_pulse(index, &node, &news),
    );
}

async fn listen_for_templates(index: usize, node: &Node, news: &mpsc::Sender<(usize, News)>) {
    let mut templates = node.templates();
    loop {
        let template = templates.borrow_and_update().clone();
        if let Some(template) = template
            && news.send((index, News::Template(template))).await.is_err()
        {
            return;
        }
        if templates.changed().await.is_err() {
            return;
        }
    }
}

async fn listen_for_tips(index: usize, node: &Node, news: &mpsc::Sender<(usize, News)>) {
    let mut tips = node.tips();
    while tips.changed().await.is_ok() {
        let tip = *tips.borrow_and_update();
        if let Some(tip) = tip
            && news.send((index, News::Tip(tip))).await.is_err()
        {
            return;
        }
    }
}

async fn listen_for_state(index: usize, node: &Node, news: &mpsc::Sender<(usize, News)>) {
    let mut health = node.health();
    loop {
        let state = match &*health.borrow_and_update() {
            Health::Starting => State::Starting,
            Health::Up => State::Up,
            Health::Down(error) => State::Down(error.to_string()),
        };
        if news.send((index, News::State(state))).await.is_err() || health.changed().await.is_err() {
            return;
        }
    }
}

/// Asks the node for its last block, again and again. A question that is not answered stays open, so that a node that hangs
/// is not flooded and is heard the moment it wakes up.
async fn feel_pulse(index: usize, node: &Node, news: &mpsc::Sender<(usize, News)>) {
    loop {
        // Whatever it has told before is on its way to the choice already, and older than the answer.
        if news.send((index, News::Question)).await.is_err() {
            return;
        }
        let heard = match node.chain_end().await {
            Ok(end) => News::End(end),
            Err(error) => News::Failure(error.to_string()),
        };
        if news.send((index, heard)).await.is_err() {
            return;
        }
        sleep(PULSE).await;
    }
}

struct Follower {
    nodes: Arc<[Node]>,
    board: Arc<Board>,
    standing: watch::Sender<Standing>,
    choice: Choice,
    /// The newest template of each node.
    latest: Vec<Option<Arc<Template>>>,
    /// The node whose templates go up, and the last one that was looked at.
    used: Option<(usize, Arc<Template>)>,
    /// Whether a node was left because something was wrong with it, and the way back is worth a line too.
    left_in_trouble: bool,
    /// The last tips that the nodes have told of, each once.
    tips: VecDeque<Tip>,
    /// Since when no node can be used.
    idle_since: Option<Monotonic>,
    /// The number of the last template that went up; the nodes' own numbers would meet each other.
    last_id: u64,
}

impl Follower {
    fn new(nodes: Arc<[Node]>, board: Arc<Board>, standing: watch::Sender<Standing>, now: Monotonic) -> Self {
        let choice = Choice::new(nodes.len(), now);
        let latest = nodes.iter().map(|_| None).collect();
        Self {
            nodes,
            board,
            standing,
            choice,
            latest,
            used: None,
            left_in_trouble: false,
            tips: VecDeque::new(),
            idle_since: None,
            last_id: 0,
        }
    }

    fn handle(&mut self, index: usize, news: News, now: Monotonic) {
        match news {
            News::State(state) => self.choice.handle_state(index, state),
            News::End(end) => self.choice.handle_end(index, end, now),
            News::Question => self.choice.handle_question(index, now),
            News::Tip(tip) => {
                self.choice.handle_tip(index, &tip, now);
                self.remember(tip);
            }
            News::Failure(reason) => self.choice.handle_failure(index, reason, now),
            News::Template(template) => {
                self.choice.handle_template(index, &template.tip, now);
                if let Some(latest) = self.latest.get_mut(index) {
                    *latest = Some(template);
                }
            }
        }
    }

    /// Brings the board in line with what is known.
    fn act(&mut self, now: Monotonic) {
        let decision = self.choice.decide(now);
        let (level, well) = (self.choice.level(now), self.choice.sound(now));
        let standing = Standing { level, well, best: self.choice.best(now) };
        self.standing.send_replace(standing);
        match decision {
            Decision::Use(index) => self.show(index, now),
            Decision::Wait(Idle::Starting) => {}
            Decision::Wait(Idle::Down) => {
                self.announce(now);
                self.board.down(self.no_source(now));
            }
            Decision::Wait(Idle::Behind) => {
                self.announce(now);
                let since = *self.idle_since.get_or_insert(now);
                if now.saturating_since(since) < BEHIND_PATIENCE {
                    self.board.pause(NodeError::Behind);
                } else {
                    self.board.down(self.no_source(now));
                }
            }
        }
    }

    /// Tells of the newest block, which no template stands on yet.
    fn announce(&self, now: Monotonic) {
        let newest = self.choice.best(now).map(|end| end.hash);
        if let Some(tip) = self.tips.iter().find(|tip| newest == Some(tip.prev_hash)) {
            self.board.announce(self.board.tip(), *tip);
        }
    }

    fn remember(&mut self, tip: Tip) {
        self.tips.retain(|known| known.prev_hash != tip.prev_hash);
        if self.tips.len() == TIPS_KEPT {
            self.tips.pop_front();
        }
        self.tips.push_back(tip);
    }

    fn show(&mut self, index: usize, now: Monotonic) {
        self.idle_since = None;
        let Some(Some(template)) = self.latest.get(index).cloned() else { return };
        let before = self.used.as_ref().map(|(index, _)| *index);
        if before != Some(index) {
            self.tell(before, index, now);
        }
        let known = self.used.as_ref().is_some_and(|(_, known)| Arc::ptr_eq(known, &template));
        if !known || self.board.tip() != Some(template.tip.prev_hash) {
            let id = TemplateId(self.last_id + 1);
            if self.board.show(&template, id) {
                self.last_id = id.0;
            }
        }
        self.used = Some((index, template));
        self.board.up();
    }

    /// Tells of a change of nodes. That one node knows a block sooner than another is nothing to tell.
    fn tell(&mut self, before: Option<usize>, next: usize, now: Monotonic) {
        let to = self.name(next);
        let Some(before) = before else { return info!(source = to, "templates come from this node") };
        let from = self.name(before);
        if let Some(reason) = self.choice.fault(before, now) {
            warn!(from, to, reason, "another node is used");
            self.left_in_trouble = true;
        } else if next < before && self.left_in_trouble {
            info!(from, to, "a preferred node is used again");
            self.left_in_trouble = false;
        } else {
            debug!(from, to, "another node is used");
        }
    }

    fn name(&self, index: usize) -> &str {
        self.nodes.get(index).map_or("", Node::name)
    }

    /// What is wrong with each node.
    fn no_source(&self, now: Monotonic) -> NodeError {
        let reason = |(index, node): (usize, &Node)| {
            Some(format!("{}: {}", node.name(), self.choice.trouble(index, now)?))
        };
        let reasons: Vec<_> = self.nodes.iter().enumerate().filter_map(reason).collect();
        NodeError::NoSource(reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use adit_units::{Height, UnixTime};
    use bitcoin::hashes::Hash as _;
    use bitcoin::{BlockHash, CompactTarget};

    use super::*;
    use crate::{Auth, Devnet, DevnetConfig, RpcConfig};

    fn tip(name: &[u8]) -> Tip {
        Tip::new(BlockHash::hash(name), Height(101), CompactTarget::from_consensus(0x207f_ffff), 1)
    }

    #[tokio::test]
    async fn the_block_that_was_told_first_is_told_on_though_a_rival_was_told_after_it() {
        // Nobody listens there; all that is known of them is what they are said to have told.
        let url = |port| format!("127.0.0.1:{port}");
        let nodes: Vec<Node> = (1..=2)
            .map(|port| Node::rpc(&RpcConfig::new(&url(port), Auth::Cookie("nowhere".into())).unwrap()))
            .collect();
        let board = Arc::new(Board::new("both".to_owned()));
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(1_700_000_000) };
        // Before the first template nobody is told of tips.
        assert!(board.show(&Devnet::new(&DevnetConfig::new([7; 32]), now).template(now), TemplateId(1)));
        let (standing, _known) = watch::channel(Standing::default());
        let at = |millis: u64| Monotonic::from_micros(millis * 1000);
        let mut follower = Follower::new(nodes.into(), Arc::clone(&board), standing, at(0));
        for index in 0..2 {
            follower.handle(index, News::State(State::Up), at(0));
        }
        follower.handle(0, News::Tip(tip(b"first")), at(1));
        follower.handle(1, News::Tip(tip(b"rival")), at(2));
        follower.announce(at(3));
        assert_eq!(board.tip(), Some(tip(b"first").prev_hash));
        for number in 0..100_u8 {
            follower.handle(0, News::Tip(tip(&[number])), at(4));
        }
        assert_eq!(follower.tips.len(), TIPS_KEPT, "no more are kept than may count");
    }
}

//! Found blocks on their way into the chain: handed over at once, written down, and followed until their fate is known.

mod check;

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::{fmt, time::Duration};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_channel::{UserIdentity, WorkerName};
use adit_ledger::storage::Storage;
use adit_ledger::{BlockFate, BlockStore, BlockStoreError, SavedBlock};
use adit_net::{Clock, Draining, Shutdown};
use adit_node::{Fate, Node, Submitted};
use adit_units::{Height, Monotonic};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};

use super::event::{BlockOutcome, Event};
use super::metrics::Gauges;
use crate::FoundBlock;

/// Most blocks that are followed at once. Only test networks get there; whoever finds more there waits with its shares until the
/// node has answered for the block, which is then left to the next start to follow. No block is handed over later for that.
const FOLLOWED_MAX: usize = 1_024;

/// How many blocks deep a fate is final: six, as everywhere.
const BURIED: u32 = 6;

/// After how many more blocks a block is given up whose fate no node can tell: those without RPC may never be able to. A day's worth of them,
/// so that an outage is not taken for that.
const FORGOTTEN: u32 = 144;

/// For how long a block is followed at least before it is given up for that: at the start of a program, nodes may have just been started, too.
const FORGET_PATIENCE: Duration = Duration::from_secs(600);

/// How long an answer is waited for before a node that could not be reached is asked again; doubles with each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How often a node is asked what became of a block.
const FATE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the nodes have at the end to answer for blocks that are on disk; those go out again at the next start.
pub const BLOCKS_PATIENCE: Duration = Duration::from_secs(30);

/// How many events a reader may lag behind before it misses the oldest.
const EVENTS_KEPT: usize = 256;

/// Hands found blocks to the node, writes them down and follows them; clones share everything.
///
/// Open it before anything else that could keep a pool from starting, and hand a clone to the [`Server`](super::Server): then no
/// taken port, full disk or expired certificate keeps the blocks of an earlier run from going out.
#[derive(Clone)]
pub struct FoundBlocks {
    desk: Arc<Desk>,
    slots: Arc<Semaphore>,
    shutdown: Arc<Shutdown>,
}

impl fmt::Debug for FoundBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundBlocks").field("followed", &self.desk.followed().len()).finish_non_exhaustive()
    }
}

struct Desk {
    /// Where blocks are followed. Whoever brings one may run on a runtime of its own, which may end before the block is safe.
    runtime: Handle,
    node: Node,
    store: Arc<dyn Keep>,
    gauges: Arc<Gauges>,
    events: broadcast::Sender<Event>,
    /// The blocks that somebody follows, so that none is followed twice.
    followed: Mutex<HashSet<BlockHash>>,
    /// Those of them that the node has not said to have or to refuse.
    untaken: watch::Sender<HashMap<BlockHash, Untaken>>,
}

/// A block that no node has answered for yet.
struct Untaken {
    block: Arc<SavedBlock>,
    saved: Arc<AtomicBool>,
}

/// A store of found blocks, whatever it is kept in.
trait Keep: Send + Sync {
    fn save(&self, block: &SavedBlock) -> Result<(), BlockStoreError>;
    fn settle(&self, hash: [u8; 32], fate: BlockFate) -> Result<(), BlockStoreError>;
}

impl<S: Storage> Keep for BlockStore<S> {
    fn save(&self, block: &SavedBlock) -> Result<(), BlockStoreError> {
        Self::save(self, block.hash, block.height, &block.bytes)
    }

    fn settle(&self, hash: [u8; 32], fate: BlockFate) -> Result<(), BlockStoreError> {
        Self::settle(self, hash, fate)
    }
}

impl FoundBlocks {
    /// Opens the desk and hands over what earlier runs have left. Reads the store from disk before it returns.
    ///
    /// # Errors
    ///
    /// If the store cannot be listed. Blocks that cannot be read are logged and keep no other back.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn open<S: Storage>(node: Node, store: BlockStore<S>) -> Result<Self, BlockStoreError> {
        let pending = store.pending()?;
        for damaged in &pending.damaged {
            tracing::error!(%damaged, "block of an earlier run");
        }
        let gauges = Arc::new(Gauges::new(Clock.monotonic()));
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let (store, followed, untaken) = (Arc::new(store), Mutex::default(), watch::Sender::default());
        let runtime = Handle::current();
        let desk = Desk { runtime, node, store, gauges, events, followed, untaken };
        let (shutdown, draining) = Shutdown::new();
        let (desk, slots) = (Arc::new(desk), Arc::new(Semaphore::new(FOLLOWED_MAX)));
        // Made before any goes out, so that whoever waits for answers waits for those of all.
        let new = |block| Follower::new(Arc::clone(&desk), draining.clone(), block, None);
        let followers: Vec<_> = pending.blocks.into_iter().filter_map(new).collect();
        tokio::spawn(resume(Arc::clone(&slots), followers));
        Ok(Self { desk, slots, shutdown: Arc::new(shutdown) })
    }

    /// Waits until the node has answered for every block that is on its way, but no longer than `patience`; the answer is whether it
    /// has. Cancel safe.
    pub async fn answered(&self, patience: Duration) -> bool {
        let mut untaken = self.desk.untaken.subscribe();
        // The sender is held, so an error can only be that of the time.
        timeout(patience, untaken.wait_for(HashMap::is_empty)).await.is_ok()
    }

    /// The blocks that are nowhere else: the disk has refused them, and no node has answered for them. A program that must end all the
    /// same should write them where a person can find them.
    #[must_use]
    pub fn only_copies(&self) -> Vec<SavedBlock> {
        let untaken = self.desk.untaken.borrow();
        let only = untaken.values().filter(|untaken| !untaken.saved.load(Acquire));
        only.map(|untaken| SavedBlock::clone(&untaken.block)).collect()
    }

    /// Waits until a block that was handed over is on disk, or until a node has it or has refused it: from then on it is not lost
    /// with this process. Cancel safe.
    pub(super) async fn safe(&self, block: BlockHash) {
        let mut untaken = self.desk.untaken.subscribe();
        let is_safe = |untaken: &HashMap<BlockHash, Untaken>| {
            untaken.get(&block).is_none_or(|untaken| untaken.saved.load(Acquire))
        };
        // The sender is held, so there is no error.
        let _ = untaken.wait_for(is_safe).await;
    }

    /// The counters, which the server shares.
    pub(super) fn gauges(&self) -> &Arc<Gauges> {
        &self.desk.gauges
    }

    /// Where events are told, which the server shares.
    pub(super) fn events(&self) -> &broadcast::Sender<Event> {
        &self.desk.events
    }

    /// Stops following blocks once they are safe: on disk, or with a node; what is under way to the disk gets there, if it takes no
    /// longer than [`BLOCKS_PATIENCE`]. For one that is neither, both are tried for as long as it takes.
    ///
    /// A [`Server`](super::Server) does this when it is shut down.
    pub async fn close(&self) {
        self.shutdown.begin();
        while timeout(BLOCKS_PATIENCE, self.shutdown.finished()).await.is_err() {
            let only = self.only_copies();
            if only.is_empty() {
                return tracing::error!(
                    "not waiting any longer: blocks are on disk or with a node, but not both"
                );
            }
            for block in only {
                tracing::error!(
                    hash = %hash_of(&block),
                    height = block.height.0,
                    "cannot end: this block is neither on disk nor with a node; make room on the disk or bring the node back"
                );
            }
        }
    }

    /// Sends a block on its way that was put together here of parts from elsewhere, and checks it beside; when this returns, it is on its way.
    /// Answers whether it was not yet: one that is on its way already is passed over.
    pub async fn take(&self, block: SavedBlock, user: UserIdentity, worker: Option<WorkerName>) -> bool {
        let Some(block) = self.send(block, user, worker).await else { return false };
        self.desk.check_beside(hash_of(&block), move || check::check(&block));
        true
    }

    /// Sends a block on its way as [`Self::take`] does, unchecked: whoever made it answers for it.
    pub async fn forward(&self, block: SavedBlock, user: UserIdentity, worker: Option<WorkerName>) -> bool {
        self.send(block, user, worker).await.is_some()
    }

    /// Sends a block on its way, unless it is already.
    async fn send(
        &self,
        block: SavedBlock,
        user: UserIdentity,
        worker: Option<WorkerName>,
    ) -> Option<Arc<SavedBlock>> {
        let news = Event::BlockFound { hash: hash_of(&block), height: block.height, user, worker };
        let (desk, draining) = (Arc::clone(&self.desk), self.shutdown.draining());
        let follower = Follower::new(desk, draining, block, Some(news))?;
        let block = Arc::clone(&follower.block);
        send_out(&self.slots, follower).await;
        Some(block)
    }

    /// Sends a block on its way; when this returns, it is. One that is on its way already is passed over.
    pub(super) async fn hand_over(&self, found: FoundBlock) {
        let FoundBlock { block, user, worker, .. } = found;
        let hash = block.hash;
        let saved = SavedBlock { hash: hash.to_byte_array(), height: block.height, bytes: block.to_bytes() };
        if self.send(saved, user, worker).await.is_some() {
            // What the template allows its coinbase is known only here.
            self.desk.check_beside(hash, move || block.check());
        }
    }
}

/// Sends out the blocks of earlier runs, one after the other.
async fn resume(slots: Arc<Semaphore>, followers: Vec<Follower>) {
    for follower in followers {
        tracing::info!(hash = %follower.hash, height = follower.block.height.0, "block of an earlier run goes out again");
        let (desk, block) = (Arc::clone(&follower.desk), Arc::clone(&follower.block));
        send_out(&slots, follower).await;
        desk.check_beside(hash_of(&block), move || check::check(&block));
    }
}

/// Starts to hand a block over at once, whether or not there is a slot to follow it afterwards; where there is none, waits until
/// the node has answered.
async fn send_out(slots: &Arc<Semaphore>, follower: Follower) {
    let slot = Arc::clone(slots).try_acquire_owned().ok();
    let waits = slot.is_none();
    let runtime = follower.desk.runtime.clone();
    let task = runtime.spawn(follower.run(slot));
    if !waits {
        // The runtime has put that task next in line; stepping aside lets it start before the connection goes on.
        return yield_now().await;
    }
    if let Err(panic) = task.await {
        tracing::error!(%panic, "handing over a block failed; the program is at fault");
    }
}

impl Desk {
    fn followed(&self) -> MutexGuard<'_, HashSet<BlockHash>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a block that is on its way looked at by other eyes. The nodes have the last word, so nothing waits for this; but if it fails, a
    /// fault of ours must be found (`docs/decisions/0028-found-blocks-are-checked-beside.md`).
    fn check_beside<E: fmt::Display>(
        self: &Arc<Self>,
        hash: BlockHash,
        check: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) {
        let desk = Arc::clone(self);
        spawn_blocking(move || {
            if let Err(error) = check() {
                desk.gauges.blocks_faulty.fetch_add(1, Relaxed);
                tracing::error!(%hash, %error, "own check of the block failed; the program is at fault");
            }
        });
    }

    fn tell(&self, event: Event) {
        // Nobody has to be listening.
        let _ = self.events.send(event);
    }
}

/// One block, and what is known of it.
struct Follower {
    desk: Arc<Desk>,
    draining: Draining,
    block: Arc<SavedBlock>,
    hash: BlockHash,
    /// That it was found, until that is told; a block of an earlier run is no news.
    news: Option<Event>,
    /// Whether it is on disk, so that it would be handed over again after a restart.
    saved: Arc<AtomicBool>,
    /// The last try to write it down. No node is kept waiting for it, however long a disk takes.
    saving: Option<JoinHandle<()>>,
    /// Whether it was told that the node has taken it.
    accepted: bool,
    /// Why a node has refused it while others have not decided, once that was told.
    disputed: Option<String>,
    /// Since when it is followed.
    since: Monotonic,
    retry: Duration,
}

/// What to do with a block next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Hand it to the node.
    Submit,
    /// See what became of it.
    Watch,
    /// Nothing more.
    Done,
}

impl Follower {
    /// Follows a block that was found just now, as `news` says, or one of an earlier run, which is on disk; `None` if somebody
    /// does already.
    fn new(desk: Arc<Desk>, draining: Draining, block: SavedBlock, news: Option<Event>) -> Option<Self> {
        let hash = hash_of(&block);
        if !desk.followed().insert(hash) {
            return None;
        }
        let (block, saved) = (Arc::new(block), Arc::new(AtomicBool::new(news.is_none())));
        let follower = Self {
            desk,
            draining,
            block,
            hash,
            news,
            saved,
            saving: None,
            accepted: false,
            disputed: None,
            since: Clock.monotonic(),
            retry: RETRY_MIN,
        };
        follower.is_with_a_node(false);
        Some(follower)
    }

    /// Follows the block to its fate, or until the server ends while the block is safe; without a slot, until it is on disk or the node
    /// has it.
    async fn run(mut self, slot: Option<OwnedSemaphorePermit>) {
        let mut next = self.start().await;
        loop {
            next = match next {
                Next::Submit => self.submit_again().await,
                Next::Watch if slot.is_none() && !self.is_only_copy() => return self.let_go().await,
                Next::Watch => self.watch().await,
                // The last try to write it down may still be under way, in a folder that may go away with the server.
                Next::Done => return self.saved().await,
            };
        }
    }

    /// The first handing over. The node is asked before anything else is done.
    async fn start(&mut self) -> Next {
        let (desk, block) = (Arc::clone(&self.desk), Arc::clone(&self.block));
        let (submitted, ()) = tokio::join!(desk.node.submit_bytes(&block.bytes), async { self.note() });
        self.answered(submitted).await
    }

    /// Tells that the block was found, and has it written down.
    fn note(&mut self) {
        if let Some(news) = self.news.take() {
            tracing::info!(hash = %self.hash, height = self.block.height.0, "block found");
            self.desk.gauges.blocks_found.fetch_add(1, Relaxed);
            self.desk.tell(news);
        }
        self.save();
    }

    /// Has the block written down, unless it is or that is being done.
    fn save(&mut self) {
        if self.is_saved() || self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        let (desk, block, saved) = (Arc::clone(&self.desk), Arc::clone(&self.block), Arc::clone(&self.saved));
        self.saving = Some(spawn_blocking(move || match desk.store.save(&block) {
            Ok(()) => {
                saved.store(true, Release);
                // Wakes those who wait for that.
                desk.untaken.send_modify(|_| {});
            }
            Err(error) => tracing::error!(hash = %hash_of(&block), %error, "block is not on disk"),
        }));
    }

    fn is_saved(&self) -> bool {
        self.saved.load(Acquire)
    }

    /// Notes whether a node has the block, or has said that it is none.
    fn is_with_a_node(&self, taken: bool) {
        self.desk.untaken.send_if_modified(|untaken| {
            if taken {
                return untaken.remove(&self.hash).is_some();
            }
            let (block, saved) = (Arc::clone(&self.block), Arc::clone(&self.saved));
            untaken.insert(self.hash, Untaken { block, saved }).is_none()
        });
    }

    /// Whether the block is lost with this process.
    fn is_only_copy(&self) -> bool {
        !self.is_saved() && self.desk.untaken.borrow().contains_key(&self.hash)
    }

    async fn submit_again(&mut self) -> Next {
        if self.is_saved() {
            let pause = self.retry;
            self.retry = (pause * 2).min(RETRY_MAX);
            if self.pause(pause).await {
                return Next::Done;
            }
        } else {
            // This is the only copy: the server's end waits for it, so it must not dawdle.
            sleep(RETRY_MIN).await;
            self.save();
        }
        let submitted = self.desk.node.submit_bytes(&self.block.bytes).await;
        self.answered(submitted).await
    }

    async fn answered(&mut self, submitted: Submitted) -> Next {
        let (hash, height) = (self.hash, self.block.height.0);
        match submitted {
            Submitted::Accepted => self.accept(),
            Submitted::AlreadyKnown => tracing::debug!(%hash, height, "node has the block already"),
            // It may have the block or not; its fate will tell. The pauses go on growing if it must be handed over again.
            Submitted::Undecided(word) => {
                tracing::info!(%hash, height, word, "node does not decide on the block");
                return Next::Watch;
            }
            Submitted::Disputed { word, refused } => {
                self.dispute(&word, refused);
                return Next::Watch;
            }
            Submitted::Refused(reason) => return self.refuse(reason).await,
            Submitted::Unreachable(error) if self.is_saved() && self.is_forgotten() => {
                return self.give_up(&error).await;
            }
            Submitted::Unreachable(error) => {
                tracing::warn!(%hash, height, error, "block could not be handed over; it will be tried again");
                return Next::Submit;
            }
        }
        self.is_with_a_node(true);
        self.retry = RETRY_MIN;
        Next::Watch
    }

    /// Leaves the block, which is on disk or with the node, to the next start to follow.
    async fn let_go(&mut self) {
        tracing::warn!(hash = %self.hash, height = self.block.height.0, "too many blocks are followed; the next start follows this one");
        self.saved().await;
    }

    /// Asks what became of the block, and pauses before the next question.
    async fn watch(&mut self) -> Next {
        // A disk that was full for a moment must not leave the block with the node alone: both may lose power together.
        self.save();
        match self.desk.node.fate(self.hash).await {
            Fate::InChain { confirmations } => {
                self.is_with_a_node(true);
                self.accept();
                if confirmations >= BURIED {
                    return self.settle(BlockFate::InChain).await;
                }
            }
            Fate::Stale => {
                self.is_with_a_node(true);
                if self.is_under(BURIED) {
                    return self.lose().await;
                }
            }
            Fate::Unknown if self.is_saved() && self.is_forgotten() => {
                return self.give_up("no node has it, and none takes it").await;
            }
            Fate::Unknown => {
                self.is_with_a_node(false);
                return Next::Submit;
            }
            Fate::Unreachable(error) => {
                tracing::debug!(hash = %self.hash, error, "fate of the block unknown");
                if self.is_only_copy() {
                    return Next::Submit;
                }
                if self.is_forgotten() {
                    return self.give_up(&error).await;
                }
            }
        }
        if self.pause(FATE_INTERVAL).await { Next::Done } else { Next::Watch }
    }

    /// Whether more than so many blocks have been built since.
    fn is_under(&self, blocks: u32) -> bool {
        // The node's word, because a desk may stand without a pool's server.
        let tip = *self.desk.node.tips().borrow();
        tip.is_some_and(|tip| tip.height.0.saturating_sub(self.block.height.0) > blocks)
    }

    /// Whether nobody will ever tell what became of the block, or take it.
    fn is_forgotten(&self) -> bool {
        let followed = Clock.monotonic().saturating_since(self.since);
        followed >= FORGET_PATIENCE && self.is_under(FORGOTTEN)
    }

    /// Follows the block no longer, although nobody knows what became of it; where a node has refused it and none has
    /// taken it, that is the last word.
    async fn give_up(&mut self, error: &str) -> Next {
        if let Some(reason) = self.disputed.take().filter(|_| !self.accepted) {
            self.is_with_a_node(true);
            self.tell(BlockOutcome::Refused(reason));
            return self.settle(BlockFate::Refused).await;
        }
        let (hash, height) = (self.hash, self.block.height.0);
        tracing::warn!(%hash, height, error, "nobody can tell what became of the block; look its hash up");
        self.is_with_a_node(true);
        self.settle(BlockFate::Unknown).await
    }

    fn accept(&mut self) {
        if self.accepted {
            return;
        }
        self.accepted = true;
        self.desk.gauges.blocks_accepted.fetch_add(1, Relaxed);
        tracing::info!(hash = %self.hash, height = self.block.height.0, "block accepted");
        self.tell(BlockOutcome::Accepted);
    }

    async fn lose(&mut self) -> Next {
        self.desk.gauges.blocks_stale.fetch_add(1, Relaxed);
        tracing::info!(hash = %self.hash, height = self.block.height.0, "block stale");
        self.tell(BlockOutcome::Stale);
        self.settle(BlockFate::Stale).await
    }

    /// One node refuses the block, and another has not decided: it goes on being tried, but a person hears of it at once, and once.
    fn dispute(&mut self, word: &str, refused: String) {
        let (hash, height) = (self.hash, self.block.height.0);
        if self.disputed.is_some() {
            return tracing::debug!(%hash, height, word, refused, "nodes do not agree on the block");
        }
        self.desk.gauges.blocks_refused.fetch_add(1, Relaxed);
        tracing::warn!(%hash, height, word, reason = refused, "block refused by a node; it goes on being tried with the others");
        self.disputed = Some(refused);
    }

    async fn refuse(&mut self, reason: String) -> Next {
        self.is_with_a_node(true);
        if self.disputed.is_none() {
            self.desk.gauges.blocks_refused.fetch_add(1, Relaxed);
        }
        tracing::warn!(hash = %self.hash, height = self.block.height.0, reason, "block refused");
        self.tell(BlockOutcome::Refused(reason));
        self.settle(BlockFate::Refused).await
    }

    fn tell(&self, outcome: BlockOutcome) {
        let (hash, height): (BlockHash, Height) = (self.hash, self.block.height);
        self.desk.tell(Event::BlockSettled { hash, height, outcome });
    }

    /// Notes the block's fate beside the block.
    async fn settle(&mut self, fate: BlockFate) -> Next {
        self.saved().await;
        if !self.is_saved() {
            return Next::Done;
        }
        let (store, hash) = (Arc::clone(&self.desk.store), self.block.hash);
        match spawn_blocking(move || store.settle(hash, fate)).await {
            Ok(Ok(())) => {}
            // It will be handed over and settled once more after the next start.
            Ok(Err(error)) => tracing::warn!(hash = %self.hash, %error, "fate of the block not noted"),
            Err(panic) => tracing::error!(hash = %self.hash, %panic, "fate of the block not noted"),
        }
        Next::Done
    }

    /// Waits for the last try to write the block down.
    async fn saved(&mut self) {
        if let Some(saving) = self.saving.take()
            && let Err(panic) = saving.await
        {
            tracing::error!(hash = %self.hash, %panic, "block is not on disk");
        }
    }

    /// Waits; the answer is whether the server ends, for which nobody waits longer than needed.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.draining.begun() => true,
            () = sleep(pause) => false,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.is_with_a_node(true);
        self.desk.followed().remove(&self.hash);
    }
}

fn hash_of(block: &SavedBlock) -> BlockHash {
    BlockHash::from_byte_array(block.hash)
}

#[cfg(test)]
mod tests;

//! One new tip after another while peers come and go: everybody else gets each of them or a later one, with its job, and stays.
//!
//! `ADIT_TEST_FULL=1 cargo test -p adit-pool --test server tips -- --nocapture` does it with 5 000 idle connections and 1 000 tips,
//! which takes some minutes.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use adit_net::Limits;
use adit_node::Submitted;
use adit_share::Template;
use adit_testkit::mining::mine;
use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::miner::Miner;
use crate::stage::{PATIENCE, Plan, Stage};

/// Peers that come and go, each second.
const RECONNECTS: u64 = 100;

/// How much of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    idle: usize,
    tips: u32,
}

impl Size {
    fn chosen() -> Self {
        match std::env::var_os("ADIT_TEST_FULL") {
            Some(_) => Self { idle: 5_000, tips: 1_000 },
            None => Self { idle: 200, tips: 120 },
        }
    }
}

/// Which block is how high, and how high the chain is.
#[derive(Clone, Default)]
struct Chain {
    heights: Arc<Mutex<HashMap<[u8; 32], u32>>>,
    top: Arc<AtomicU32>,
}

impl Chain {
    fn grow(&self, template: &Template) {
        let (block, height) = (template.tip.prev_hash.to_byte_array(), template.tip.height.0);
        self.heights.lock().unwrap().insert(block, height);
        self.top.store(height, Relaxed);
    }

    /// How high the block is that the miner works on; it has both the tip and the job.
    fn height(&self, miner: &Miner) -> Option<u32> {
        let heights = self.heights.lock().unwrap();
        miner.prev_hash().and_then(|block| heights.get(&block).copied())
    }
}

/// Finds the next block and waits until the node builds on it.
async fn next_tip(stage: &Stage, chain: &Chain) {
    let mut templates = stage.node.templates();
    let template = templates.borrow_and_update().clone().unwrap();
    let block = mine(&template, ScriptBuf::from_bytes(vec![0x51]));
    // Known before any miner can hear of it: what comes next is told by the template.
    assert_eq!(stage.node.submit(&block).await, Submitted::Accepted);
    let next = templates
        .wait_for(|next| next.as_ref().is_some_and(|next| next.tip.prev_hash == block.hash))
        .await
        .unwrap();
    chain.grow(next.as_ref().unwrap());
}

/// Listens to the end, and tells how many tips came; every one is higher than the one before and has its job.
async fn idle(mut miner: Miner, chain: Chain, mut end: watch::Receiver<u32>) -> u32 {
    let mut last = chain.height(&miner).unwrap_or_default();
    loop {
        let over = *end.borrow_and_update();
        if over != 0 && last == over {
            return miner.tips;
        }
        let heard = tokio::select! {
            heard = miner.hear_more() => heard,
            changed = end.changed() => {
                changed.unwrap();
                Ok(())
            }
        };
        heard.expect("nobody is sent away");
        // The chain may be told of a moment after the miner was.
        while miner.prev_hash().is_some() && chain.height(&miner).is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        let height = chain.height(&miner).expect("a tip comes with its job");
        assert!(height >= last, "{height} after {last}");
        last = height;
    }
}

/// Comes, is given work that is not older than the chain was when it came, earns, and goes.
async fn come_and_go(stage: Arc<Stage>, chain: Chain) {
    let top = chain.top.load(Relaxed);
    let miner = stage.miner().await;
    while miner.prev_hash().is_some() && chain.height(&miner).is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    let height = chain.height(&miner).expect("the first tip comes with its job");
    // The board may be a moment behind the node.
    assert!(height + 1 >= top, "work on {height}, long after {top}");
}

/// Lets peers come and go until the end, and tells how many did.
async fn visit(stage: Arc<Stage>, chain: Chain, mut over: watch::Receiver<u32>) -> u32 {
    let (mut turn, mut guests) = (interval(Duration::from_millis(1_000 / RECONNECTS)), JoinSet::new());
    let mut gone = 0;
    while *over.borrow_and_update() == 0 {
        tokio::select! {
            _ = turn.tick() => {
                guests.spawn(come_and_go(Arc::clone(&stage), chain.clone()));
            }
            Some(guest) = guests.join_next() => {
                guest.unwrap();
                gone += 1;
            }
            changed = over.changed() => changed.unwrap(),
        }
    }
    gone + u32::try_from(guests.join_all().await.len()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tips_and_reconnects_are_noticed_by_nobody_else() {
    let size = Size::chosen();
    let mut plan = Plan::with_blocks();
    let all = size.idle + 2_000;
    plan.server.limits =
        Limits { connections: all, connections_per_address: all, newcomers: all, newcomers_per_address: all };
    let stage = Arc::new(plan.start());
    let chain = Chain::default();
    chain.grow(&stage.node.templates().wait_for(Option::is_some).await.unwrap().clone().unwrap());

    let (end, over) = watch::channel(0);
    let (door, mut crowd) = (Arc::new(Semaphore::new(64)), JoinSet::new());
    let arrived = Arc::new(AtomicU32::new(0));
    for _ in 0..size.idle {
        let (door, stage, arrived) = (Arc::clone(&door), Arc::clone(&stage), Arc::clone(&arrived));
        let (chain, over) = (chain.clone(), over.clone());
        crowd.spawn(async move {
            let turn = door.acquire_owned().await.unwrap();
            let miner = stage.miner().await;
            drop(turn);
            arrived.fetch_add(1, Relaxed);
            idle(miner, chain, over).await
        });
    }
    while (arrived.load(Relaxed) as usize) < size.idle {
        sleep(Duration::from_millis(10)).await;
    }

    let visitors = tokio::spawn(visit(Arc::clone(&stage), chain.clone(), over));
    for _ in 0..size.tips {
        next_tip(&stage, &chain).await;
        sleep(Duration::from_millis(5)).await;
    }
    end.send_replace(chain.top.load(Relaxed));
    let mut told = Vec::new();
    let finished = async {
        while let Some(tips) = crowd.join_next().await {
            told.push(tips.unwrap());
        }
    };
    timeout(4 * PATIENCE, finished).await.expect("the last tip reaches everybody");
    assert_eq!(told.len(), size.idle);
    let visits = timeout(PATIENCE, visitors).await.expect("the last of them leaves").unwrap();
    let (least, most) = (told.iter().min().unwrap(), told.iter().max().unwrap());
    eprintln!(
        "measured: {size:?}: {visits} came and went; each of the others was told of {least} to {most} tips"
    );
    assert!(visits > 0 && *least > 0);
}

//! Work on the same tip reaches connections one after another, and a new tip reaches all of them at once.
//!
//! The clock stands still while anybody has something to do.

use core::time::Duration;

use adit_channel::VardiffConfig;
use adit_net::Clock;
use adit_node::Submitted;
use adit_testkit::mining::mine;
use adit_units::Monotonic;
use bitcoin::ScriptBuf;
use tokio::task::JoinSet;

use crate::miner::Miner;
use crate::stage::{Plan, Stage};

/// Over how long refreshes are spread, as the decision about them says.
const SPREAD: Duration = Duration::from_secs(2);

/// What the runtime's timers are off by.
const TICK: Duration = Duration::from_millis(10);

/// Enough that they cannot all have their turns close together.
const MINERS: usize = 8;

async fn miners(stage: &Stage) -> Vec<Miner> {
    let mut miners = Vec::new();
    for _ in 0..MINERS {
        miners.push(stage.miner().await);
    }
    tokio::time::pause();
    miners
}

/// Listens until there is another job; when that was.
async fn next_job(mut miner: Miner) -> (Monotonic, Miner) {
    let present = miner.job();
    while miner.job() == present {
        miner.hear_more().await.expect("nobody is sent away");
    }
    (Clock.monotonic(), miner)
}

#[tokio::test]
async fn connections_are_told_of_work_on_the_same_tip_one_after_another() {
    let stage = Plan::quiet().start();
    let mut waiting: JoinSet<_> = miners(&stage).await.into_iter().map(next_job).collect();
    let mut told = Vec::new();
    while let Some(miner) = waiting.join_next().await {
        told.push(miner.unwrap().0);
    }
    told.sort();
    let (first, last) = (told[0], told[MINERS - 1]);
    assert!((SPREAD / 2..=SPREAD + TICK).contains(&(last - first)), "{:?}", last - first);
    for pair in told.windows(2) {
        assert!(pair[1] - pair[0] > TICK, "{told:?}");
    }
}

#[tokio::test]
async fn a_new_tip_does_not_wait_for_a_connections_turn() {
    let stage = Plan::with_blocks().start();
    let mut waiting: JoinSet<_> = miners(&stage).await.into_iter().map(next_job).collect();
    // One of them was told of the refresh. The others' turn is still to come, and the block comes first.
    let (_, first) = waiting.join_next().await.unwrap().unwrap();
    waiting.spawn(next_job(first));
    let template = stage.node.templates().borrow().clone().unwrap();
    let block = mine(&template, ScriptBuf::from_bytes(vec![0x51]));
    let start = Clock.monotonic();
    assert_eq!(stage.node.submit(&block).await, Submitted::Accepted);
    let mut on_the_tip = 0;
    while let Some(miner) = waiting.join_next().await {
        let (told, miner) = miner.unwrap();
        assert!(told - start < TICK, "{:?}", told - start);
        on_the_tip += usize::from(miner.tips > 1);
    }
    assert_eq!(on_the_tip, MINERS);
}

#[tokio::test]
async fn a_miner_that_has_become_fast_is_given_a_job_of_its_own_and_nobody_else_is_disturbed() {
    let mut plan = Plan::quiet();
    plan.pool.vardiff.hardest = VardiffConfig::default().hardest;
    let stage = plan.start();
    let (mut fast, mut steady) = (stage.miner().await, stage.miner().await);
    tokio::time::pause();
    let start = Clock.monotonic();
    for _ in 0..60 {
        fast.share();
    }
    fast.flush().await;
    let present = steady.job();
    let (told, fast) = next_job(fast).await;
    assert!(told - start < Duration::from_secs(20), "{:?}", told - start);
    steady.hear_for(TICK).await.unwrap();
    assert_eq!(steady.job(), present);
    assert_ne!(fast.job(), present);
    let (renewed, _) = next_job(steady).await;
    assert!(renewed - start > Duration::from_secs(40), "{:?}", renewed - start);
}

//! A pool on two real nodes, each of which hangs and dies under it while a miner works.

use std::time::{Duration, Instant};

use adit_testkit::bitcoind::Bitcoind;
use rustix::process::{Pid, Signal, kill_process};

use crate::pool::Pool;
use crate::program::{Program, wait_for};
use crate::{BLOCKS, our_miner};

/// The longest time that mining may stand still when a node fails, on a machine that also mines.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Sends a signal to a node.
fn signal(node: &Bitcoind, signal: Signal) {
    let id = node.process_id().expect("the node runs");
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("the system gave the number");
    kill_process(pid, signal).expect("the node runs and is ours");
}

fn height(node: &Bitcoind) -> u32 {
    node.height().expect("a running node answers")
}

/// Waits until `node` has more blocks, and tells how long the first of them took.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]
fn goes_on(what: &str, node: &Bitcoind, miner: &mut Program) {
    let (start, started) = (height(node), Instant::now());
    wait_for(what, || (height(node) > start).then_some(()));
    let took = started.elapsed();
    eprintln!("measured: {what}: the next block after {took:?}");
    assert!(took < STANDSTILL, "{what}: {took:?}");
    wait_for(what, || (height(node) >= start + BLOCKS).then_some(()));
    miner.assert_running();
}

/// Waits until `node` has the blocks that were found without it.
fn catches_up(node: &Bitcoind, other: &Bitcoind) {
    let wanted = height(other);
    wait_for("a node to catch up", || (node.height().ok()? >= wanted).then_some(()));
}

#[test]
fn nodes_hang_and_die_under_a_pool_and_its_miner_does_not_notice() {
    const TEST: &str = "nodes_hang_and_die_under_a_pool_and_its_miner_does_not_notice";
    let Some(mut pool) = Pool::start_on_two(TEST) else { return };
    let mut second = pool.second.take().expect("two nodes were asked for");
    let mut miner = our_miner(&pool, "extended");
    wait_for("the first block", || (pool.height() > pool.start_height).then_some(()));

    signal(&pool.node, Signal::STOP);
    goes_on("the preferred node hangs", &second, &mut miner);
    signal(&pool.node, Signal::CONT);
    catches_up(&pool.node, &second);

    pool.node.kill();
    goes_on("the preferred node is killed", &second, &mut miner);
    pool.node.launch().expect("the node starts again");
    catches_up(&pool.node, &second);

    signal(&second, Signal::STOP);
    goes_on("the second node hangs", &pool.node, &mut miner);
    signal(&second, Signal::CONT);
    catches_up(&second, &pool.node);

    second.kill();
    goes_on("the second node is killed", &pool.node, &mut miner);
    second.launch().expect("the node starts again");
    catches_up(&second, &pool.node);

    miner.stop();
    let output = miner.output();
    assert_eq!(output.matches("connected, channel open").count(), 1, "the miner was dropped:\n{output}");
    assert!(!output.contains("no connection"), "the miner was dropped:\n{output}");
    pool.assert_running();
    pool.stop();
}

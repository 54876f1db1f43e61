//! A pool on two real nodes, each of which hangs and dies under it while a miner works.

use std::process::Command;
use std::time::{Duration, Instant};

use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::pool::Pool;
use crate::program::{Program, adit, wait_for};
use crate::{BLOCKS, our_miner};

/// The longest time that mining may stand still when a node fails, on a machine that also mines.
const STANDSTILL: Duration = Duration::from_secs(5);

/// How long the load lasts, in seconds.
const LOAD_SECONDS: &str = "45";
/// How many shares show that the load goes on: those of a quarter of a second.
const LOAD_SHARES: usize = 25;

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

/// A pool on these two nodes, the preferred one first, each of which hangs and dies under it.
fn nodes_hang_and_die(test: &str, kinds: [Kind; 2]) {
    let Some(mut pool) = Pool::start_on_two(test, kinds, Chain::Regtest) else { return };
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

#[test]
fn nodes_hang_and_die_under_a_pool_and_its_miner_does_not_notice() {
    nodes_hang_and_die("failover of two nodes over JSON-RPC", [Kind::Knots, Kind::Knots]);
}

#[test]
fn a_node_over_ipc_and_one_over_rpc_stand_in_for_each_other() {
    nodes_hang_and_die("failover between IPC and JSON-RPC", [Kind::Core, Kind::Knots]);
}

/// How often the pool has gone over to a node over IPC, for whatever reason.
fn turns_to_ipc(pool: &Pool) -> usize {
    pool.output().matches("to=\"unix:").count()
}

/// Waits until more shares stand in the log, and tells how long that took.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]
fn shares_go_on(what: &str, pool: &mut Pool) {
    let (before, started) = (pool.records_so_far().len(), Instant::now());
    wait_for(what, || {
        pool.assert_running();
        (pool.records_so_far().len() >= before + LOAD_SHARES).then_some(())
    });
    let took = started.elapsed();
    eprintln!("measured: {what}: {LOAD_SHARES} more shares after {took:?}");
    assert!(took < STANDSTILL, "{what}: {took:?}");
}

/// Fifty connections that submit shares for longer than a test takes.
fn load(pool: &Pool) -> Program {
    let mut command = Command::new(adit());
    command.args(["bench", "--url", &pool.url, "--connections", "50", "--rate", "100", "--json"]);
    Program::start("adit bench", command.args(["--seconds", LOAD_SECONDS]), pool.folder())
}

/// What the load says when it has ended.
fn report(load: &mut Program) -> Value {
    let status = load.wait();
    assert!(status.success(), "adit bench ended with {status}");
    let output = load.output();
    let (start, end) = (output.find('{').expect("a report"), output.rfind('}').expect("a whole report"));
    serde_json::from_str(&output[start..=end]).expect("the report is JSON")
}

/// The preferred node is killed and started again while fifty connections submit shares and a miner finds blocks.
#[test]
fn the_preferred_node_is_killed_and_comes_back_under_load() {
    const TEST: &str = "a node is killed under load";
    let kinds = [Kind::Core, Kind::Knots];
    let Some(mut pool) = Pool::start_on_two(TEST, kinds, Chain::PrivateSignet) else { return };
    let second = pool.second.take().expect("two nodes were asked for");
    let mut miner = our_miner(&pool, "extended");
    let mut load = load(&pool);
    shares_go_on("load on the preferred node", &mut pool);
    wait_for("a first block", || (pool.height() > pool.start_height).then_some(()));

    pool.node.kill();
    shares_go_on("the preferred node is killed", &mut pool);
    let found = height(&second);
    wait_for("a block without the preferred node", || (height(&second) > found).then_some(()));

    let before = turns_to_ipc(&pool);
    pool.node.launch().expect("the node starts again");
    shares_go_on("the preferred node comes back", &mut pool);
    wait_for("the preferred node to be used again", || (turns_to_ipc(&pool) > before).then_some(()));
    shares_go_on("the preferred node is used again", &mut pool);
    let found = pool.height();
    wait_for("a block that both have", || (pool.height() > found && height(&second) > found).then_some(()));

    let report = report(&mut load);
    assert!(report["lost"].as_object().expect("a table").is_empty(), "connections were lost: {report}");
    let shares = &report["shares"];
    assert!(shares["accepted"].as_u64().is_some_and(|accepted| accepted > 0), "{report}");
    let refused = shares["refused"].as_object().expect("a table");
    assert!(refused.keys().all(|code| code == "stale-share"), "{report}");
    miner.stop();
    let output = miner.output();
    assert_eq!(output.matches("connected, channel open").count(), 1, "the miner was dropped:\n{output}");
    pool.assert_running();
    pool.stop();
}

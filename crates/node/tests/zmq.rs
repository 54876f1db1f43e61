//! New blocks told over ZeroMQ by a real node, when the environment names one: `eval "$(scripts/lib/knots.sh)"` gets Bitcoin Knots.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::{Duration, Instant};

use adit_node::{Auth, Node, RpcConfig, Timing, Zmq};
use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use bitcoin::{Address, Network, ScriptBuf};
use serde_json::json;
use tokio::time::timeout;

/// Longer than a node takes over anything here, its own start included.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long that it plays no part in a test.
const NEVER: Duration = Duration::from_secs(3600);

fn config(bitcoind: &Bitcoind, zmq_hashblock: Zmq, tip_poll: Duration) -> RpcConfig {
    let auth = Auth::Cookie(bitcoind.cookie_path());
    let timing = Timing { tip_poll, refresh: NEVER, ..Timing::default() };
    let mut config = RpcConfig::new(&bitcoind.rpc_url(), auth).unwrap();
    (config.zmq_hashblock, config.timing) = (zmq_hashblock, timing);
    config
}

/// How long after a block was made its tip, and then a template on it, is known.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]
async fn latency(node: &Node, bitcoind: &Bitcoind) -> (Duration, Duration) {
    let (mut tips, mut templates) = (node.tips(), node.templates());
    tips.mark_unchanged();
    let before = templates.borrow_and_update().as_ref().unwrap().tip.prev_hash;
    let start = Instant::now();
    // The call may take a while to come back; what counts is when it began, on both sides of the comparison.
    let generate = async { tokio::task::block_in_place(|| empty_block(bitcoind)) };
    let tip = async {
        tips.changed().await.unwrap();
        start.elapsed()
    };
    let template = async {
        templates.wait_for(|up| up.as_ref().is_some_and(|up| up.tip.prev_hash != before)).await.unwrap();
        start.elapsed()
    };
    let (_, tip, template) =
        timeout(PATIENCE, async { tokio::join!(generate, tip, template) }).await.unwrap();
    (tip, template)
}

/// Lets the node mine a block that leaves its mempool as it is.
fn empty_block(bitcoind: &Bitcoind) {
    let address = Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51]), Network::Regtest);
    bitcoind.call("generateblock", &json!([address.to_string(), []])).unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A real node publishes on a port that it was given, and says so when it is asked. How long its blocks take is printed, and is no part of
/// the test: a busy machine would decide that.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_nodes_blocks_are_heard_of() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let publish = format!("-zmqpubhashblock=tcp://{free}");
    let what = "new blocks over ZeroMQ";
    let Some(bitcoind) = Kind::Knots.start(what, Chain::Regtest, &[&publish]) else { return };
    tokio::task::block_in_place(|| {
        bitcoind.mature_coinbases(10).unwrap();
        // A full block to tell of takes a node longer.
        bitcoind.send_large_transactions(10).unwrap();
    });
    for (name, zmq, tip_poll) in
        [("ZeroMQ alone", Zmq::Discover, NEVER), ("a look each second", Zmq::Off, Timing::default().tip_poll)]
    {
        let node = Node::rpc(&config(&bitcoind, zmq, tip_poll));
        let up = timeout(PATIENCE, async { node.templates().wait_for(Option::is_some).await.map(drop) });
        up.await.unwrap().unwrap();
        // Until its subscription, its long poll and its first template have arrived.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut tips, mut templates) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let (tip, template) = latency(&node, &bitcoind).await;
            tips.push(tip);
            templates.push(template);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        eprintln!(
            "{name}: tip known after {:?}, template after {:?} (medians)",
            median(tips),
            median(templates)
        );
    }
}

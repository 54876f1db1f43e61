//! A real node takes a block on the job held in reserve; needs `ADIT_BITCOIND`, as `eval "$(scripts/lib/knots.sh)"` sets it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use adit_node::{Auth, Node, RpcConfig, Submitted};
use adit_pool::{JobFactory, PoolConfig, RESERVE_DELAY, Work};
use adit_share::{Block, FULL_EXTRANONCE_LEN, Template};
use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use adit_testkit::mining::mine_job;
use adit_units::{Monotonic, Now, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf};
use tokio::time::timeout;

/// Longer than a node takes over anything here.
const PATIENCE: Duration = Duration::from_secs(60);

fn payout() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(b"payout"))
}

async fn template_at(node: &Node, height: u32) -> Arc<Template> {
    let mut templates = node.templates();
    let found = templates.wait_for(|template| template.as_ref().is_some_and(|t| t.tip.height.0 == height));
    timeout(PATIENCE, found).await.unwrap().unwrap().clone().unwrap()
}

fn solved(work: &Work) -> Block {
    mine_job(work.job(), work.template(), [3; FULL_EXTRANONCE_LEN])
}

/// Follows a chain over a height and mines the next block on the empty job; the node must take it, and the money must be right.
async fn empty_block(bitcoind: &Bitcoind, halving_interval: u32, height: u32) {
    let mut rpc = RpcConfig::new(&bitcoind.rpc_url(), Auth::Cookie(bitcoind.cookie_path())).unwrap();
    rpc.timing.tip_poll = Duration::from_millis(10);
    let node = Node::rpc(&rpc);
    let mut factory =
        JobFactory::new(&PoolConfig { halving_interval, ..PoolConfig::new(1, payout()) }, 1).unwrap();
    let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(now_secs()) };
    let template = template_at(&node, height - 1).await;
    let full = factory.handle_template(&template, now).unwrap().unwrap();
    let now = now.after(RESERVE_DELAY);
    factory.handle_timeout(now).unwrap().expect("a job for the next tip");

    let mut tips = node.tips();
    assert_eq!(node.submit(&solved(&full)).await, Submitted::Accepted);
    let next = timeout(PATIENCE, tips.wait_for(|tip| tip.is_some_and(|tip| tip.height.0 == height))).await;
    let tip = next.unwrap().unwrap().unwrap();
    let interim = factory.handle_tip(&tip, now).unwrap().expect("miners are on the empty block");
    assert_eq!(template_at(&node, height).await.tip, tip, "the template says the same of the tip");
    let block = solved(&interim);
    block.check().unwrap();
    assert_eq!(node.submit(&block).await, Submitted::Accepted, "at height {height}");
    let stored = bitcoind.block_at(height).unwrap();
    assert_eq!((stored.block_hash(), stored.txdata.len()), (block.hash, 1));
    let created: Amount = stored.txdata[0].output.iter().map(|output| output.value).sum();
    assert_eq!(created, Amount::from_sat(interim.template().subsidy.to_sats()));
}

fn now_secs() -> u32 {
    adit_net::Clock.unix().to_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signet_node_takes_empty_blocks() {
    let Some(bitcoind) = Kind::Knots.start("empty blocks on a signet", Chain::PrivateSignet, &[]) else {
        return;
    };
    for height in [2, 4] {
        empty_block(&bitcoind, 210_000, height).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_empty_blocks_before_and_at_a_halving() {
    let Some(bitcoind) = Kind::Knots.start("empty blocks on regtest", Chain::Regtest, &[]) else { return };
    for height in [2, 17, 149, 150, 151] {
        let have = bitcoind.call("getblockcount", &serde_json::json!([])).unwrap().as_u64().unwrap();
        let missing = u64::from(height) - 2 - have.min(u64::from(height) - 2);
        if missing > 0 {
            bitcoind.generate(missing.try_into().unwrap()).unwrap();
        }
        if have <= u64::from(height) - 2 {
            empty_block(&bitcoind, 150, height).await;
        }
    }
    let subsidy = bitcoind.block_at(150).unwrap().txdata[0].output[0].value;
    assert_eq!(subsidy, Amount::from_sat(2_500_000_000));
}

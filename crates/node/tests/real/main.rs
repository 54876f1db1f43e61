//! Real nodes, when the environment names them: our blocks extend their chains, and their changes reach us.
//!
//! `eval "$(scripts/lib/knots.sh)"` gets Bitcoin Knots, which is spoken to over JSON-RPC, and `eval "$(scripts/lib/core.sh)"` gets
//! Bitcoin Core, which is spoken to over IPC; `ADIT_CORE` may name a `bitcoin-node` of any version from 30 on. Without them each test says on the terminal that it was left out; with them, a node
//! that does not start fails them all. What both must do stands here once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ipc;
mod rpc;

use std::sync::Arc;
use std::time::Duration;

use adit_node::{
    Auth, Checked, CoinbaseReserve, Fate, Health, IpcConfig, Node, NodeError, NodeInfo, RpcConfig, Submitted,
    Timing, probe, probe_ipc,
};
use adit_share::{Block, Template};
use adit_testkit::bitcoind::{Bitcoind, Chain, Kind, TRANSACTION_FEE};
use adit_testkit::mining::mine;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use tokio::time::timeout;

/// Longer than a node takes over anything here, its own start included.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long that it plays no part in a test.
const NEVER: Duration = Duration::from_secs(3600);

/// Each of these is a test on each kind of node.
macro_rules! on_every_kind {
    ($($scenario:ident),* $(,)?) => {
        mod knots {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario(adit_testkit::bitcoind::Kind::Knots).await;
                }
            )*
        }

        mod bitcoin_core {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario(adit_testkit::bitcoind::Kind::Core).await;
                }
            )*
        }
    };
}

on_every_kind!(
    our_blocks_extend_a_regtest_chain,
    our_block_holds_the_mempool_and_takes_its_fees,
    a_full_block_leaves_room_for_our_coinbase,
    a_private_signet_takes_blocks_without_a_signature,
    a_signet_that_wants_signatures_is_not_mined,
    a_new_tip_reaches_us_at_once_and_with_defaults,
    a_restarted_node_is_found_again,
    a_stale_and_a_false_block_are_told_apart,
    unsolved_blocks_are_checked,
    transactions_are_found_by_their_hashes,
    what_a_node_says_of_itself,
);

/// How a node is reached.
#[derive(Clone, Debug)]
enum Way {
    Rpc(RpcConfig),
    Ipc(IpcConfig),
}

impl Way {
    /// The way that is tested for that kind of node.
    fn to(kind: Kind, bitcoind: &Bitcoind) -> Self {
        let network = Some(bitcoind.chain().network());
        match kind {
            Kind::Knots => Self::Rpc(rpc_config(bitcoind)),
            Kind::Core => {
                let mut config = IpcConfig::new(bitcoind.socket_path());
                config.network = network;
                config.rpc = bitcoind.needs_rpc_beside_its_socket().unwrap().then(|| rpc_config(bitcoind));
                Self::Ipc(config)
            }
        }
    }

    /// Whether the node says by itself what and where it is; older ones do not over their socket.
    const fn tells_all(&self) -> bool {
        match self {
            Self::Rpc(_) => true,
            Self::Ipc(config) => config.rpc.is_none(),
        }
    }

    fn node(&self) -> Node {
        match self {
            Self::Rpc(config) => Node::rpc(config),
            Self::Ipc(config) => Node::ipc(config),
        }
    }

    async fn probe(&self) -> Result<NodeInfo, NodeError> {
        match self {
            Self::Rpc(config) => probe(config).await,
            Self::Ipc(config) => probe_ipc(config).await,
        }
    }

    fn coinbase(&mut self) -> &mut CoinbaseReserve {
        match self {
            Self::Rpc(config) => &mut config.coinbase,
            Self::Ipc(config) => &mut config.coinbase,
        }
    }

    fn timing(&mut self) -> &mut Timing {
        match self {
            Self::Rpc(config) => &mut config.timing,
            Self::Ipc(config) => &mut config.timing,
        }
    }

    fn network(&mut self) -> &mut Option<Network> {
        match self {
            Self::Rpc(config) => &mut config.network,
            Self::Ipc(config) => &mut config.network,
        }
    }
}

/// The blocks that an older Bitcoin Core needs to give templates over its socket: before, the height in the coinbase is one byte, and
/// it puts nothing beside it (`bad-cb-length`).
const SHORTEST_CHAIN: u32 = 16;

/// Starts a node on a chain on which it gives templates; as [`Kind::start`] otherwise.
fn start(kind: Kind, test: &str, chain: Chain, arguments: &[&str]) -> Option<Bitcoind> {
    let bitcoind = kind.start(test, chain, arguments)?;
    if kind == Kind::Core && bitcoind.needs_rpc_beside_its_socket().unwrap() {
        bitcoind.generate(SHORTEST_CHAIN).unwrap();
    }
    Some(bitcoind)
}

/// A node's JSON-RPC.
fn rpc_config(bitcoind: &Bitcoind) -> RpcConfig {
    let mut config = RpcConfig::new(&bitcoind.rpc_url(), Auth::Cookie(bitcoind.cookie_path())).unwrap();
    config.network = Some(bitcoind.chain().network());
    config
}

async fn next(node: &Node, wanted: impl Fn(&Template) -> bool) -> Arc<Template> {
    let mut templates = node.templates();
    let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    let template = timeout(PATIENCE, found).await;
    template
        .unwrap_or_else(|_| panic!("no template came in time: {:?}", *node.health().borrow()))
        .expect("the node is followed")
        .clone()
        .expect("it was just looked at")
}

fn payout() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(b"payout"))
}

fn solved(template: &Arc<Template>) -> Block {
    mine(template, payout())
}

async fn our_blocks_extend_a_regtest_chain(kind: Kind) {
    let Some(bitcoind) = start(kind, "blocks on regtest", Chain::Regtest, &[]) else { return };
    let way = Way::to(kind, &bitcoind);
    let node = way.node();
    // Up to 16 the height in the coinbase is an opcode, from 17 on it is bytes.
    let before = bitcoind.height().unwrap();
    for height in before + 1..=before + 20 {
        let template = next(&node, |template| template.tip.height.0 == height).await;
        let block = solved(&template);
        block.check().unwrap();
        assert_eq!(node.submit(&block).await, Submitted::Accepted, "at height {height}");
        assert_eq!(bitcoind.best_block_hash().unwrap(), block.hash);
        let again = node.submit_bytes(&block.to_bytes()).await;
        // An older node says of its last block no more than that.
        assert!(again == Submitted::AlreadyKnown || !way.tells_all() && again == Submitted::Accepted);
    }
    let first = bitcoind.block_at(before + 1).unwrap();
    assert_eq!(first.txdata[0].output[0].script_pubkey, payout());
    assert_eq!(node.fate(first.block_hash()).await, Fate::InChain { confirmations: 20 });
    assert_eq!(node.fate(BlockHash::all_zeros()).await, Fate::Unknown);
}

async fn our_block_holds_the_mempool_and_takes_its_fees(kind: Kind) {
    let Some(bitcoind) = start(kind, "blocks with transactions", Chain::Regtest, &[]) else { return };
    bitcoind.mature_coinbases(5).unwrap();
    let sent = bitcoind.send_transactions(5).unwrap();
    let node = Way::to(kind, &bitcoind).node();
    let template = next(&node, |template| template.transactions.len() == 5).await;
    assert_eq!(template.fees.to_sats(), TRANSACTION_FEE.to_sat() * 5);
    let block = solved(&template);
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    assert_eq!(bitcoind.mempool_len().unwrap(), 0);
    let mined = bitcoind.block(block.hash).unwrap();
    assert!(sent.iter().all(|txid| mined.txdata.iter().any(|tx| tx.compute_txid() == *txid)));
    let paid = Amount::from_btc(50.0).unwrap() + TRANSACTION_FEE * 5;
    assert_eq!(mined.txdata[0].output[0], TxOut { value: paid, script_pubkey: payout() });
}

async fn a_full_block_leaves_room_for_our_coinbase(kind: Kind) {
    // The node fills the block but for what it must leave itself, which is less than we want.
    let full = ["-blockmaxweight=4000000", "-blockreservedweight=2000"];
    let Some(bitcoind) = start(kind, "a full block", Chain::Regtest, &full) else { return };
    bitcoind.mature_coinbases(30).unwrap();
    bitcoind.send_large_transactions(10).unwrap();
    bitcoind.send_transactions(20).unwrap();
    let node_says = bitcoind.call("getblocktemplate", &serde_json::json!([{ "rules": ["segwit"] }])).unwrap();
    let offered = node_says["transactions"].as_array().unwrap().len();
    let weight: u64 =
        node_says["transactions"].as_array().unwrap().iter().map(|tx| tx["weight"].as_u64().unwrap()).sum();
    eprintln!("the node offers {offered} transactions of weight {weight}");

    let mut way = Way::to(kind, &bitcoind);
    way.coinbase().weight = 40_000;
    let node = way.node();
    let template = next(&node, |_| true).await;
    assert!(template.transactions.len() < offered, "something was left out");
    assert!(template.weight + 40_000 <= 4_000_000);
    assert_eq!(node.submit(&solved(&template)).await, Submitted::Accepted);
    assert!(bitcoind.mempool_len().unwrap() > 0);
    // What was left out comes next.
    let rest = next(&node, |later| later.tip.height > template.tip.height).await;
    assert_eq!(rest.transactions.len(), 30 - template.transactions.len());
    assert_eq!(node.submit(&solved(&rest)).await, Submitted::Accepted);
    assert_eq!(bitcoind.mempool_len().unwrap(), 0);
}

async fn a_private_signet_takes_blocks_without_a_signature(kind: Kind) {
    let Some(bitcoind) = start(kind, "blocks on a private signet", Chain::PrivateSignet, &[]) else { return };
    let node = Way::to(kind, &bitcoind).node();
    let before = bitcoind.height().unwrap();
    for height in before + 1..=before + 2 {
        let template = next(&node, |template| template.tip.height.0 == height).await;
        assert_eq!(template.tip.nbits.to_consensus(), 0x1e03_77ae);
        let block = solved(&template);
        assert_eq!(node.submit(&block).await, Submitted::Accepted);
        assert_eq!(bitcoind.best_block_hash().unwrap(), block.hash);
    }
    let info = node.probe().await.unwrap();
    assert_eq!(
        (info.network, info.height.0, info.initial_block_download),
        (Network::Signet, before + 2, false)
    );
}

async fn a_signet_that_wants_signatures_is_not_mined(kind: Kind) {
    // The signature of one key, which is the curve's generator point.
    let challenge =
        "-signetchallenge=51210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f8179851ae";
    let Some(bitcoind) = kind.start("a signed signet", Chain::PrivateSignet, &[challenge]) else { return };
    let trouble = match Way::to(kind, &bitcoind).probe().await {
        Ok(info) => info.trouble.expect("its templates are of no use").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(trouble.contains("signet") && trouble.contains("signed"), "{trouble}");
}

async fn a_new_tip_reaches_us_at_once_and_with_defaults(kind: Kind) {
    let Some(bitcoind) = start(kind, "the time from tip to template", Chain::Regtest, &[]) else { return };
    bitcoind.generate(1).unwrap();
    let patient = Timing { tip_poll: NEVER, refresh: NEVER, ..Timing::default() };
    for (name, timing) in [("the node's own word", patient), ("defaults", Timing::default())] {
        let mut way = Way::to(kind, &bitcoind);
        *way.timing() = timing;
        let node = way.node();
        next(&node, |_| true).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            // Longer than the pause between two long polls, so that one is under way.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let block = solved(&next(&node, |_| true).await);
            #[expect(clippy::disallowed_methods, reason = "this is what is measured")]
            let start = std::time::Instant::now();
            let (submitter, submitted) = (node.clone(), block.clone());
            let outcome = tokio::spawn(async move { submitter.submit(&submitted).await });
            next(&node, |template| template.tip.prev_hash == block.hash).await;
            times.push(start.elapsed());
            assert_eq!(outcome.await.unwrap(), Submitted::Accepted);
        }
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        eprintln!(
            "from handing over a block until the template on top of it is up, by {name} of {kind:?}: median {median:?}, worst {worst:?}"
        );
        assert!(worst < Duration::from_secs(3), "{name}: {times:?}");
    }
}

async fn a_restarted_node_is_found_again(kind: Kind) {
    let Some(mut bitcoind) = start(kind, "a restart", Chain::Regtest, &[]) else { return };
    bitcoind.generate(1).unwrap();
    let node = Way::to(kind, &bitcoind).node();
    let before = next(&node, |_| true).await;
    let cookie = std::fs::read_to_string(bitcoind.cookie_path()).unwrap();

    bitcoind.kill();
    let mut health = node.health();
    let down = timeout(PATIENCE, health.wait_for(|health| matches!(health, Health::Down(_)))).await;
    drop(down.expect("trouble is noticed").unwrap());
    assert_eq!(node.templates().borrow().as_deref(), Some(&*before), "the last template stays");

    bitcoind.launch().unwrap();
    assert_ne!(std::fs::read_to_string(bitcoind.cookie_path()).unwrap(), cookie);
    // An older one has forgotten some and needs them again.
    let hash = *bitcoind.generate(SHORTEST_CHAIN).unwrap().last().unwrap();
    next(&node, |template| template.tip.prev_hash == hash).await;
    let up = timeout(PATIENCE, health.wait_for(|health| matches!(health, Health::Up))).await;
    drop(up.expect("it is up again").unwrap());
}

async fn a_stale_and_a_false_block_are_told_apart(kind: Kind) {
    let Some(bitcoind) = start(kind, "the fate of blocks", Chain::Regtest, &[]) else { return };
    bitcoind.generate(1).unwrap();
    let way = Way::to(kind, &bitcoind);
    let node = way.node();
    let template = next(&node, |_| true).await;
    bitcoind.generate(2).unwrap();

    let late = solved(&template);
    assert_eq!(node.submit(&late).await, Submitted::Undecided("inconclusive".to_owned()));
    assert_eq!(node.fate(late.hash).await, Fate::Stale);

    let last = bitcoind.best_block_hash().unwrap();
    let template = next(&node, |template| template.tip.prev_hash == last).await;
    let good = solved(&template);
    let mut block: bitcoin::Block = deserialize(&good.to_bytes()).unwrap();
    block.txdata[0].output[0].value += Amount::ONE_SAT;
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while !template.tip.target.is_met_by(&block.header.block_hash().to_byte_array()) {
        block.header.nonce += 1;
    }
    let refused = node.submit_bytes(&serialize(&block)).await;
    // An older node is given it twice, and has seen it the second time.
    let words: &[&str] =
        if way.tells_all() { &["bad-cb-amount"] } else { &["bad-cb-amount", "duplicate-invalid"] };
    assert!(words.iter().any(|word| refused == Submitted::Refused((*word).to_owned())), "{refused:?}");
    assert_eq!(node.submit_bytes(b"block").await, Submitted::Refused("Block decode failed".to_owned()));
    assert_eq!(node.submit(&good).await, Submitted::Accepted);
}

async fn unsolved_blocks_are_checked(kind: Kind) {
    let Some(bitcoind) = start(kind, "blocks that nobody has solved", Chain::Regtest, &[]) else { return };
    bitcoind.mature_coinbases(1).unwrap();
    bitcoind.send_transactions(1).unwrap();
    let node = Way::to(kind, &bitcoind).node();
    let template = next(&node, |template| template.transactions.len() == 1).await;
    let mut block: bitcoin::Block = deserialize(&solved(&template).to_bytes()).unwrap();
    while template.tip.target.is_met_by(&block.header.block_hash().to_byte_array()) {
        block.header.nonce += 1;
    }
    assert_eq!(node.check_block(&serialize(&block)).await, Checked::Valid);

    let mut greedy = block.clone();
    greedy.txdata[0].output[0].value += Amount::ONE_SAT;
    assert!(matches!(node.check_block(&serialize(&greedy)).await, Checked::Refused(_)), "the merkle root");
    greedy.header.merkle_root = greedy.compute_merkle_root().unwrap();
    let refused = Checked::Refused("bad-cb-amount".to_owned());
    assert_eq!(node.check_block(&serialize(&greedy)).await, refused);
    assert_eq!(node.check_block(b"block").await, Checked::Refused("Block decode failed".to_owned()));

    bitcoind.generate(1).unwrap();
    let answer = node.check_block(&serialize(&block)).await;
    assert!(matches!(&answer, Checked::Undecided(word) if word.contains("best-prevblk")), "{answer:?}");
}

async fn transactions_are_found_by_their_hashes(kind: Kind) {
    let Some(bitcoind) = start(kind, "transactions by their hashes", Chain::Regtest, &[]) else { return };
    bitcoind.mature_coinbases(3).unwrap();
    let mut way = Way::to(kind, &bitcoind);
    // No template on the same tip comes, so that only the mempool has them.
    way.timing().refresh = NEVER;
    let node = way.node();
    next(&node, |template| template.transactions.is_empty()).await;
    let sent = bitcoind.send_transactions(3).unwrap();
    let mut wtxids = Vec::new();
    for txid in &sent {
        let hex = bitcoind.call("getrawtransaction", &serde_json::json!([txid.to_string()])).unwrap();
        let transaction: bitcoin::Transaction =
            bitcoin::consensus::encode::deserialize_hex(hex.as_str().unwrap()).unwrap();
        assert_ne!(transaction.compute_wtxid().to_byte_array(), txid.to_byte_array(), "it has a witness");
        wtxids.push(transaction.compute_wtxid());
    }
    wtxids.insert(1, bitcoin::Wtxid::from_byte_array([7; 32]));
    let found = node.transactions(&wtxids).await;
    let txids: Vec<_> =
        found.iter().map(|found| found.as_ref().map(adit_share::RawTransaction::txid)).collect();
    assert_eq!(txids, [Some(sent[0]), None, Some(sent[1]), Some(sent[2])]);
    assert_eq!(node.transactions(&[]).await, []);
}

async fn what_a_node_says_of_itself(kind: Kind) {
    let Some(bitcoind) = start(kind, "a probe", Chain::Regtest, &[]) else { return };
    let way = Way::to(kind, &bitcoind);
    let info = way.probe().await.unwrap();
    let before = bitcoind.height().unwrap();
    assert_eq!((info.network, info.height.0), (Network::Regtest, before));
    assert_eq!(info.initial_block_download, before == 0, "a chain with an old last block is not downloaded");
    let (user_agent, peers) = if way.tells_all() { ("/Satoshi:", Some(0)) } else { ("Bitcoin Core 3", None) };
    assert!(info.user_agent.starts_with(user_agent), "{}", info.user_agent);
    assert_eq!(info.peers, peers);
    assert!(info.trouble.is_none(), "{:?}", info.trouble);
    bitcoind.generate(1).unwrap();
    assert!(!way.probe().await.unwrap().initial_block_download);

    let mut main = way.clone();
    *main.network() = Some(Network::Bitcoin);
    let error = main.probe().await.unwrap_err();
    assert!(matches!(error, NodeError::WrongNetwork { found: Network::Regtest, .. }), "{error}");
}

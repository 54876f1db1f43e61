//! What only a node that is spoken to over IPC does.

use std::sync::Arc;
use std::time::Duration;

use adit_node::{Health, IpcConfig, Node, NodeError, Submitted, probe_ipc};
use adit_share::{Template, TemplateParts, witness_commitment};
use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use adit_units::{Sats, TemplateId};
use bitcoin::{Amount, Network, TxOut};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::{PATIENCE, Way, next, payout, solved, start};

fn core(test: &str, arguments: &[&str]) -> Option<Bitcoind> {
    start(Kind::Core, test, Chain::Regtest, arguments)
}

fn config(bitcoind: &Bitcoind) -> IpcConfig {
    match Way::to(Kind::Core, bitcoind) {
        Way::Ipc(config) => config,
        Way::Rpc(_) => panic!("Bitcoin Core is spoken to over IPC"),
    }
}

fn signal(bitcoind: &Bitcoind, signal: Signal) {
    let id = bitcoind.process_id().unwrap();
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Waits until the node is well, or not.
async fn health(node: &Node, wanted: impl Fn(&Health) -> bool) -> Health {
    let mut health = node.health();
    let found = timeout(PATIENCE, health.wait_for(|health| wanted(health))).await;
    found.expect("the health changes in time").expect("the node is followed").clone()
}

/// What a pool mines at a new tip before there is a template: nothing but a coinbase.
fn emptied(template: &Template) -> Arc<Template> {
    let script_pubkey = witness_commitment(&[]);
    let empty = Template::new(TemplateParts {
        id: TemplateId(0),
        tip: template.tip,
        version: template.version,
        time: template.time,
        coinbase_value: template.subsidy,
        subsidy: template.subsidy,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: vec![TxOut { value: Amount::ZERO, script_pubkey }],
    });
    Arc::new(empty.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_its_templates_go_to_the_node_by_their_coinbase() {
    let Some(bitcoind) = core("submitSolution", &["-debug=ipc"]) else { return };
    bitcoind.mature_coinbases(1).unwrap();
    bitcoind.send_transactions(1).unwrap();
    let node = Node::ipc(&config(&bitcoind));
    let calls = |method: &str| {
        let received = |line: &&str| line.contains("recv request") && line.contains(method);
        bitcoind.log().lines().filter(received).count()
    };

    let template = next(&node, |template| template.transactions.len() == 1).await;
    let empty = solved(&emptied(&template));
    let full = solved(&template);
    // The empty template on the tip comes beside the full one.
    timeout(PATIENCE, async {
        while calls("getBlockHeader") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    })
    .await
    .expect("the node is asked for an empty template");
    assert_eq!(node.submit(&empty).await, Submitted::Accepted, "an empty block");
    assert_eq!(bitcoind.best_block_hash().unwrap(), empty.hash);
    assert_eq!((calls("submitSolution"), calls("submitBlock")), (1, 0));
    // It is as high, so it cannot win any more; but the node has it.
    assert_eq!(node.submit(&full).await, Submitted::Undecided("inconclusive".to_owned()));

    let template = next(&node, |template| template.tip.prev_hash == empty.hash).await;
    let block = solved(&template);
    assert_eq!(node.submit_bytes(&block.to_bytes()).await, Submitted::Accepted, "bytes alone");
    // An older node has no such call, and takes this one as it takes its own.
    let whole = if bitcoind.needs_rpc_beside_its_socket().unwrap() { 0 } else { 2 };
    assert_eq!(calls("submitBlock"), whole);
    assert_eq!(bitcoind.block(block.hash).unwrap().txdata[0].output[0].script_pubkey, payout());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_replaced_when_fees_rise() {
    let Some(bitcoind) = core("fees rise", &[]) else { return };
    bitcoind.mature_coinbases(2).unwrap();
    let mut config = config(&bitcoind);
    config.timing.refresh = Duration::from_millis(100);
    let node = Node::ipc(&config);
    let before = next(&node, |template| template.transactions.is_empty()).await;
    bitcoind.send_transactions(2).unwrap();
    let after = next(&node, |template| template.transactions.len() == 2).await;
    assert_eq!(before.tip, after.tip, "a refresh changes nothing about the tip");
    assert!(after.id > before.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_noticed_and_found_again() {
    let Some(bitcoind) = core("a node hangs", &[]) else { return };
    bitcoind.generate(1).unwrap();
    let mut config = config(&bitcoind);
    config.timing.answer = Duration::from_secs(1);
    config.timing.template = Duration::from_secs(2);
    // Its JSON-RPC hangs, too.
    config.rpc = None;
    let node = Node::ipc(&config);
    let before = next(&node, |_| true).await;
    signal(&bitcoind, Signal::STOP);
    let down = health(&node, |health| matches!(health, Health::Down(_))).await;
    let Health::Down(reason) = down else { panic!("{down:?}") };
    assert!(reason.to_string().contains("has not answered"), "{reason}");
    assert!(matches!(node.submit(&solved(&before)).await, Submitted::Unreachable(_)));
    signal(&bitcoind, Signal::CONT);
    health(&node, |health| matches!(health, Health::Up)).await;
    let hash = bitcoind.generate(1).unwrap()[0];
    next(&node, |template| template.tip.prev_hash == hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_downloads_the_chain_says_so() {
    let Some(bitcoind) = Kind::Core.start("initial block download", Chain::Main, &[]) else { return };
    let way = Way::to(Kind::Core, &bitcoind);
    let info = way.probe().await.unwrap();
    assert_eq!((info.network, info.initial_block_download), (Network::Bitcoin, true));
    assert!(matches!(info.trouble.as_deref(), Some(NodeError::Syncing)), "{:?}", info.trouble);
    let node = way.node();
    let down = health(&node, |health| matches!(health, Health::Down(_))).await;
    assert!(matches!(&down, Health::Down(reason) if matches!(**reason, NodeError::Syncing)), "{down:?}");
    assert!(node.templates().borrow().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_and_go_leave_the_node_as_it_was() {
    let Some(bitcoind) = core("many connections", &[]) else { return };
    bitcoind.generate(1).unwrap();
    // It crashed in one of a hundred when it was left before it had answered.
    for _ in 0..60 {
        let node = Node::ipc(&config(&bitcoind));
        next(&node, |_| true).await;
    }
    let threads = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", bitcoind.process_id().unwrap())).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().to_owned();
        count.parse::<usize>().unwrap()
    };
    let node = Node::ipc(&config(&bitcoind));
    let template = next(&node, |_| true).await;
    assert_eq!(node.submit(&solved(&template)).await, Submitted::Accepted);
    // Those of each connection end a moment after it.
    for _ in 0..600 {
        if threads() < 60 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} threads in the node", threads());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_gets_to_read_of_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let missing = probe_ipc(&IpcConfig::new(folder.path().join("node.sock"))).await.unwrap_err().to_string();
    assert!(missing.contains("node.sock") && missing.contains("ipcbind=unix"), "{missing}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let no_socket = probe_ipc(&IpcConfig::new(&file)).await.unwrap_err();
    assert!(matches!(no_socket, NodeError::SocketUnreachable { .. }), "{no_socket}");

    let Some(bitcoind) = core("the network of a node", &[]) else { return };
    if bitcoind.needs_rpc_beside_its_socket().unwrap() {
        // It does not tell which test network it is on; that it is one, it does.
        let mut main = config(&bitcoind);
        main.rpc = None;
        main.network = Some(Network::Bitcoin);
        let error = probe_ipc(&main).await.unwrap_err();
        assert!(matches!(error, NodeError::TestNetwork(Network::Bitcoin)), "{error}");
        return;
    }
    let mut signet = IpcConfig::new(bitcoind.socket_path());
    signet.network = Some(Network::Signet);
    let node = Node::ipc(&signet);
    let down = health(&node, |health| matches!(health, Health::Down(_))).await;
    let Health::Down(reason) = down else { panic!("{down:?}") };
    assert!(reason.to_string().contains("regtest") && reason.to_string().contains("signet"), "{reason}");
}

//! Bitcoin Core over its socket, when the environment names one: what it thinks of declared jobs, and of their blocks.

use std::sync::Arc;

use adit_node::{IpcConfig, Node};
use adit_testkit::bitcoind::{Chain, Kind};

use crate::client::{Client, Job, Said};
use crate::service::in_chain;
use crate::stage::{Stage, payout};

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_job_becomes_a_block_of_bitcoin_core() {
    let Some(bitcoind) = Kind::Core.start("declared jobs", Chain::Regtest, &[]) else { return };
    let Some(elsewhere) = Kind::Core.start("a miner's own node", Chain::Regtest, &[]) else { return };
    bitcoind.mature_coinbases(4).unwrap();
    let tip = bitcoind.height().unwrap();
    for height in 1..=tip {
        assert_eq!(elsewhere.submit_block(&bitcoind.block_at(height).unwrap()).unwrap(), None);
    }
    // Two transactions that both nodes know, and one that only the miner's does.
    bitcoind.send_transactions(2).unwrap();
    elsewhere.send_transactions(3).unwrap();

    let mut config = IpcConfig::new(bitcoind.socket_path());
    config.network = Some(bitcoind.chain().network());
    let stage = Stage::start(Node::ipc(&config));
    let mut own = IpcConfig::new(elsewhere.socket_path());
    own.network = config.network;
    let miner = Stage::start(Node::ipc(&own));
    let template = miner.template(|template| template.transactions.len() == 3).await;
    stage.template(|ours| ours.tip.prev_hash == template.tip.prev_hash).await;

    let mut client = Client::connect(&stage).await;
    let token = client.token().await;
    let job = Job::new(&template, b"core");
    client.say(job.declaration(1, &token)).await;
    let Some(Said::Missing(1, places)) = client.hear().await else { panic!("one is not known") };
    assert_eq!(places.len(), 1);
    let missing = &template.transactions[usize::from(places[0])];
    client.provide(1, &[missing]).await;
    let Some(Said::Accepted(1, _)) = client.hear().await else { panic!("the job is good") };

    let mut greedy = adit_share::Template::clone(&template);
    greedy.coinbase_value = greedy.coinbase_value.checked_add(adit_units::Sats::from_sats(1)).unwrap();
    let token = client.token().await;
    client.say(Job::new(&Arc::new(greedy), b"more").declaration(2, &token)).await;
    let refused = match client.hear().await {
        Some(Said::Missing(2, _)) => {
            client.provide(2, &[missing]).await;
            client.hear().await
        }
        other => other,
    };
    assert!(
        matches!(&refused, Some(Said::Refused(2, code, why)) if code == "invalid-job" && why.contains("bad-cb-amount")),
        "{refused:?}"
    );

    let (solution, block) = job.mine([3; 32]);
    client.say(solution).await;
    in_chain(&stage, &block).await;
    assert_eq!(bitcoind.best_block_hash().unwrap(), block.block_hash());
    let mined = bitcoind.block(block.block_hash()).unwrap();
    assert_eq!(mined.txdata[0].output[0].script_pubkey, payout());
    assert!(mined.txdata.iter().any(|mined| mined.compute_txid() == missing.txid()));
}

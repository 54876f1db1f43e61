//! What a client of a running server gets.

use core::time::Duration;
use std::sync::Arc;

use adit_channel::Purpose;
use adit_job_declarator::server::{JdsConfigError, JdsReload, JdsReloadError};
use adit_net::{Clock, OsRng};
use adit_node::{DevnetConfig, Fate, Node, Pace};
use adit_transport::AuthorityKeyPair;
use adit_units::{UnixTime, Work};
use bitcoin::ScriptBuf;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Job, Said};
use crate::stage::{PATIENCE, Stage, eventually, identity, payout};

fn chain() -> Node {
    let config = DevnetConfig {
        pace: Pace::Fixed(Work::from_hashes(1 << 8)),
        arrival: Duration::ZERO,
        ..DevnetConfig::new([5; 32])
    };
    Node::devnet(&config, || Clock.now())
}

/// Waits until the node has the block in its chain.
pub(crate) async fn in_chain(stage: &Stage, block: &bitcoin::Block) {
    let found = async {
        while !matches!(stage.node.fate(block.block_hash()).await, Fate::InChain { .. }) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("the block gets into the chain");
}

#[tokio::test(flavor = "multi_thread")]
async fn propagated_from_jds_to_tp() {
    let stage = Stage::start(chain());
    let mut client = Client::connect(&stage).await;
    let template = stage.template(|_| true).await;
    let job = Job::new(&template, b"solo");
    let token = client.token().await;
    client.say(job.declaration(3, &token)).await;
    let Some(Said::Accepted(3, token)) = client.hear().await else { panic!("a good job is accepted") };
    let token = stage.key.open(&token, Clock.unix()).unwrap();
    let Purpose::Declared(id) = token.purpose else { panic!("{:?}", token.purpose) };
    let kept = stage.declared.find(id).expect("the pool can look it up");
    assert_eq!(kept.transactions().len(), template.transactions.len());

    let (solution, block) = job.mine([7; 32]);
    let header = bitcoin::consensus::serialize(&block.header).try_into().unwrap();
    let found = stage.declared.block(id, &header, &[7; 32]).unwrap();
    assert_eq!(found, bitcoin::consensus::serialize(&block), "the pool can put the same block together");
    client.say(solution).await;
    in_chain(&stage, &block).await;
    // A block is counted when it is out, and in the chain by then.
    eventually(|| stage.jds.metrics().blocks == 1).await;
    let metrics = stage.jds.metrics();
    assert_eq!((metrics.tokens, metrics.accepted, metrics.refused, metrics.blocks), (1, 1, 0, 1));
    assert_eq!(metrics.connections, 1);
    stage.template(|next| next.tip.height > template.tip.height).await;
    stage.jds.shutdown().await;
    assert_eq!(client.hear().await, None, "clients are sent away");
}

/// A running server kept the payout and the certificate that it was started with, whatever its operator reloaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_another_payout_and_certificate() {
    let stage = Stage::start(chain());
    let mut client = Client::connect(&stage).await;
    let pays =
        |token: &[u8], script: &ScriptBuf| stage.key.open(token, Clock.unix()).unwrap().is_paid_by(script);
    assert!(pays(&client.token().await, &payout()));
    let script = ScriptBuf::from_bytes(vec![0x51]);
    let reload =
        |payout_script: &ScriptBuf, identity| JdsReload { payout_script: payout_script.clone(), identity };

    let stranger = identity(&AuthorityKeyPair::generate(&mut OsRng), UnixTime::default());
    let refused = stage.jds.prepare(reload(&script, stranger)).unwrap_err();
    assert!(matches!(refused, JdsReloadError::Authority { .. }), "{refused}");
    let same = || stage.identity(UnixTime::default());
    let refused = stage.jds.prepare(reload(&ScriptBuf::new(), same())).unwrap_err();
    assert_eq!(refused, JdsReloadError::Rules(JdsConfigError::PayoutScript));
    assert!(pays(&client.token().await, &payout()), "a mistake changes nothing");

    stage.jds.prepare(reload(&script, same())).unwrap().take();
    let hears = async { while !pays(&client.token().await, &script) {} };
    timeout(PATIENCE, hears).await.expect("who is connected stays, and goes by it, too");
    assert!(pays(&Client::connect(&stage).await.token().await, &script));

    let (begins, kept) = (UnixTime::from_secs(Clock.unix().to_secs() + 86_400), stage.authority);
    stage.jds.prepare(reload(&script, stage.identity(begins))).unwrap().take();
    let shown = Client::try_connect([127, 0, 0, 1], stage.jds.address(), kept).await;
    assert!(shown.is_none(), "the certificate that is shown holds from tomorrow on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_job_is_refused_with_the_nodes_reason() {
    let stage = Stage::start(chain());
    let mut client = Client::connect(&stage).await;
    let mut template = adit_share::Template::clone(&*stage.template(|_| true).await);
    template.coinbase_value = template.coinbase_value.checked_add(adit_units::Sats::from_sats(1)).unwrap();
    let job = Job::new(&Arc::new(template), b"none");
    let token = client.token().await;
    for request_id in [1, 2] {
        client.say(job.declaration(request_id, &token)).await;
        let Some(Said::Refused(id, code, details)) = client.hear().await else { panic!("it is refused") };
        assert_eq!((id, &*code), (request_id, "invalid-job"));
        assert!(details.contains("node"), "{details}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jds_should_not_panic_if_jdc_shutsdown() {
    let stage = Stage::start(chain());
    let template = stage.template(|_| true).await;
    for step in 0..4 {
        let mut client = Client::connect(&stage).await;
        if step > 0 {
            let token = client.token().await;
            if step > 1 {
                client.say(Job::new(&template, b"gone").declaration(1, &token)).await;
            }
        }
        drop(client);
    }
    let mut client = Client::connect(&stage).await;
    let token = client.token().await;
    client.say(Job::new(&template, b"here").declaration(1, &token)).await;
    assert!(matches!(client.hear().await, Some(Said::Accepted(1, _))));
    drop(client);
    eventually(|| stage.jds.metrics().connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_only_the_miner_knows_are_asked_for() {
    let stage = Stage::start(chain());
    let mut client = Client::connect(&stage).await;
    let template = stage.template(|_| true).await;
    let mut mixed = adit_share::Template::clone(&template);
    let known = mixed.transactions[0].clone();
    let mut own: bitcoin::Transaction = bitcoin::consensus::deserialize(known.as_bytes()).unwrap();
    own.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
    let own = adit_share::RawTransaction::parse(bitcoin::consensus::serialize(&own)).unwrap();
    mixed.transactions = vec![known, own.clone()];
    mixed.required_outputs[0].script_pubkey = adit_share::witness_commitment(&mixed.transactions);
    let token = client.token().await;
    let job = Job::new(&Arc::new(mixed), b"mine");
    client.say(job.declaration(4, &token)).await;
    assert_eq!(client.hear().await, Some(Said::Missing(4, vec![1])));
    client.provide(4, &[&own]).await;
    // This chain knows no coins, so it takes no transaction that it has not made.
    let Some(Said::Refused(4, code, details)) = client.hear().await else { panic!("it is judged") };
    assert_eq!(code, "invalid-job");
    assert!(details.contains(&own.txid().to_string()), "{details}");
    client.say(job.declaration(5, &token)).await;
    assert_eq!(client.hear().await, Some(Said::Missing(5, vec![1])), "what was refused is not kept");
    let mut other = Client::connect(&stage).await;
    let token = other.token().await;
    other.say(job.declaration(4, &token)).await;
    assert_eq!(other.hear().await, Some(Said::Missing(4, vec![1])), "and not for another client either");
}

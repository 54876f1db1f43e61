//! An orderly end loses nothing: what was accepted is acknowledged, and what was acknowledged is there.

use core::time::Duration;
use std::collections::BTreeSet;

use adit_node::{Auth, Node, RpcConfig};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::miner::Miner;
use crate::stage::{PATIENCE, Plan, records};

/// Mines without pause until the pool closes; the shares that it was acknowledged.
async fn mine(mut miner: Miner) -> (u32, u64, u32) {
    loop {
        for _ in 0..20 {
            miner.share();
        }
        miner.flush().await;
        if miner.hear_for(Duration::from_micros(200)).await.is_err() {
            break;
        }
    }
    assert_eq!(miner.refused.first(), None);
    (miner.channel, miner.acknowledged, miner.last_acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_under_load_acknowledges_what_it_has_accepted() {
    let stage = Plan::quiet().start();
    let mut miners = JoinSet::new();
    for _ in 0..8 {
        miners.spawn(mine(stage.miner().await));
    }
    sleep(Duration::from_millis(500)).await;
    let storage = stage.log_storage.clone();
    let drained = timeout(PATIENCE, stage.server.shutdown()).await.unwrap();
    assert_eq!(drained.cut_off, 0);
    assert!(matches!(drained.log, Some(Ok(()))), "{:?}", drained.log);
    let (mut acknowledged, mut last) = (0, BTreeSet::new());
    while let Some(miner) = miners.join_next().await {
        let (_, shares, last_number) = miner.unwrap();
        assert!(shares > 0, "a miner never got to work");
        acknowledged += shares;
        last.insert((shares, last_number));
    }
    let records = records(&storage);
    assert_eq!(records.len() as u64, acknowledged, "every accepted share was acknowledged, and no other");
    let shares: BTreeSet<_> =
        records.iter().map(|record| (record.connection, record.sequence_number)).collect();
    assert_eq!(shares.len(), records.len(), "no share is there twice");
    // Every share of these miners is good, so the count and the last number of each connection agree with the log.
    let connections: BTreeSet<_> = records.iter().map(|record| record.connection).collect();
    let in_log: BTreeSet<_> = connections
        .iter()
        .map(|connection| {
            let numbers = records.iter().filter(|record| record.connection == *connection);
            let numbers: Vec<_> = numbers.map(|record| record.sequence_number.0).collect();
            (numbers.len() as u64, numbers.into_iter().max().unwrap_or(0))
        })
        .collect();
    assert_eq!(in_log, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_sends_miners_to_the_successor() {
    let mut plan = Plan::quiet();
    plan.pool.successor = Some(adit_pool::Successor { host: "pool2.example".to_owned(), port: 7 });
    let stage = plan.start();
    let mut miner = stage.miner().await;
    let shutdown = tokio::spawn(stage.server.shutdown());
    assert!(miner.hear_until(|_| false).await.is_err(), "the pool closes");
    assert_eq!(miner.sent_to, Some(("pool2.example".to_owned(), 7)));
    assert_eq!(timeout(PATIENCE, shutdown).await.unwrap().unwrap().cut_off, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_shares_whose_sync_is_on_its_way() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    let held = stage.log_storage.hold_syncs();
    for _ in 0..10 {
        miner.share();
    }
    miner.flush().await;
    let waiting = tokio::task::spawn_blocking(move || {
        held.wait_for_sync();
        held
    });
    let held = waiting.await.unwrap();
    let storage = stage.log_storage.clone();
    let ending = tokio::spawn(stage.server.shutdown());
    miner.hear_for(Duration::from_millis(200)).await.unwrap();
    assert_eq!(miner.acknowledged, 0);
    drop(held);
    assert!(miner.hear_until(|_| false).await.is_err());
    assert_eq!(miner.acknowledged, 10);
    drop(miner);
    assert!(matches!(ending.await.unwrap().log, Some(Ok(()))));
    assert_eq!(records(&storage).len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_work_lets_nobody_in_and_ends() {
    let mut plan = Plan::quiet();
    // Nobody answers there, so no template ever comes.
    let user = "user".to_owned();
    let auth = Auth::UserPass { user, password: "password".to_owned().into() };
    plan.node = Node::rpc(&RpcConfig::new("http://127.0.0.1:9", auth).unwrap());
    let server = plan.start().server;
    let refused = TcpStream::connect(server.address()).await;
    assert!(refused.is_err(), "miners are let in before there is work");
    let drained = timeout(PATIENCE, server.shutdown()).await.unwrap();
    assert!(matches!(drained.log, Some(Ok(()))));
}

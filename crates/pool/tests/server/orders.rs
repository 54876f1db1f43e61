//! What an operator has done to connections while they are at work, and what the pool tells of them.

use core::time::Duration;

use adit_channel::Percent;
use adit_messages::error_code::CloseChannelReason;
use adit_net::Clock;
use adit_pool::server::{ConnectionStatus, OrderError, ServerHandle, Status};
use adit_pool::{Distribution, OperationError, PoolConfig};
use adit_units::{ChannelId, ConnectionId};
use bitcoin::ScriptBuf;
use tokio::time::sleep;

use crate::miner::Miner;
use crate::stage::{PATIENCE, Plan, Stage};

/// Waits until the pool tells something of itself, and gives what it told.
async fn told<T>(handle: &ServerHandle, what: impl Fn(&Status) -> Option<T>) -> T {
    let start = Clock.monotonic();
    loop {
        if let Some(told) = what(&*handle.status().await) {
            return told;
        }
        assert!(Clock.monotonic() - start < PATIENCE, "it is not told");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The only connection, once it has a channel.
fn the_only(status: &Status) -> Option<ConnectionStatus> {
    assert!(status.connections.len() <= 1);
    status.connections.first().filter(|connection| connection.report.channels.len() == 1).cloned()
}

/// A pool, its handle, its only miner, and where that is found.
async fn at_work() -> (Stage, ServerHandle, Miner, ConnectionId, ChannelId) {
    let stage = Plan::quiet().start();
    let handle = stage.server.handle();
    let mut miner = stage.miner().await;
    miner.earn().await;
    let (connection, channel) = (told(&handle, the_only).await.id, ChannelId(miner.channel));
    (stage, handle, miner, connection, channel)
}

/// Has the pool make another job at once.
fn renew_jobs(handle: &ServerHandle, signature: &str) {
    handle.set_rules(PoolConfig { signature: signature.to_owned(), ..Plan::quiet().pool }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_closed_at_the_operators_wish() {
    let (stage, handle, mut miner, connection, channel) = at_work().await;
    let reason = CloseChannelReason::ClosedByOperator;
    let unknown = handle.close_channel(connection, ChannelId(99), reason).await;
    assert_eq!(unknown, Err(OperationError::UnknownChannel(ChannelId(99)).into()));
    let nobody = ConnectionId(4_000);
    let gone = handle.close_channel(nobody, channel, reason).await;
    assert_eq!(gone, Err(OrderError::UnknownConnection(nobody)));
    handle.close_channel(connection, channel, reason).await.unwrap();
    miner.hear_until(|miner| miner.dismissed.is_some()).await.unwrap();
    assert_eq!(miner.dismissed.as_deref(), Some("closed-by-operator"));
    let start = Clock.monotonic();
    while stage.server.metrics().channels > 0 {
        assert!(Clock.monotonic() - start < PATIENCE, "the channel is counted still");
        sleep(Duration::from_millis(5)).await;
    }
    // The connection stays, and may open another one.
    (miner.channel, miner.dismissed) = (0, None);
    miner.open("alice.rig").await;
    miner.earn().await;
    drop(miner);
    let start = Clock.monotonic();
    while handle.close_channel(connection, channel, reason).await
        != Err(OrderError::UnknownConnection(connection))
    {
        assert!(Clock.monotonic() - start < PATIENCE, "the connection is there still");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_given_another_extranonce_prefix_at_the_operators_wish() {
    let (_stage, handle, mut miner, connection, channel) = at_work().await;
    let (before, job) = (miner.prefix.clone(), miner.job());
    handle.renew_extranonce_prefix(connection, channel).await.unwrap();
    let number = miner.share();
    miner.flush().await;
    miner.hear_until(|miner| miner.last_acknowledged == number).await.unwrap();
    assert_eq!(miner.prefix, before, "the job that it has stays as it was");
    renew_jobs(&handle, "/another/");
    miner.hear_until(|miner| miner.prefix != before && miner.job() != job).await.unwrap();
    miner.earn().await;
    let prefix = miner.prefix.clone();
    told(&handle, |status| {
        let report = the_only(status)?.report;
        (report.channels.first()?.extranonce.as_bytes() == prefix).then_some(())
    })
    .await;
    assert!(miner.refused.is_empty(), "{:?}", miner.refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_moved_to_another_way_to_pay_at_the_operators_wish() {
    let (_stage, handle, mut miner, connection, channel) = at_work().await;
    let (group, job) = (miner.group, miner.job());
    let script = ScriptBuf::from_bytes([&[0x00, 0x14][..], &[0x5a; 20]].concat());
    let pays_miner = |miner: &Miner| {
        let suffix = miner.coinbase_suffix().unwrap_or_default();
        suffix.windows(script.len()).any(|part| part == script.as_bytes())
    };
    assert!(!pays_miner(&miner));
    let pays = Distribution::Split { pool: Percent::new(2).unwrap(), miner: script.clone() };
    handle.set_distribution(connection, &[channel], &pays).await.unwrap();
    renew_jobs(&handle, "/another/");
    miner.hear_until(|miner| miner.job() != job && miner.job().is_some()).await.unwrap();
    assert!(miner.group != group && pays_miner(&miner), "group {}", miner.group);
    miner.earn().await;
    let report = told(&handle, |status| {
        let report = the_only(status)?.report;
        (report.channels.first()?.shares.accepted == 2).then_some(report)
    });
    let report = report.await;
    assert_eq!((&report.channels[0].pays, report.channels[0].group.0), (&pays, miner.group));
    let unknown = handle.set_distribution(connection, &[channel, ChannelId(77)], &Distribution::Pooled).await;
    assert_eq!(unknown, Err(OperationError::UnknownChannel(ChannelId(77)).into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_what_became_of_their_shares_are_told() {
    let stage = Plan::quiet().start();
    let handle = stage.server.handle();
    let mut miner = Miner::connect(stage.server.address(), stage.authority).await;
    miner.set_up().await;
    miner.agree_on_workers().await;
    miner.open("alice.farm").await;
    for worker in ["rig-1", "rig-2", "rig-1"] {
        miner.worker = Some(worker);
        miner.earn().await;
    }
    // The last one again.
    let again = miner.share();
    miner.share_with(u32::MAX);
    miner.share_with(u32::MAX);
    miner.flush().await;
    miner.hear_until(|miner| !miner.refused.is_empty()).await.unwrap();
    assert_eq!((again, &*miner.refused), (4, &["duplicate-share".to_owned()][..]));
    let report = told(&handle, |status| {
        let report = the_only(status)?.report;
        (report.channels.first()?.shares.rejected_total() == 1).then_some(report)
    });
    let report = report.await;
    let workers: Vec<_> = report
        .workers
        .iter()
        .map(|worker| (worker.name.as_str(), worker.shares.accepted, worker.shares.rejected))
        .collect();
    assert_eq!(workers, [("rig-1", 4, 1), ("rig-2", 1, 0)]);
    assert!(report.workers.iter().all(|worker| worker.shares.last.is_some()));
    assert_eq!((&*report.device, report.channels[0].shares.accepted), ("test", 5));
    let metrics = stage.server.metrics();
    assert_eq!((metrics.accepted, metrics.log_lag), (5, Duration::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_that_wait_for_the_disk_are_told() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    miner.earn().await;
    let held = stage.log_storage.hold_syncs();
    miner.share();
    miner.flush().await;
    let start = Clock.monotonic();
    let mut lag = Duration::ZERO;
    while lag < Duration::from_secs(1) {
        assert!(Clock.monotonic() - start < PATIENCE, "nobody notices: {:?}", stage.server.metrics());
        sleep(Duration::from_millis(50)).await;
        lag = stage.server.metrics().log_lag;
    }
    assert_eq!(stage.server.metrics().unwritten, 1);
    drop(held);
    miner.hear_until(|miner| miner.last_acknowledged == 2).await.unwrap();
    while stage.server.metrics().unwritten > 0 || stage.server.metrics().log_lag > Duration::ZERO {
        assert!(Clock.monotonic() - start < PATIENCE, "{:?}", stage.server.metrics());
        sleep(Duration::from_millis(50)).await;
    }
}

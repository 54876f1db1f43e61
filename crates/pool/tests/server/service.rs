//! What an honest miner experiences.

use core::time::Duration;

use adit_channel::VardiffConfig;
use adit_messages::mining;
use adit_messages::types::U256;
use adit_net::{Clock, OutboxLimits, initiate};
use adit_pool::{JOB_AGE_MAX, WISHED_JOB_AGE};
use adit_units::{Height, Target, Work};
use tokio::time::{sleep, timeout};

use crate::miner::Miner;
use crate::stage::Plan;

/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_acknowledged_once_it_is_durable_and_not_before() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    let held = stage.log_storage.hold_syncs();
    let number = miner.share();
    miner.flush().await;
    miner.hear_for(A_WHILE).await.unwrap();
    assert_eq!(miner.acknowledged, 0, "acknowledged before the sync");
    drop(held);
    miner.hear_until(|miner| miner.acknowledged > 0).await.unwrap();
    assert_eq!((miner.acknowledged, miner.last_acknowledged), (1, number));
    let records = stage.records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].sequence_number.0, records[0].channel.0), (number, miner.channel));
    assert_eq!(records[0].user.to_string(), "alice.rig");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_shares_in_one_write_are_acknowledged_with_few_messages() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    for _ in 0..5 {
        for _ in 0..200 {
            miner.share();
        }
        miner.flush().await;
    }
    miner.hear_until(|miner| miner.acknowledged == 1_000).await.unwrap();
    assert!(miner.refused.is_empty());
    assert_eq!(stage.records().len(), 1_000);
    let metrics = stage.server.metrics();
    assert_eq!((metrics.accepted, metrics.connections, metrics.channels), (1_000, 1, 1));
    assert_eq!(metrics.work.to_hashes(), 1_000, "a share that every hash meets is worth one");
    assert_eq!(metrics.height, Some(Height(stage.height())));
    assert!(metrics.template_age.is_some_and(|age| age < Duration::from_secs(60)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_turns_out_much_faster_has_its_next_job_before_the_minute_is_over() {
    let mut plan = Plan::quiet();
    plan.pool.vardiff.hardest = VardiffConfig::default().hardest;
    let stage = plan.start();
    let mut proxy = stage.miner().await;
    let (mut neighbour, first) = (stage.miner().await, proxy.job());
    let target = Target::from_work(Work::from_hashes(1 << 40)).to_le_bytes();
    let (channel_id, maximum_target) = (proxy.channel, U256::from(&target));
    proxy.say(mining::UpdateChannel { channel_id, nominal_hash_rate: 0.0, maximum_target });
    proxy.flush().await;
    let has_another = proxy.hear_until(|proxy| proxy.job() != first);
    let heard = timeout(JOB_AGE_MAX - WISHED_JOB_AGE, has_another).await;
    heard.expect("nobody waits for the whole minute").unwrap();
    neighbour.hear_for(Duration::from_millis(100)).await.unwrap();
    assert_eq!(neighbour.job(), first, "whose miners would begin anew for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_asks_for_all_its_channels_in_one_go_gets_them() {
    let stage = Plan::quiet().start();
    let mut proxy = stage.miner().await;
    for _ in 0..200 {
        proxy.ask_for_a_channel("farm");
    }
    let first = proxy.channel;
    proxy.flush().await;
    proxy.hear_until(|proxy| proxy.channel == first + 200).await.unwrap();
    assert_eq!(stage.server.metrics().channels, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_shares_are_told_and_counted_by_their_code() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    miner.share_with(7);
    miner.share_with(7);
    miner.share_with(7);
    miner.flush().await;
    miner.hear_until(|miner| miner.refused.len() == 2 && miner.acknowledged == 1).await.unwrap();
    assert_eq!(miner.refused, ["duplicate-share", "duplicate-share"]);
    let metrics = stage.server.metrics();
    let refused: Vec<_> = metrics.rejected.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].0.as_str(), refused[0].1), ("duplicate-share", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miner_that_leaves_is_counted_out() {
    let stage = Plan::quiet().start();
    let miner = stage.miner().await;
    let other = stage.miner().await;
    assert_eq!(stage.server.metrics().connections, 2);
    drop(miner);
    drop(other);
    let start = Clock.monotonic();
    while stage.server.metrics().connections > 0 {
        assert!(Clock.monotonic() - start < Duration::from_secs(10), "connections stay");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.server.metrics().channels, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_his_side_still_hears_of_his_last_shares() {
    let stage = Plan::quiet().start();
    stage.miner().await.earn().await;
    let socket = std::net::TcpStream::connect(stage.server.address()).unwrap();
    let our_side = socket.try_clone().unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(socket).unwrap();
    let deadline = Clock.monotonic() + Duration::from_secs(10);
    let connection = initiate(stream, Some(stage.authority), deadline, OutboxLimits::default()).await;
    let mut miner = Miner::over(connection.unwrap());
    miner.set_up().await;
    miner.open("alice.rig").await;
    let held = stage.log_storage.hold_syncs();
    let number = miner.share();
    miner.flush().await;
    our_side.shutdown(std::net::Shutdown::Write).unwrap();
    miner.hear_for(A_WHILE).await.unwrap();
    drop(held);
    miner.hear_until(|miner| miner.last_acknowledged == number).await.unwrap();
    assert!(miner.hear_until(|_| false).await.is_err(), "then the pool closes too");
}

#[tokio::test]
async fn a_peer_that_is_not_set_up_in_time_is_closed() {
    let stage = Plan::quiet().start();
    let mut silent = Miner::connect(stage.server.address(), stage.authority).await;
    // From here on time passes as soon as there is nothing else to do.
    tokio::time::pause();
    let start = Clock.monotonic();
    assert!(silent.hear_until(|_| false).await.is_err());
    let waited = Clock.monotonic() - start;
    assert!(waited.abs_diff(adit_pool::SETUP_TIMEOUT) < Duration::from_secs(2), "{waited:?}");
}

//! The whole chain over sockets: a miner on a client on a pool with its job declarator server, on a chain in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

use adit_job_declarator::client::{Mode, UpstreamStatus};
use adit_units::Sats;

use self::stage::{Pool, chain, client, eventually, miner};

/// Shares that show that it goes on.
const SOME: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_miners_find_on_their_own_jobs_is_written_down_by_the_pool() {
    for mode in [Mode::FullTemplate, Mode::CoinbaseOnly] {
        let node = chain();
        let pool = Pool::start(&node);
        let jdc = client(&node, &[pool.target(mode)]);
        let miner = miner(&jdc);
        eventually("the pool has shares", || pool.records().len() as u64 > SOME).await;
        assert_eq!(jdc.activity().borrow().upstream, UpstreamStatus::Using(0));
        let height = pool.height();
        eventually("blocks are found", || pool.height() > height + 2).await;
        let records = pool.records();
        assert!(records.iter().all(|record| record.user.as_str() == "farm.house"));
        assert!(
            records
                .iter()
                .all(|record| record.worker.as_ref().is_some_and(|worker| worker.as_str() == "rig"))
        );
        for record in &records {
            let custom = record.custom.as_ref().expect("a job of the miner's own");
            assert_eq!(custom.pays_pool, custom.value);
            assert!(custom.value >= Sats::subsidy(record.height, 150) && custom.fees < custom.value);
        }
        let stats = miner.stats();
        assert_eq!(stats.connections, 1, "{mode:?}: {stats:?}");
        let activity = jdc.activity().borrow().clone();
        // Those of a tip that has just gone, and the very blocks that have ended it.
        assert!(activity.shares_refused <= activity.shares_accepted / 2, "{activity:?}");
        assert!(
            activity.jobs_accepted > 2 && activity.shares_lost <= activity.shares_accepted / 2,
            "{activity:?}"
        );
        miner.stop().await;
        jdc.shutdown().await;
        pool.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn miners_go_on_by_themselves_when_the_pool_dies_and_come_back_with_it() {
    let node = chain();
    let pool = Pool::start(&node);
    let ports = pool.ports();
    let jdc = client(&node, &[pool.target(Mode::FullTemplate)]);
    let miner = miner(&jdc);
    eventually("the pool has shares", || pool.records().len() as u64 > SOME).await;
    let keys = pool.stop().await;
    eventually("the miners are on their own", || jdc.activity().borrow().upstream == UpstreamStatus::Solo)
        .await;
    let (accepted, height) = (miner.stats().accepted, stage::height(&node));
    eventually("they find blocks", || stage::height(&node) > height + 2).await;
    assert!(miner.stats().accepted > accepted);
    let pool = Pool::start_again(&node, ports, keys);
    eventually("they are back", || jdc.activity().borrow().upstream == UpstreamStatus::Using(0)).await;
    eventually("the pool has shares again", || pool.records().len() as u64 > SOME).await;
    assert_eq!(miner.stats().connections, 1, "nobody below has noticed");
    miner.stop().await;
    jdc.shutdown().await;
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_better_of_two_pools_is_used_and_the_other_while_it_is_down() {
    let node = chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    let ports = first.ports();
    let jdc = client(&node, &[first.target(Mode::FullTemplate), second.target(Mode::CoinbaseOnly)]);
    let miner = miner(&jdc);
    eventually("the first has shares", || first.records().len() as u64 > SOME).await;
    let keys = first.stop().await;
    let before = second.records().len();
    eventually("the second has shares", || second.records().len() > before + 20).await;
    let first = Pool::start_again(&node, ports, keys);
    eventually("the first has shares again", || first.records().len() as u64 > SOME).await;
    assert_eq!(jdc.activity().borrow().upstream, UpstreamStatus::Using(0));
    assert_eq!(miner.stats().connections, 1, "nobody below has noticed");
    miner.stop().await;
    jdc.shutdown().await;
    first.stop().await;
    second.stop().await;
}

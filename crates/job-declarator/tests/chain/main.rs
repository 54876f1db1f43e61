//! The whole chain over sockets: a miner on a client on a pool with its job declarator server, on a chain in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod odd;
mod stage;

use core::time::Duration;

use adit_job_declarator::client::{Mode, UpstreamStatus, UpstreamTarget};
use adit_units::Sats;

use self::odd::OddDeclarator;
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
        eventually("the client hears of it", || jdc.activity().borrow().shares_accepted > SOME).await;
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
    let barn = UpstreamTarget { user: "barn.loft".to_owned(), ..second.target(Mode::CoinbaseOnly) };
    let jdc = client(&node, &[first.target(Mode::FullTemplate), barn]);
    let miner = miner(&jdc);
    eventually("the first has shares", || first.records().len() as u64 > SOME).await;
    let keys = first.stop().await;
    let before = second.records().len();
    eventually("the second has shares", || second.records().len() > before + 20).await;
    assert!(second.records().iter().all(|record| record.user.as_str() == "barn.loft"), "each its own user");
    let first = Pool::start_again(&node, ports, keys);
    eventually("the first has shares again", || first.records().len() as u64 > SOME).await;
    assert!(first.records().iter().all(|record| record.user.as_str() == "farm.house"));
    assert_eq!(jdc.activity().borrow().upstream, UpstreamStatus::Using(0));
    assert_eq!(miner.stats().connections, 1, "nobody below has noticed");
    miner.stop().await;
    jdc.shutdown().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_upstream_miners_find_blocks_from_the_start() {
    let node = chain();
    let jdc = client(&node, &[]);
    let miner = miner(&jdc);
    eventually("the miners are on their own", || jdc.activity().borrow().upstream == UpstreamStatus::Solo)
        .await;
    let height = stage::height(&node);
    eventually("a block is found", || stage::height(&node) > height).await;
    let activity = jdc.activity().borrow().clone();
    assert_eq!((activity.jobs_accepted, activity.shares_lost, &activity.last_error), (0, 0, &None));
    miner.stop().await;
    jdc.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_process_do_not_touch_each_other() {
    let node = chain();
    let pool = Pool::start(&node);
    eventually("the pool listens", || pool.listens()).await;
    let barn = UpstreamTarget { user: "barn.loft".to_owned(), ..pool.target(Mode::CoinbaseOnly) };
    let alone = client(&node, &[]);
    // Both number their requests from one.
    let (shows, hides) = (client(&node, &[pool.target(Mode::FullTemplate)]), client(&node, &[barn]));
    let miners = [miner(&alone), miner(&shows), miner(&hides)];
    let shares_of = |user| pool.records().iter().filter(|record| record.user.as_str() == user).count() as u64;
    eventually("both have shares", || shares_of("farm.house") > SOME && shares_of("barn.loft") > SOME).await;
    let height = pool.height();
    eventually("a block is found", || pool.height() > height).await;
    let own = alone.activity().borrow().clone();
    assert_eq!((own.upstream, own.jobs_accepted, own.last_error), (UpstreamStatus::Solo, 0, None));
    for jdc in [&shows, &hides] {
        let activity = jdc.activity().borrow().clone();
        assert_eq!(activity.upstream, UpstreamStatus::Using(0));
        assert_eq!(activity.last_error, None, "no job was refused for good");
        assert!(activity.jobs_accepted > 0 && activity.shares_accepted > 0, "{activity:?}");
    }
    for miner in miners {
        miner.stop().await;
    }
    for jdc in [alone, shows, hides] {
        jdc.shutdown().await;
    }
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_a_template_provider_mines_for_the_pool_and_then_for_itself() {
    let node = chain();
    let (provider, own) = stage::provided(&node).await;
    let pool = Pool::start(&node);
    let jdc = client(&own, &[pool.target(Mode::FullTemplate)]);
    let miner = miner(&jdc);
    eventually("the pool has shares", || pool.records().len() as u64 > SOME).await;
    assert!(pool.records().iter().all(|record| record.custom.is_some()));
    pool.stop().await;
    eventually("the miners are on their own", || jdc.activity().borrow().upstream == UpstreamStatus::Solo)
        .await;
    // Nobody but the provider can bring it to the chain.
    let height = stage::height(&node);
    eventually("they find a block", || stage::height(&node) > height).await;
    assert_eq!(miner.stats().connections, 1, "nobody below has noticed");
    miner.stop().await;
    jdc.shutdown().await;
    drop(own);
    assert!(provider.shutdown().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_miners_of_a_client_are_one_channel_at_the_pool() {
    let node = chain();
    let pool = Pool::start(&node);
    let jdc = client(&node, &[pool.target(Mode::FullTemplate)]);
    let miners = [miner(&jdc), miner(&jdc)];
    eventually("both have shares", || miners.iter().all(|miner| miner.stats().accepted > SOME)).await;
    eventually("the pool has shares", || pool.records().len() as u64 > SOME).await;
    assert_eq!((jdc.metrics().channels, pool.channels()), (2, 1));
    for miner in miners {
        miner.stop().await;
    }
    jdc.shutdown().await;
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_whose_declarator_asks_for_what_cannot_be_paid_is_passed_over() {
    let node = chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    eventually("both listen", || first.listens() && second.listens()).await;
    let odd = OddDeclarator::start(&[("pool", 0), ("partner", 1_000)], 0).await;
    let broken = UpstreamTarget { declarator: odd.url(), ..first.target(Mode::CoinbaseOnly) };
    let jdc = client(&node, &[broken, second.target(Mode::FullTemplate)]);
    let miner = miner(&jdc);
    eventually("the second has shares", || second.records().len() as u64 > SOME).await;
    // The first is tried again and again meanwhile, and never takes the miners away.
    eventually("the first is tried again", || odd.connections() > 1).await;
    let activity = jdc.activity().borrow().clone();
    assert_eq!(activity.upstream, UpstreamStatus::Using(1));
    let told = activity.last_error.unwrap();
    assert!(told.contains("asks for fixed values to be paid besides the payout"), "{told}");
    assert_eq!(first.records(), []);
    miner.stop().await;
    jdc.shutdown().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declarator_that_sends_clients_on_without_end_is_not_dialled_without_end() {
    let node = chain();
    let pool = Pool::start(&node);
    eventually("the pool listens", || pool.listens()).await;
    let odd = OddDeclarator::start(&[("pool", 0)], 100).await;
    let restless = UpstreamTarget { declarator: odd.url(), ..pool.target(Mode::FullTemplate) };
    let jdc = client(&node, &[restless]);
    eventually("it is used", || jdc.activity().borrow().upstream == UpstreamStatus::Using(0)).await;
    // Each of three hops takes the place of the one before, and the last one stays.
    eventually("it is followed", || odd.connections() == 4).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((odd.connections(), jdc.activity().borrow().upstream), (4, UpstreamStatus::Using(0)));
    jdc.shutdown().await;
    pool.stop().await;
}

//! A disk that fails: acknowledgements stop and the process is told to end, but blocks still go out.

use core::time::Duration;

use adit_ledger::storage::faulty::Fault;
use adit_net::Clock;
use adit_pool::server::Failure;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::stage::{PATIENCE, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_error_stops_acknowledgements_but_no_block() {
    let stage = Plan::with_blocks().start();
    let mut miner = stage.miner().await;
    miner.earn().await;
    let (height, acknowledged) = (stage.height(), miner.acknowledged);
    // The next commit appends and then syncs; the sync fails.
    stage.log_storage.fail_at(stage.log_storage.operations().total + 1, Fault::Error);
    miner.share();
    miner.flush().await;
    let failure = timeout(PATIENCE, stage.server.failed()).await.unwrap();
    assert!(matches!(failure, Failure::ShareLog(_)), "{failure}");

    miner.share();
    miner.flush().await;
    miner.hear_for(Duration::from_millis(200)).await.unwrap();
    assert_eq!(miner.acknowledged, acknowledged, "a promise that nobody can keep");
    for round in 1..=2 {
        let tips = miner.tips;
        miner.block();
        miner.flush().await;
        stage.reaches(height + round).await;
        miner.hear_until(|miner| miner.tips > tips).await.unwrap();
    }
    assert_eq!(miner.acknowledged, acknowledged);

    let address = stage.server.address();
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("a pool that cannot pay lets nobody in");
    let start = Clock.monotonic();
    let hearing = tokio::spawn(async move { miner.hear_until(|_| false).await.is_err() });
    let drained = stage.server.shutdown().await;
    assert!(matches!(drained.log, Some(Err(_))), "{:?}", drained.log);
    assert!(Clock.monotonic() - start < Duration::from_secs(8), "there is nothing to wait for");
    assert!(hearing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_goes_out_although_it_cannot_be_written_down() {
    let stage = Plan::with_blocks().start();
    let mut miner = stage.miner().await;
    let height = stage.height();
    stage.block_storage.fail_at(stage.block_storage.operations().total, Fault::PowerCut);
    let number = miner.block();
    miner.flush().await;
    stage.reaches(height + 1).await;
    miner.hear_until(|miner| miner.last_acknowledged == number).await.unwrap();
}

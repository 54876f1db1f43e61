//! Peers that misbehave, one at a time, and an honest miner beside them who stays.

use core::time::Duration;

use adit_net::{Clock, Limits};
use tokio::time::{sleep, timeout};

use crate::miner::Miner;
use crate::stage::{PATIENCE, Plan, Stage};

/// Waits until so many connections are left.
async fn empties_to(stage: &Stage, connections: u64) {
    let emptied = async {
        while stage.server.metrics().connections > connections {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("a connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_the_handshake_closes_that_connection_only() {
    use adit_transport::FrameQueue;

    let stage = Plan::quiet().start();
    let mut honest = stage.miner().await;
    for (extension, kind, payload) in
        [(0, 0xff, vec![0; 10]), (0, 0x00, vec![1; 40]), (0, 0x1b, vec![0; 24]), (0, 0x00, vec![0; 2_000])]
    {
        let mut stranger = Miner::connect(stage.server.address(), stage.authority).await;
        let mut frames = FrameQueue::default();
        frames.push(extension, false, kind, &payload).unwrap();
        stranger.connection.queue(&mut frames).unwrap();
        stranger.connection.flush().await.unwrap();
        let start = Clock.monotonic();
        assert!(stranger.is_closed().await, "type {kind:#x} with {} bytes was let pass", payload.len());
        assert!(Clock.monotonic() - start < Duration::from_secs(5));
    }
    honest.earn().await;
    empties_to(&stage, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_never_set_up_do_not_keep_miners_out() {
    let mut plan = Plan::quiet();
    plan.server.limits = Limits { newcomers: 64, newcomers_per_address: 64, ..Limits::default() };
    let stage = plan.start();
    let mut honest = stage.miner().await;
    let address = stage.server.address();
    let mut strangers = Vec::new();
    for _ in 0..64 {
        strangers.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    // All places are taken for as long as a handshake may last; then there is room again.
    let start = Clock.monotonic();
    let (_, mut late) = tokio::join!(honest.earn(), stage.miner());
    let waited = Clock.monotonic() - start;
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    late.earn().await;
    drop(strangers);
}

/// The vendor's name told who was set up, so whoever had none kept a newcomer's place for ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_told_nothing_of_themselves_stayed_newcomers() {
    let mut plan = Plan::quiet();
    plan.server.limits = Limits { newcomers: 4, newcomers_per_address: 4, ..Limits::default() };
    let stage = plan.start();
    let mut nameless = Vec::new();
    for vendor in ["", " ", "\t", "\u{1b}\u{7f}"] {
        let mut peer = Miner::connect(stage.server.address(), stage.authority).await;
        peer.set_up_as(vendor).await;
        nameless.push(peer);
    }
    // Less than the ten minutes that they may be without a channel, and enough for a machine that is busy.
    let miner = timeout(Duration::from_secs(60), stage.miner()).await;
    let mut miner = miner.expect("the places of peers that are set up are free");
    miner.earn().await;
    assert_eq!(stage.server.metrics().connections, 5, "the others are still there");
}

//! A node that dies: miners are sent to their next pool, and may come back when it does.

use core::time::Duration;
use std::net::SocketAddr;

use adit_net::Clock;
use adit_pool::server::{CLEARED_AFTER, CLOSED_AFTER};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::fake_node::FakeNode;
use crate::stage::{Plan, Stage};

/// By how much the times of a test may be off.
const SLACK: Duration = Duration::from_secs(15);

/// Waits until the door is open or not, and tells how long that took.
async fn until(address: SocketAddr, open: bool) -> Duration {
    let start = Clock.monotonic();
    while TcpStream::connect(address).await.is_ok() != open {
        assert!(Clock.monotonic() - start < 2 * CLEARED_AFTER, "never");
        sleep(Duration::from_secs(1)).await;
    }
    Clock.monotonic() - start
}

#[tokio::test]
async fn a_dead_node_is_not_served_for_ever() {
    let (node, url) = FakeNode::bind().await;
    let switch = node.switch();
    switch.healthy();
    let plan = Plan { node: node.client(&url), ..Plan::quiet() };
    tokio::spawn(node.run());
    let stage: Stage = plan.start();
    let address = stage.server.address();
    let mut miner = stage.miner().await;
    miner.earn().await;
    // From here on time passes as soon as there is nothing else to do.
    tokio::time::pause();

    switch.dead();
    let start = Clock.monotonic();
    let closed = until(address, false).await;
    assert!(closed.abs_diff(CLOSED_AFTER) < SLACK, "closed after {closed:?}");
    assert!(miner.hear_for(Duration::from_secs(60)).await.is_ok(), "who is inside may stay for a while");
    assert!(miner.hear_for(CLEARED_AFTER).await.is_err(), "nobody mines on old work for ever");
    let cleared = Clock.monotonic() - start;
    assert!(cleared.abs_diff(CLEARED_AFTER) < SLACK, "cleared after {cleared:?}");

    switch.healthy();
    until(address, true).await;
    tokio::time::resume();
    stage.miner().await.earn().await;
}

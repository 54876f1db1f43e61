//! The whole chain over sockets: SV1 machines on translators on pools, on a chain in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod rig;
mod stage;

use std::sync::Arc;

use adit_translator::{Status, UpstreamState, UpstreamStatus};
use tokio::sync::watch;

use self::rig::Rig;
use self::stage::{Pool, chain, eventually, legacy_target, translator};

/// Shares that show that it goes on.
const SOME: u64 = 10;

/// An upstream's numbers, once there are any.
fn shown(status: &watch::Receiver<Arc<Status>>, upstream: usize) -> Option<UpstreamStatus> {
    status.borrow().upstreams.get(upstream).cloned()
}

fn is_used(status: &watch::Receiver<Arc<Status>>, upstream: usize) -> bool {
    shown(status, upstream).is_some_and(|upstream| upstream.state == UpstreamState::InUse)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_mine_through_a_translator_whose_pool_speaks_sv1() {
    let node = chain();
    let pool = Pool::start(&node);
    let old = translator(vec![pool.target("old")], 8);
    let new = translator(vec![legacy_target(&old, "farm.house")], 4);
    let (direct, behind) = (Rig::start(old.address()), Rig::start(new.address()));
    eventually("both have shares", || direct.accepted() > SOME && behind.accepted() > SOME).await;
    let status = new.status();
    eventually("the old one has taken them", || {
        shown(&status, 0).is_some_and(|upstream| upstream.shares.accepted > SOME)
    })
    .await;
    eventually("the pool has them all", || pool.records().len() as u64 > 2 * SOME).await;
    let status = status.borrow().clone();
    let upstream = &status.upstreams[0];
    assert_eq!(upstream.state, UpstreamState::InUse);
    assert!(upstream.address.starts_with("127.0.0.1:"), "{}", upstream.address);
    // Those of a tip that has just gone.
    assert!(upstream.shares.refused <= upstream.shares.accepted / 2, "{:?}", upstream.shares);
    for rig in [direct, behind] {
        assert!(rig.refused() <= rig.accepted() / 2, "{} of {}", rig.refused(), rig.accepted());
        rig.stop();
    }
    new.shutdown().await;
    old.shutdown().await;
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sv1_pool_is_the_last_resort_while_the_better_one_is_down() {
    let node = chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    let address = first.address();
    let old = translator(vec![second.target("old")], 8);
    let new = translator(vec![first.target("farm"), legacy_target(&old, "farm.house")], 4);
    let rig = Rig::start(new.address());
    eventually("the first has shares", || first.records().len() as u64 > SOME).await;
    let keys = first.stop().await;
    eventually("the last resort has shares", || second.records().len() as u64 > SOME).await;
    let status = new.status();
    eventually("it is shown", || is_used(&status, 1)).await;
    let first = Pool::start_again(&node, address, keys);
    eventually("the first has shares again", || first.records().len() as u64 > SOME).await;
    eventually("it is shown", || is_used(&status, 0)).await;
    assert!(rig.is_up(), "the machine has not lost its connection");
    rig.stop();
    new.shutdown().await;
    old.shutdown().await;
    first.stop().await;
    second.stop().await;
}

//! Blocks first: found ones reach the node whatever else happens, also those of an earlier run.

use core::time::Duration;
use std::sync::Arc;

use adit_channel::ShareKind;
use adit_ledger::BlockStore;
use adit_messages::mining;
use adit_net::Clock;
use adit_pool::server::{BlockOutcome, Event};
use adit_pool::{JobFactory, Session};
use adit_units::{ConnectionId, Height};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use tokio::time::sleep;

use crate::fake_node::{Answer, FakeNode};
use crate::stage::{PATIENCE, Plan, event};

/// The hash and height of a block that was found.
fn found(event: Event) -> Option<(BlockHash, Height)> {
    match event {
        Event::BlockFound { hash, height, user, .. } => {
            assert_eq!(user.to_string(), "alice.rig");
            Some((hash, height))
        }
        _ => None,
    }
}

/// What became of a block.
fn settled(event: Event) -> Option<(BlockHash, BlockOutcome)> {
    match event {
        Event::BlockSettled { hash, outcome, .. } => Some((hash, outcome)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_extends_the_chain_and_earns_as_a_share() {
    let stage = Plan::with_blocks().start();
    let mut events = stage.server.events();
    let mut miner = stage.miner().await;
    let height = stage.height();
    for round in 1..=3 {
        let tips = miner.tips;
        let number = miner.block();
        miner.flush().await;
        let (hash, found_at) = event(&mut events, found).await;
        assert_eq!(found_at.0 + 1, height + round);
        assert_eq!(event(&mut events, settled).await, (hash, BlockOutcome::Accepted));
        miner.hear_until(|miner| miner.last_acknowledged == number && miner.tips == tips + 1).await.unwrap();
        stage.reaches(height + round).await;
    }
    assert_eq!(stage.height(), height + 3);
    let metrics = stage.server.metrics();
    assert_eq!((metrics.blocks_found, metrics.blocks_accepted, metrics.blocks_refused), (3, 3, 0));
    let kinds: Vec<_> = stage.records().iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [ShareKind::Block; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_does_not_wait_for_the_share_log_nor_for_the_disk_of_blocks() {
    let stage = Plan::with_blocks().start();
    let mut events = stage.server.events();
    let mut miner = stage.miner().await;
    let height = stage.height();
    let held = (stage.log_storage.hold_syncs(), stage.block_storage.hold_syncs());
    let number = miner.block();
    miner.flush().await;
    stage.reaches(height + 1).await;
    assert_eq!(event(&mut events, settled).await.1, BlockOutcome::Accepted);
    assert_eq!(miner.acknowledged, 0);
    drop(held);
    miner.hear_until(|miner| miner.last_acknowledged == number).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_goes_out_while_the_log_has_no_room_for_the_shares_before_it() {
    let stage = Plan { log_queue: 1, ..Plan::with_blocks() }.start();
    let mut miners = Vec::new();
    for _ in 0..6 {
        miners.push(stage.miner().await);
    }
    let height = stage.height();
    let held = stage.log_storage.hold_syncs();
    // One append is with the disk and one in the queue; those of all the others wait at their connections.
    for miner in &mut miners {
        miner.share();
        miner.flush().await;
        sleep(Duration::from_millis(20)).await;
    }
    let last = miners.last_mut().unwrap();
    let number = last.block();
    last.flush().await;
    stage.reaches(height + 1).await;
    assert_eq!(last.acknowledged, 0);
    drop(held);
    last.hear_until(|miner| miner.last_acknowledged == number).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_goes_out_whatever_came_with_it() {
    let stage = Plan::with_blocks().start();
    let mut height = stage.height();
    // What servers say is no message for them, and ends the connection; a block that ends a read follows below.
    let wrong = || mining::SubmitSharesSuccess {
        channel_id: 2,
        last_sequence_number: 0,
        new_submits_accepted_count: 1,
        new_shares_sum: 1,
    };
    for shares_before in [0, 1, 2] {
        let mut miner = stage.miner().await;
        (0..shares_before).for_each(|_| _ = miner.share());
        miner.block();
        miner.say(wrong());
        miner.flush().await;
        height += 1;
        stage.reaches(height).await;
        assert!(miner.is_closed().await);
    }
    let mut miner = stage.miner().await;
    miner.share();
    miner.share();
    miner.block();
    miner.flush().await;
    stage.reaches(height + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_in_this_process_alone_is_not_acknowledged() {
    let (node, url) = FakeNode::bind().await;
    node.switch().healthy();
    node.script("submitblock", [Answer::Dead]);
    let plan = Plan { node: node.client(&url), ..Plan::with_blocks() };
    tokio::spawn(node.run());
    let stage = plan.start();
    let mut miner = stage.miner().await;
    miner.earn().await;
    let held = stage.block_storage.hold_syncs();
    let before = miner.share();
    let number = miner.block();
    let after = miner.share();
    miner.flush().await;
    miner.hear_until(|miner| miner.last_acknowledged == before).await.unwrap();
    while stage.records().len() < 4 {
        sleep(Duration::from_millis(5)).await;
    }
    // All records are durable, and the process could be killed now: nobody would have the block.
    miner.hear_for(Duration::from_millis(300)).await.unwrap();
    assert_eq!(miner.last_acknowledged, before, "share {number} is a block that nobody has");
    drop(held);
    miner.hear_until(|miner| miner.last_acknowledged == after).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_an_earlier_run_goes_out_at_the_start() {
    let plan = Plan::with_blocks();
    // The earlier run got as far as to write the block down.
    let mut templates = plan.node.templates();
    let template = templates.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let now = Clock.now();
    let mut factory = JobFactory::new(&plan.pool, 0).unwrap();
    let work = factory.handle_template(&template, now).unwrap().unwrap();
    let block = mined(&plan, &work, now);
    let store = BlockStore::open_in(plan.block_storage.clone()).unwrap();
    store.save(block.hash.to_byte_array(), block.height, &block.to_bytes()).unwrap();
    drop(store);

    let stage = plan.start();
    stage.reaches(block.height.0 + 1).await;
    let template = stage.node.templates().borrow().clone().unwrap();
    assert_eq!(template.tip.prev_hash, block.hash);
    let mut miner = stage.miner().await;
    miner.earn().await;
    assert_eq!(stage.server.metrics().blocks_found, 0, "it was found by another run");
}

/// A block made by a session of our own, without a server.
fn mined(plan: &Plan, work: &Arc<adit_pool::Work>, now: adit_units::Now) -> adit_share::Block {
    use adit_messages::types::{B032, Str0255, U256};
    use adit_messages::{Message, common, encode, mining};
    use adit_transport::FrameQueue;

    let mut session = Session::new(Arc::new(plan.pool.clone()), ConnectionId(1), [0; 16], now);
    session.handle_work(Arc::clone(work), now);
    let mut say = |message: Message<'_>| {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        for frame in &queue {
            session.handle_frame(frame, now).unwrap();
        }
        session.poll_block()
    };
    let text = |text| Str0255::try_from(text).unwrap();
    let setup = common::SetupConnection {
        protocol: common::Protocol::MiningProtocol,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: text("localhost"),
        endpoint_port: 34254,
        vendor: text("test"),
        hardware_version: text(""),
        firmware: text(""),
        device_id: text(""),
    };
    say(setup.into());
    let open = mining::OpenExtendedMiningChannel {
        request_id: 1,
        user_identity: text("alice.rig"),
        nominal_hash_rate: 0.0,
        max_target: U256::from(&[0xff; 32]),
        min_extranonce_size: 4,
    };
    say(open.into());
    let share = |nonce| mining::SubmitSharesExtended {
        channel_id: 2,
        sequence_number: nonce,
        job_id: work.id().0,
        nonce,
        ntime: work.job().min_ntime(),
        version: work.job().version(),
        extranonce: B032::new(&[0; 14]).unwrap(),
    };
    let found = (0..).find_map(|nonce| say(share(nonce).into()));
    found.expect("some nonce makes a block").block
}

#[tokio::test(start_paused = true)]
async fn a_block_is_handed_over_until_its_fate_is_known() {
    use Answer::{Confirmed, Dead, NotFound, Null, Word};

    let (node, url) = FakeNode::bind().await;
    let plan = Plan { node: node.client(&url), ..Plan::with_blocks() };
    let store = BlockStore::open_in(plan.block_storage.clone()).unwrap();
    for (height, hash) in [(101, [1; 32]), (102, [2; 32])] {
        store.save(hash, Height(height), &hash).unwrap();
    }
    drop(store);
    // The first block: nobody answers, twice in a row as often as the client itself tries; then the node takes it, loses it, takes
    // it again and buries it. The second breaks a rule.
    node.script("submitblock 0101", [Dead, Dead, Null, Null]);
    node.script("getblockheader 0101", [NotFound, Confirmed(1), Dead, Confirmed(6)]);
    node.script("submitblock 0202", [Word("bad-txns")]);
    let rest = node.rest();
    tokio::spawn(node.run());
    let storage = plan.block_storage.clone();
    let stage = plan.start();
    let mut events = stage.server.events();
    let mut outcomes = vec![event(&mut events, settled).await, event(&mut events, settled).await];
    outcomes.sort_by_key(|(hash, _)| *hash);
    let hash = |byte| BlockHash::from_byte_array([byte; 32]);
    let refused = BlockOutcome::Refused("bad-txns".to_owned());
    assert_eq!(outcomes, [(hash(1), BlockOutcome::Accepted), (hash(2), refused)]);
    let is_pending = || {
        let store = BlockStore::open_in(storage.after_kill()).unwrap();
        !store.pending().unwrap().blocks.is_empty()
    };
    let start = Clock.monotonic();
    while is_pending() {
        assert!(Clock.monotonic() - start < 10 * PATIENCE, "not settled; left to ask: {:?}", rest());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(rest().is_empty(), "never asked: {:?}", rest());
    let metrics = stage.server.metrics();
    assert_eq!((metrics.blocks_found, metrics.blocks_accepted, metrics.blocks_refused), (0, 1, 1));
}

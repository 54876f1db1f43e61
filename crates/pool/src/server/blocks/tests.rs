//! Blocks at the desk: submission waits for no slot, and no block is followed twice.

use adit_channel::UserIdentity;
use adit_ledger::storage::faulty::Fault;
use adit_ledger::storage::faulty::FaultyStorage;
use adit_node::{DevnetConfig, Pace};
use adit_share::{Assignment, Seen, Submission, Verdict, judge};
use adit_testkit::answers::TEMPLATE;
use adit_units::{ChannelId, SequenceNumber, Target, Work};
use bitcoin::ScriptBuf;
use tokio::time::timeout;

use fake_node::{Answer, FakeNode};

use super::*;
use crate::{JobFactory, PoolConfig};

#[expect(dead_code, reason = "the tests of the whole server need more of it")]
#[path = "../../../tests/server/fake_node.rs"]
mod fake_node;

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A desk over a chain where every few hashes make a block.
struct Bench {
    node: Node,
    blocks: FoundBlocks,
    factory: JobFactory,
}

impl Bench {
    fn new() -> Self {
        Self::over(FaultyStorage::default())
    }

    fn over(storage: FaultyStorage) -> Self {
        let devnet = DevnetConfig {
            pace: Pace::Fixed(Work::from_hashes(4)),
            arrival: Duration::ZERO,
            ..DevnetConfig::new([8; 32])
        };
        let node = Node::devnet(&devnet, || Clock.now());
        let store = BlockStore::open_in(storage).unwrap();
        let blocks = FoundBlocks::open(node.clone(), store).unwrap();
        let config = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
        let factory = JobFactory::new(&config, 0).unwrap();
        Self { node, blocks, factory }
    }

    /// A block on the present tip.
    async fn mine(&mut self) -> FoundBlock {
        let mut templates = self.node.templates();
        let template = templates.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let work = self.factory.handle_template(&template, Clock.now()).unwrap().unwrap();
        let job = work.job();
        let assignment = Assignment::standard(job, Target::MAX, &[1; 20]).unwrap();
        let mut seen = Seen::new([1; 16], 10_000);
        let found = (0..10_000).find_map(|nonce| {
            let share = Submission {
                channel_id: ChannelId(2),
                sequence_number: SequenceNumber(0),
                job_id: job.id(),
                nonce,
                ntime: job.min_ntime(),
                version: job.version(),
                extranonce: None,
                rest: &[],
            };
            seen.make_room().unwrap();
            match judge(job, &assignment, &mut seen, &share, Clock.unix()) {
                Verdict::Block { header, work, .. } => Some((header, work)),
                Verdict::Valid { .. } | Verdict::Rejected(_) => None,
            }
        });
        let (header, earned) = found.expect("every fourth hash is a block");
        let block = job.block(work.template(), header, &[1; 20]);
        let user = UserIdentity::from_wire(b"alice.rig").unwrap();
        FoundBlock { block, channel: ChannelId(2), user, worker: None, work: earned, record: 1 }
    }

    /// Waits until the chain ends with that block.
    async fn is_extended_by(&self, hash: BlockHash) {
        let mut templates = self.node.templates();
        let grown = templates
            .wait_for(|template| template.as_ref().is_some_and(|template| template.tip.prev_hash == hash));
        timeout(PATIENCE, grown).await.expect("the chain did not grow").unwrap();
    }
}

#[tokio::test]
async fn a_block_goes_out_while_every_slot_for_following_is_taken() {
    let mut bench = Bench::new();
    let all = u32::try_from(FOLLOWED_MAX).unwrap();
    let taken = Arc::clone(&bench.blocks.slots).try_acquire_many_owned(all).unwrap();
    for _ in 0..2 {
        let found = bench.mine().await;
        let hash = found.block.hash;
        timeout(PATIENCE, bench.blocks.hand_over(found)).await.expect("it is answered and then let go");
        bench.is_extended_by(hash).await;
    }
    assert!(bench.blocks.desk.followed().is_empty(), "nobody follows what there was no slot for");
    drop(taken);
}

#[tokio::test]
async fn a_block_that_no_node_decides_on_is_not_let_go_before_it_is_on_disk() {
    let found = Bench::new().mine().await;
    let (fake, url) = FakeNode::bind().await;
    fake.script("submitblock ", [Answer::Word("inconclusive")]);
    let node = fake.client(&url);
    tokio::spawn(fake.run());
    let storage = FaultyStorage::default();
    let blocks = FoundBlocks::open(node, BlockStore::open_in(storage.clone()).unwrap()).unwrap();
    let all = u32::try_from(FOLLOWED_MAX).unwrap();
    let _taken = Arc::clone(&blocks.slots).try_acquire_many_owned(all).unwrap();
    let held = storage.hold_syncs();
    let handed = blocks.hand_over(found);
    tokio::pin!(handed);
    assert!(timeout(Duration::from_millis(500), &mut handed).await.is_err(), "it is in this process alone");
    assert_eq!(blocks.only_copies().len(), 1);
    drop(held);
    timeout(PATIENCE, handed).await.expect("it is on disk");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_full_for_a_moment_still_gets_an_accepted_block() {
    let storage = FaultyStorage::default();
    let mut bench = Bench::over(storage.clone());
    let found = bench.mine().await;
    let hash = found.block.hash;
    storage.fail_at(storage.operations().total, Fault::Error);
    bench.blocks.hand_over(found).await;
    bench.is_extended_by(hash).await;
    let on_disk = || {
        let store = BlockStore::open_in(storage.after_power_cut(1)).unwrap();
        store.pending().unwrap().blocks.iter().map(hash_of).collect::<Vec<_>>()
    };
    let saved = async {
        while on_disk() != [hash] {
            sleep(FATE_INTERVAL).await;
        }
    };
    timeout(100 * FATE_INTERVAL, saved).await.expect("the first failure was the last try");
}

#[tokio::test]
async fn a_block_that_is_handed_over_again_takes_no_second_slot() {
    let mut bench = Bench::new();
    let found = bench.mine().await;
    for _ in 0..100 {
        bench.blocks.hand_over(found.clone()).await;
    }
    bench.is_extended_by(found.block.hash).await;
    assert_eq!(bench.blocks.slots.available_permits(), FOLLOWED_MAX - 1);
    assert_eq!(bench.blocks.gauges().blocks_found.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_only_copy_of_a_block_is_not_thrown_away_at_the_end() {
    let found = Bench::new().mine().await;
    let (hash, bytes) = (found.block.hash, found.block.to_bytes());
    let (fake, url) = FakeNode::bind().await;
    // Each answer is at least a second after the one before: far more than the patience for blocks that are on disk.
    fake.script("submitblock ", [Answer::Dead; 100].into_iter().chain([Answer::Null]));
    let (node, rest) = (fake.client(&url), fake.rest());
    tokio::spawn(fake.run());
    let storage = FaultyStorage::default();
    let blocks = FoundBlocks::open(node, BlockStore::open_in(storage.clone()).unwrap()).unwrap();
    storage.fail_at(storage.operations().total, Fault::PowerCut);
    blocks.hand_over(found).await;

    let start = Clock.monotonic();
    let closing = blocks.close();
    tokio::pin!(closing);
    assert!(timeout(2 * BLOCKS_PATIENCE, &mut closing).await.is_err(), "ended with the only copy");
    let only = blocks.only_copies();
    assert_eq!(only.len(), 1);
    assert_eq!((hash_of(&only[0]), &only[0].bytes), (hash, &bytes), "what a person would need");
    assert!(!blocks.answered(Duration::ZERO).await);
    closing.await;
    assert!(Clock.monotonic() - start >= 2 * BLOCKS_PATIENCE);
    assert!(rest().is_empty(), "never asked: {:?}", rest());
    assert!(blocks.only_copies().is_empty() && blocks.answered(Duration::ZERO).await);
    assert_eq!(blocks.gauges().blocks_accepted.load(Relaxed), 1);
}

/// It was followed where it was brought, and forgotten with that runtime: the end waited for nothing, and wrote nothing out.
#[tokio::test]
async fn a_block_outlives_the_runtime_of_who_brought_it() {
    let found = Bench::new().mine().await;
    let (fake, url) = FakeNode::bind().await;
    fake.script("submitblock ", [Answer::Dead, Answer::Null]);
    let node = fake.client(&url);
    tokio::spawn(fake.run());
    let storage = FaultyStorage::default();
    let blocks = FoundBlocks::open(node, BlockStore::open_in(storage.clone()).unwrap()).unwrap();
    storage.fail_at(storage.operations().total, Fault::PowerCut);
    let declarator = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let theirs = blocks.clone();
    declarator.spawn(async move { theirs.hand_over(found).await }).await.unwrap();
    declarator.shutdown_background();
    timeout(PATIENCE, blocks.close()).await.expect("the node takes it the second time");
    assert_eq!(blocks.gauges().blocks_accepted.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_block_on_disk_keeps_nobody_waiting_for_a_dead_node() {
    let (fake, url) = FakeNode::bind().await;
    fake.script("submitblock ", [Answer::Dead]);
    let node = fake.client(&url);
    tokio::spawn(fake.run());
    let store = BlockStore::open_in(FaultyStorage::default()).unwrap();
    store.save([1; 32], Height(101), &[1; 100]).unwrap();
    let blocks = FoundBlocks::open(node, store).unwrap();
    assert!(!blocks.answered(Duration::from_secs(5)).await);
    assert!(blocks.only_copies().is_empty());
    let start = Clock.monotonic();
    blocks.close().await;
    assert!(Clock.monotonic() - start < BLOCKS_PATIENCE);
}

/// A template at height 300.
fn later() -> &'static str {
    let later = TEMPLATE.replace("\"height\":1,", "\"height\":300,").replace("5000000000", "1250000000");
    Box::leak(later.into_boxed_str())
}

/// The file of such a block stayed pending, and every start warned of it twice a minute for ever.
#[tokio::test(start_paused = true)]
async fn a_block_whose_fate_no_node_can_tell_is_given_up_after_a_day_of_blocks() {
    let later = later();
    // A template is of the height after the tip's.
    let (old, young) = ([1; 32], [2; 32]);
    let (first_height, next_height) = (Height(299 - FORGOTTEN - 1), Height(299 - FORGOTTEN + 1));
    let asked = [
        (Answer::Dead, Answer::Dead),
        (Answer::Null, Answer::Dead),
        (Answer::Word("inconclusive"), Answer::NotFound),
    ];
    for (submitted, header) in asked {
        let (fake, url) = FakeNode::bind().await;
        fake.switch().healthy();
        fake.script("getblocktemplate", [Answer::Json(later)]);
        fake.script("submitblock ", [submitted]);
        fake.script("getblockheader ", [header]);
        let node = fake.client(&url);
        tokio::spawn(fake.run());
        let storage = FaultyStorage::default();
        let store = BlockStore::open_in(storage.clone()).unwrap();
        store.save(old, first_height, &[1; 100]).unwrap();
        store.save(young, next_height, &[2; 100]).unwrap();
        let blocks = FoundBlocks::open(node, store).unwrap();
        let on_disk = || {
            let store = BlockStore::open_in(storage.after_power_cut(1)).unwrap();
            store.pending().unwrap().blocks.iter().map(|block| block.hash).collect::<Vec<_>>()
        };
        let settled = async {
            while on_disk().contains(&old) {
                sleep(FATE_INTERVAL).await;
            }
        };
        let early = timeout(FORGET_PATIENCE - FATE_INTERVAL, settled).await;
        assert!(early.is_err(), "the node may only just have started");
        let settled = async {
            while on_disk().contains(&old) {
                sleep(FATE_INTERVAL).await;
            }
        };
        timeout(100 * FATE_INTERVAL, settled).await.expect("it is given up");
        sleep(10 * FATE_INTERVAL).await;
        assert_eq!(on_disk(), [young], "this one may still be told of");
        drop(blocks);
    }
}

/// Nobody heard of the refusal as long as another node did not decide, as a template provider never does on a block that is none, and the
/// block went out twice a minute for ever.
#[tokio::test(start_paused = true)]
async fn the_refusal_by_one_of_two_nodes_was_never_told() {
    let later = later();
    let mut nodes = Vec::new();
    for word in ["bad-txnmrklroot", "inconclusive"] {
        let (fake, url) = FakeNode::bind().await;
        fake.switch().healthy();
        fake.script("getblocktemplate", [Answer::Json(later)]);
        fake.script("submitblock ", [Answer::Word(word)]);
        fake.script("getblockheader ", [Answer::NotFound]);
        nodes.push(fake.client(&url));
        tokio::spawn(fake.run());
    }
    let storage = FaultyStorage::default();
    let store = BlockStore::open_in(storage.clone()).unwrap();
    store.save([1; 32], Height(299 - FORGOTTEN - 1), &[1; 100]).unwrap();
    let blocks = FoundBlocks::open(Node::several(nodes, || Clock.now()), store).unwrap();
    let mut events = blocks.events().subscribe();
    let refused = || blocks.gauges().blocks_refused.load(Relaxed);
    let told = async {
        while refused() == 0 {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told at once");
    sleep(FORGET_PATIENCE / 2).await;
    assert!(!blocks.answered(Duration::ZERO).await, "it goes on being tried");
    assert!(events.try_recv().is_err(), "and nothing is settled");
    assert!(blocks.answered(FORGET_PATIENCE).await, "but not for ever");
    let settled = timeout(PATIENCE, events.recv()).await.expect("its end is told").unwrap();
    let Event::BlockSettled { outcome: BlockOutcome::Refused(reason), .. } = settled else {
        panic!("{settled:?}");
    };
    assert!(reason.ends_with(": bad-txnmrklroot") && !reason.contains("inconclusive"), "{reason}");
    assert_eq!(refused(), 1, "it counts once");
    blocks.close().await;
    assert!(BlockStore::open_in(storage.after_kill()).unwrap().pending().unwrap().blocks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_for_what_is_under_way_to_the_disk() {
    let storage = FaultyStorage::default();
    let mut bench = Bench::over(storage.clone());
    let found = bench.mine().await;
    let hash = found.block.hash;
    let held = storage.hold_syncs();
    bench.blocks.hand_over(found).await;
    bench.is_extended_by(hash).await;
    let closing = bench.blocks.close();
    tokio::pin!(closing);
    assert!(timeout(Duration::from_millis(300), &mut closing).await.is_err(), "its folder may be gone now");
    drop(held);
    timeout(PATIENCE, closing).await.expect("all is done");
    let store = BlockStore::open_in(storage.after_power_cut(1)).unwrap();
    assert_eq!(store.pending().unwrap().blocks.iter().map(hash_of).collect::<Vec<_>>(), [hash]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_written_down_while_the_node_does_not_answer() {
    let found = Bench::new().mine().await;
    let hash = found.block.hash;
    let storage = FaultyStorage::default();
    // It takes the call and never says a word, because nobody runs it.
    let (silent, url) = FakeNode::bind().await;
    let node = silent.client(&url);
    let blocks = FoundBlocks::open(node, BlockStore::open_in(storage.clone()).unwrap()).unwrap();
    let start = Clock.monotonic();
    blocks.hand_over(found).await;
    let pending = || {
        let store = BlockStore::open_in(storage.after_kill()).unwrap();
        store.pending().unwrap().blocks.iter().map(hash_of).collect::<Vec<_>>()
    };
    while pending() != [hash] {
        assert!(Clock.monotonic() - start < Duration::from_secs(1), "it waits for the node's answer");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!blocks.answered(Duration::ZERO).await, "the node is silent");

    // The process is killed; the next one finds the block, and a node that answers.
    let (fake, url) = FakeNode::bind().await;
    fake.script("submitblock ", [Answer::Null]);
    let node = fake.client(&url);
    tokio::spawn(fake.run());
    let next = FoundBlocks::open(node, BlockStore::open_in(storage.after_kill()).unwrap()).unwrap();
    assert!(next.answered(PATIENCE).await);
    assert_eq!(next.gauges().blocks_accepted.load(Relaxed), 1);
}

/// Waits until so many blocks have failed our own check.
async fn has_faulty(blocks: &FoundBlocks, number: u64) {
    let found = async {
        while blocks.gauges().blocks_faulty.load(Relaxed) < number {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("no block was checked");
}

#[tokio::test]
async fn blocks_from_elsewhere_and_from_earlier_runs_are_checked_too() {
    let storage = FaultyStorage::default();
    let mut bench = Bench::over(storage.clone());
    let found = bench.mine().await;
    let (hash, height) = (found.block.hash.to_byte_array(), found.block.height);
    let good = SavedBlock { hash, height, bytes: found.block.to_bytes() };
    assert_eq!(check::check(&good), Ok(()));
    let last = good.bytes.len() - 5;
    let mut bytes = good.bytes.clone();
    bytes[last] ^= 1;
    let bad = SavedBlock { bytes, ..good.clone() };
    assert!(check::check(&bad).is_err());
    assert_eq!(check::check(&SavedBlock { hash: [1; 32], ..good.clone() }), Err(check::BlockFault::Hash));
    let user = UserIdentity::from_wire(b"alice.rig").unwrap();
    assert!(bench.blocks.take(bad.clone(), user.clone(), None).await);
    has_faulty(&bench.blocks, 1).await;

    let storage = FaultyStorage::default();
    BlockStore::open_in(storage.clone()).unwrap().save(bad.hash, bad.height, &bad.bytes).unwrap();
    let again = Bench::over(storage);
    has_faulty(&again.blocks, 1).await;

    let mut well = Bench::new();
    let found = well.mine().await;
    let hash = found.block.hash;
    well.blocks.hand_over(found).await;
    assert!(well.blocks.answered(PATIENCE).await);
    well.blocks.safe(hash).await;
    assert_eq!(well.blocks.gauges().blocks_faulty.load(Relaxed), 0);
}

//! Blocks at the desk: submission waits for no slot, and no block is followed twice.

use adit_channel::UserIdentity;
use adit_ledger::storage::faulty::FaultyStorage;
use adit_net::{Clock, Shutdown};
use adit_node::{DevnetConfig, Pace};
use adit_share::{Assignment, Seen, Submission, Verdict, judge};
use adit_units::{ChannelId, SequenceNumber, Target, Work};
use bitcoin::ScriptBuf;
use tokio::time::timeout;

use super::*;
use crate::{JobFactory, PoolConfig};

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A desk over a chain where every few hashes make a block.
struct Bench {
    node: Node,
    gauges: Arc<Gauges>,
    blocks: Blocks,
    factory: JobFactory,
    _shutdown: Shutdown,
}

impl Bench {
    fn new() -> Self {
        let devnet = DevnetConfig {
            pace: Pace::Fixed(Work::from_hashes(4)),
            arrival: Duration::ZERO,
            ..DevnetConfig::new([8; 32])
        };
        let node = Node::devnet(&devnet, || Clock.now());
        let gauges = Arc::new(Gauges::new(Clock.monotonic()));
        let (shutdown, draining) = Shutdown::new();
        let store = BlockStore::open_in(FaultyStorage::default()).unwrap();
        let (events, _) = broadcast::channel(16);
        let blocks = Blocks::open(node.clone(), store, &gauges, &events, draining).unwrap();
        let config = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
        let factory = JobFactory::new(&config, 0).unwrap();
        Self { node, gauges, blocks, factory, _shutdown: shutdown }
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
        FoundBlock { block, channel: ChannelId(2), user, worker: None, work: earned }
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
async fn a_block_that_is_handed_over_again_takes_no_second_slot() {
    let mut bench = Bench::new();
    let found = bench.mine().await;
    for _ in 0..100 {
        bench.blocks.hand_over(found.clone()).await;
    }
    bench.is_extended_by(found.block.hash).await;
    assert_eq!(bench.blocks.slots.available_permits(), FOLLOWED_MAX - 1);
    assert_eq!(bench.gauges.blocks_found.load(Relaxed), 1);
}

//! Blocks that come again and again, and more of them than can be under way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_testkit::mining::mine;
use adit_units::{Now, UnixTime, Work};
use bitcoin::ScriptBuf;
use tokio::sync::Semaphore;

use super::*;
use crate::{Devnet, DevnetConfig, Pace};

/// Different blocks of one height.
fn blocks(count: u8) -> Vec<Block> {
    let now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };
    let config = DevnetConfig { pace: Pace::Fixed(Work::from_hashes(2)), ..DevnetConfig::new([1; 32]) };
    let template = Arc::new(Devnet::new(&config, now).template(now));
    (0..count).map(|number| mine(&template, ScriptBuf::from_bytes(vec![0x51, number]))).collect()
}

/// Lets go of blocks only when it is told to.
struct Slow {
    taken: Mutex<Vec<BlockHash>>,
    at_once: AtomicUsize,
    gate: Semaphore,
}

impl BlockDesk for Slow {
    fn take(&self, block: Block) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.taken.lock().unwrap().push(block.hash);
            self.at_once.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
        })
    }
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), at_once: AtomicUsize::default(), gate: Semaphore::new(0) })
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

/// A desk and the way to it. The clock stands still, and goes on while nobody has anything to do.
fn start(desk: &Arc<Slow>) -> (mpsc::Sender<Block>, tokio::task::JoinHandle<()>) {
    let node = Node::devnet(&DevnetConfig::new([1; 32]), || Clock.now());
    let (sender, found) = mpsc::channel(4);
    let desk: Arc<dyn BlockDesk> = Arc::<Slow>::clone(desk);
    (sender, tokio::spawn(hand_over(node, Some(desk), found)))
}

/// Each took a block's memory several times over, for minutes.
#[tokio::test(start_paused = true)]
async fn a_block_that_is_replayed_is_handed_over_once() {
    let desk = Slow::new();
    let (sender, task) = start(&desk);
    let [block, other] = &blocks(2)[..] else { panic!("two") };
    for _ in 0..1_000 {
        sender.send(block.clone()).await.unwrap();
    }
    sender.send(other.clone()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*desk.taken.lock().unwrap(), [block.hash, other.hash]);
    desk.gate.add_permits(2);
    sleep(Duration::from_secs(1)).await;
    sender.send(block.clone()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.taken(), 2, "just now");
    // Whoever asks again later may be right: the node may have lost it.
    sleep(REPEAT_PAUSE).await;
    sender.send(block.clone()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.taken(), 3);
    desk.gate.add_permits(1);
    drop(sender);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_more_blocks_are_under_way_than_the_limit_says() {
    let desk = Slow::new();
    let (sender, task) = start(&desk);
    let many = blocks(40);
    let sending = tokio::spawn(async move {
        for block in many {
            sender.send(block).await.unwrap();
        }
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.at_once.load(Ordering::SeqCst), BLOCKS_UNDER_WAY);
    assert!(!sending.is_finished(), "the others wait");
    desk.gate.add_permits(40);
    sending.await.unwrap();
    task.await.unwrap();
    assert_eq!(desk.taken(), 40, "and none is lost");
}

#[test]
fn what_is_remembered_of_blocks_is_bounded_and_forgets_none_that_is_under_way() {
    let hash = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        <BlockHash as bitcoin::hashes::Hash>::from_byte_array(bytes)
    };
    let (mut known, now) = (Known::default(), Monotonic::from_micros(0));
    assert!(known.is_new(hash(0), now));
    for number in 1..5_000 {
        assert!(known.is_new(hash(number), now));
        known.note_end(Ok(hash(number)), now);
        assert!(known.blocks.len() <= ANSWERED_KEPT);
    }
    assert!(!known.is_new(hash(0), now + Duration::from_secs(10_000)));
}

//! Threads that find, turn to new work, wait for time to pass, and go home.

use std::collections::HashSet;

use adit_units::{JobId, Monotonic, Target};
use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;

use super::*;
use crate::work::{MerkleRoot, Tip};

const PATIENCE: Duration = Duration::from_secs(20);

/// Every 256th hash is a share.
fn easy() -> Target {
    let mut bytes = [0xff; 32];
    bytes[31] = 0;
    Target::from_le_bytes(bytes)
}

fn work(job: u32, target: Target, version_rolling: bool) -> Arc<Work> {
    Arc::new(Work {
        tip: Arc::new(Tip::new([3; 32], 0x1d00_ffff)),
        job_id: JobId(job),
        version: 0x2000_0000,
        version_rolling,
        min_ntime: 1_700_000_000,
        since: Clock.monotonic(),
        target,
        merkle_root: MerkleRoot::Fixed([9; 32]),
    })
}

fn hire(threads: usize, queue: usize) -> (Arc<Board>, Crew, mpsc::Receiver<Solution>) {
    let board = Arc::<Board>::default();
    let (found, solutions) = mpsc::channel(queue);
    let threads = NonZeroUsize::new(threads).unwrap();
    let crew = Crew::hire(&board, threads, &found, || panic!("a thread was lost")).unwrap();
    (board, crew, solutions)
}

async fn next(solutions: &mut mpsc::Receiver<Solution>) -> Solution {
    tokio::time::timeout(PATIENCE, solutions.recv()).await.expect("in time").expect("threads are there")
}

/// The naive twin: rust-bitcoin hashes the header that the solution stands for.
fn check(solution: &Solution) {
    let Solution { work, nonce, ntime, version, extranonce, hash } = solution;
    let header = Header {
        version: bitcoin::block::Version::from_consensus(i32::from_ne_bytes(version.to_ne_bytes())),
        prev_blockhash: bitcoin::BlockHash::from_byte_array(work.tip.prev_hash),
        merkle_root: bitcoin::TxMerkleNode::from_byte_array(work.merkle_root.with(extranonce)),
        time: *ntime,
        bits: bitcoin::CompactTarget::from_consensus(work.tip.nbits),
        nonce: *nonce,
    };
    assert_eq!(header.block_hash().to_byte_array(), *hash);
    assert!(work.target.is_met_by(hash));
    let read: Header = deserialize(&bitcoin::consensus::serialize(&header)).unwrap();
    assert_eq!(read, header);
}

#[tokio::test]
async fn shares_are_found_and_none_twice() {
    let (board, crew, mut solutions) = hire(3, 64);
    board.put_up(work(1, easy(), true));
    let mut seen = HashSet::new();
    for _ in 0..2000 {
        let solution = next(&mut solutions).await;
        check(&solution);
        assert!(seen.insert(solution.hash), "found twice: {solution:?}");
    }
    assert!(board.hashes() > 2000 * 100);
    drop(solutions);
    crew.dismiss();
}

#[tokio::test]
async fn new_work_replaces_the_old_at_once() {
    let (board, crew, mut solutions) = hire(2, 1);
    // Nothing meets this target, so without looking at the board the threads would hash it for minutes.
    board.put_up(work(1, Target::ZERO, true));
    while board.hashes() == 0 {
        tokio::task::yield_now().await;
    }
    let before = Clock.monotonic();
    board.put_up(work(2, easy(), true));
    assert_eq!(next(&mut solutions).await.work.job_id, JobId(2));
    // A look takes well under a millisecond; the rest is for a machine that is busy with other things.
    assert!(Clock.monotonic() - before < Duration::from_secs(2));
    drop(solutions);
    crew.dismiss();
}

#[tokio::test]
async fn without_work_the_threads_rest() {
    let (board, crew, _solutions) = hire(2, 1);
    board.put_up(work(1, Target::ZERO, true));
    while board.hashes() == 0 {
        tokio::task::yield_now().await;
    }
    board.clear();
    // Each thread may be at its last few thousand hashes, which a busy machine leaves to later; then the counter stands still.
    let standstill = async {
        let (mut before, mut times) = (0, 0);
        while times < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            times = if board.hashes() == before { times + 1 } else { 0 };
            before = board.hashes();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), standstill).await.expect("they rest");
    crew.dismiss();
}

#[tokio::test]
async fn time_is_rolled_only_as_it_passes() {
    let (board, crew, mut solutions) = hire(1, 1);
    let work = work(1, easy(), false);
    // All nonces of the first second are taken already.
    let next_slice = Arc::new(AtomicU64::new(4096));
    board.order(Order::Hash { work: Arc::clone(&work), next: next_slice });
    let solution = next(&mut solutions).await;
    assert_eq!(solution.ntime, work.min_ntime + 1);
    check(&solution);
    assert!(Clock.monotonic() - work.since >= Duration::from_secs(1));
    drop(solutions);
    crew.dismiss();
}

#[tokio::test]
async fn nobody_hashes_after_going_home() {
    let (board, crew, solutions) = hire(2, 1);
    board.put_up(work(1, easy(), true));
    drop(solutions);
    crew.dismiss();
    let hashes = board.hashes();
    board.put_up(work(2, easy(), true));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(board.hashes(), hashes);
}

#[test]
fn a_crew_that_is_forgotten_goes_home_too() {
    let (board, crew, solutions) = hire(1, 1);
    drop(solutions);
    drop(crew);
    assert!(matches!(board.lock().order, Order::GoHome));
}

#[test]
fn a_thread_that_panics_is_noticed() {
    let (alarm, alarmed) = std::sync::mpsc::channel();
    let lost = thread::spawn(move || {
        let _alarm = Alarm(move || alarm.send(()).unwrap());
        panic!("on purpose");
    });
    assert!(lost.join().is_err());
    assert_eq!(alarmed.recv(), Ok(()));
    drop(Alarm(|| panic!("without a panic nobody calls")));
}

#[test]
fn measuring_takes_about_as_long_as_it_should() {
    let (hashes, time) = measure(Duration::from_millis(20));
    assert!(hashes >= u64::from(HASHES_PER_LOOK));
    assert!(time >= Duration::from_millis(20));
    assert!(Monotonic::default() + time > Monotonic::default());
}

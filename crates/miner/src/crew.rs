//! The threads that hash, and the board where they find what to hash.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use adit_net::Clock;
use tokio::sync::mpsc;

use crate::hasher::HeaderHasher;
use crate::work::{Slice, Solution, Work};

/// How many hashes a thread does before it looks at the board again: less than a millisecond's worth.
const HASHES_PER_LOOK: u32 = 4096;

/// How long a thread sleeps that has to wait for the time to move on; new work wakes it earlier.
const NAP: Duration = Duration::from_millis(100);

/// How much the threads step back behind everything else (Unix "nice" value), such as the pool and the node of a demo.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// Where work is put up, and taken slice by slice.
#[derive(Default)]
pub(crate) struct Board {
    /// Changes with every notice, so that a thread sees with one load whether its own is still up.
    number: AtomicU64,
    notice: Mutex<Notice>,
    changed: Condvar,
    hashes: AtomicU64,
}

#[derive(Clone, Default)]
struct Notice {
    number: u64,
    order: Order,
}

#[derive(Clone, Default)]
enum Order {
    #[default]
    Rest,
    Hash {
        work: Arc<Work>,
        /// The number of the next slice that nobody has taken.
        next: Arc<AtomicU64>,
    },
    GoHome,
}

impl Board {
    /// Puts up work; every thread turns to it within [`HASHES_PER_LOOK`] hashes.
    pub(crate) fn put_up(&self, work: Arc<Work>) {
        self.order(Order::Hash { work, next: Arc::default() });
    }

    /// Lets the threads rest until there is work.
    pub(crate) fn clear(&self) {
        self.order(Order::Rest);
    }

    /// Ends the threads.
    pub(crate) fn close(&self) {
        self.order(Order::GoHome);
    }

    /// All hashes that were ever done.
    pub(crate) fn hashes(&self) -> u64 {
        self.hashes.load(Ordering::Relaxed)
    }

    fn order(&self, order: Order) {
        let mut notice = self.lock();
        // Nobody comes back once they were sent home.
        if !matches!(notice.order, Order::GoHome) {
            notice.number += 1;
            notice.order = order;
            self.number.store(notice.number, Ordering::Release);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notice> {
        // A notice is whole at any time, whoever panicked while it was locked.
        self.notice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self, number: u64) -> bool {
        self.number.load(Ordering::Acquire) == number
    }

    /// Waits for a notice that gives something to do.
    fn wait(&self) -> Notice {
        let notice = self.changed.wait_while(self.lock(), |notice| matches!(notice.order, Order::Rest));
        notice.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sleeps for a while, or until the notice of that number is taken down.
    fn nap(&self, number: u64) {
        let _ = self.changed.wait_timeout_while(self.lock(), NAP, |notice| notice.number == number);
    }
}

/// Threads that hash what is on the board.
pub(crate) struct Crew {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Starts the threads; `lost` is called by one that ends with a panic.
    pub(crate) fn hire(
        board: &Arc<Board>,
        count: NonZeroUsize,
        found: &mpsc::Sender<Solution>,
        lost: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut crew = Self { board: Arc::clone(board), threads: Vec::new() };
        for number in 0..count.get() {
            let (board, found, alarm) = (Arc::clone(board), found.clone(), Alarm(lost.clone()));
            let thread = thread::Builder::new().name(format!("hash-{number}")).spawn(move || {
                let _alarm = alarm;
                step_back();
                work(&board, &found);
            })?;
            crew.threads.push(thread);
        }
        Ok(crew)
    }

    /// Ends the threads and waits for them, which takes about a millisecond.
    pub(crate) fn dismiss(mut self) {
        self.board.close();
        for thread in self.threads.drain(..) {
            // One that panicked has sounded its alarm.
            let _ = thread.join();
        }
    }
}

/// A crew that is forgotten does not go on hashing.
impl Drop for Crew {
    fn drop(&mut self) {
        self.board.close();
    }
}

/// Calls for help if its thread ends with a panic.
struct Alarm<F: Fn()>(F);

impl<F: Fn()> Drop for Alarm<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(target_os = "linux")]
fn step_back() {
    // Every thread has a nice value of its own on Linux. Without one, hashing competes with what it depends on.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "hashing threads run with ordinary priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn step_back() {}

/// What a thread does all day.
fn work(board: &Board, found: &mpsc::Sender<Solution>) {
    loop {
        let notice = board.wait();
        match notice.order {
            Order::Hash { work, next } => {
                while board.is_up(notice.number) {
                    take_slice(board, notice.number, &work, &next, found);
                }
            }
            Order::Rest => {}
            Order::GoHome => return,
        }
    }
}

/// Searches the next slice that nobody has taken, once its time has come.
fn take_slice(
    board: &Board,
    number: u64,
    work: &Arc<Work>,
    next: &AtomicU64,
    found: &mpsc::Sender<Solution>,
) {
    let Some(slice) = work.slice(next.fetch_add(1, Ordering::Relaxed)) else {
        board.nap(number);
        return;
    };
    let ahead = Duration::from_secs(slice.ntime_offset.into());
    while Clock.monotonic().saturating_since(work.since) < ahead {
        board.nap(number);
        if !board.is_up(number) {
            return;
        }
    }
    search(board, number, work, &slice, found);
}

fn search(board: &Board, number: u64, work: &Arc<Work>, slice: &Slice, found: &mpsc::Sender<Solution>) {
    let mut hasher = HeaderHasher::new(&work.header(slice));
    let (mut first, last) = (*slice.nonces.start(), *slice.nonces.end());
    loop {
        let until = last.min(first.saturating_add(HASHES_PER_LOOK - 1));
        let hit = hasher.find(first..=until, &work.target);
        let reached = hit.map_or(until, |(nonce, _)| nonce);
        board.hashes.fetch_add(u64::from(reached - first) + 1, Ordering::Relaxed);
        if let Some((nonce, hash)) = hit {
            let (version, extranonce, ntime) = (slice.version, slice.extranonce, work.ntime(slice));
            let solution = Solution { work: Arc::clone(work), nonce, ntime, version, extranonce, hash };
            // Waits while more are found than can be sent, and fails when nobody takes them any more.
            if found.blocking_send(solution).is_err() {
                return;
            }
        }
        if reached == last || !board.is_up(number) {
            return;
        }
        first = reached + 1;
    }
}

/// Hashes for about `time` with one thread and returns how many hashes that were.
pub(crate) fn measure(time: Duration) -> (u64, Duration) {
    let mut hasher = HeaderHasher::new(&[0; 80]);
    let (start, mut hashes) = (Clock.monotonic(), 0_u64);
    loop {
        let first = u32::try_from(hashes % (1 << 31)).unwrap_or(0);
        let _ = hasher.find(first..=first + (HASHES_PER_LOOK - 1), &adit_units::Target::ZERO);
        hashes += u64::from(HASHES_PER_LOOK);
        let passed = Clock.monotonic() - start;
        if passed >= time {
            return (hashes, passed);
        }
    }
}

#[cfg(test)]
mod tests;

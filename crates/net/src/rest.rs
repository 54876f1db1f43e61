//! A thread to which requests come fast rests before it looks at its sockets again, and so finds several at once.
//!
//! To fall asleep and wake up costs as much as to answer a short request. Network cards wait a little before they interrupt for the same reason
//! (`ethtool`'s `adaptive-rx`). Sockets whose news must not wait end a rest (decision 30).

use core::num::NonZeroU32;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_units::Monotonic;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::{Builder, Runtime};

use crate::Clock;

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(4);

/// A shorter one costs more than it spares.
const REST_MIN: Duration = Duration::from_millis(2);

/// How many requests a rest is to bring; more at once are hardly cheaper.
const TOGETHER: u32 = 8;

/// The longest rest is worth it where it brings as many as this.
const TOGETHER_MIN: u32 = 4;

/// How long requests are counted to know their pace.
const WINDOW: Duration = Duration::from_millis(20);

/// When the thread of a runtime rests, and what ends its rests. One for each runtime.
#[derive(Debug, Default)]
pub struct Rest {
    /// Requests of this window.
    requests: AtomicU32,
    pace: Mutex<Pace>,
    urgent: Mutex<Vec<Arc<OwnedFd>>>,
}

/// Has rests end when there is something to read on a socket, until this is dropped. It keeps a descriptor of the socket, so that is to be when
/// the socket itself is dropped.
#[derive(Debug)]
#[must_use = "what comes on the socket ends no rest when this is dropped"]
pub struct Urgent {
    rest: Arc<Rest>,
    socket: Arc<OwnedFd>,
}

/// How fast requests come, and the rest that goes with that.
#[derive(Debug, Default)]
struct Pace {
    /// When the window began.
    since: Monotonic,
    rest: Option<Duration>,
}

impl Rest {
    /// A runtime of the calling thread alone, which rests by this.
    ///
    /// # Errors
    ///
    /// If the system has no room for it.
    pub fn runtime(self: &Arc<Self>) -> io::Result<Runtime> {
        let rest = Arc::clone(self);
        Builder::new_current_thread().enable_all().on_thread_park(move || rest.take()).build()
    }

    /// A request has come. Any kind counts that may wait for a few milliseconds.
    pub fn note_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Has what comes on that socket end rests.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left.
    pub fn ends_for(self: &Arc<Self>, socket: impl AsFd) -> io::Result<Urgent> {
        let socket = Arc::new(socket.as_fd().try_clone_to_owned()?);
        self.urgent().push(Arc::clone(&socket));
        Ok(Urgent { rest: Arc::clone(self), socket })
    }

    /// Rests, if that is worth it.
    fn take(&self) {
        let now = Clock.monotonic();
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.is_old(now) {
            pace.set(self.requests.swap(0, Ordering::Relaxed), now);
        }
        if let Some(rest) = pace.rest {
            self.wait(rest);
        }
    }

    /// Waits for that long, or until there is something urgent; whether there is.
    fn wait(&self, rest: Duration) -> bool {
        let urgent = self.urgent();
        let mut sockets: Vec<_> =
            urgent.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        let rest = Timespec::try_from(rest).expect("a rest is a matter of milliseconds");
        // Who is interrupted by a signal has rested enough.
        poll(&mut sockets, Some(&rest)).is_ok_and(|ready| ready > 0)
    }

    /// How many sockets end rests.
    pub fn urgent_sockets(&self) -> usize {
        self.urgent().len()
    }

    fn urgent(&self) -> MutexGuard<'_, Vec<Arc<OwnedFd>>> {
        self.urgent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        self.rest.urgent().retain(|socket| !Arc::ptr_eq(socket, &self.socket));
    }
}

impl Pace {
    fn is_old(&self, now: Monotonic) -> bool {
        now >= self.since + WINDOW
    }

    /// A window is over in which so many requests came.
    fn set(&mut self, requests: u32, now: Monotonic) {
        let passed = now - self.since;
        self.since = now;
        self.rest = NonZeroU32::new(requests).and_then(|requests| rest_for(passed / requests.get()));
    }
}

/// How long to rest where requests come so far apart; not at all where that brings few, or where many come together anyway.
fn rest_for(apart: Duration) -> Option<Duration> {
    let rest = (apart * TOGETHER).min(REST_MAX);
    (rest >= REST_MIN && apart * TOGETHER_MIN <= REST_MAX).then_some(rest)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::thread::{self, sleep};

    use tokio::io::AsyncReadExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(1);

    /// What comes to a busy thread, one each half millisecond.
    const BYTES: usize = 2_000;

    #[test]
    fn what_is_urgent_ends_a_rest() {
        let rest = Arc::new(Rest::default());
        let [(mut upstream, mut its), (mut other, others)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        let urgent = [rest.ends_for(&its), rest.ends_for(&others)].map(Result::unwrap);
        assert!(!rest.wait(SHORT), "nobody says anything");
        upstream.write_all(b"a").unwrap();
        assert!(rest.wait(LONG), "it says something");
        its.read_exact(&mut [0]).unwrap();
        assert!(!rest.wait(SHORT), "it is read");
        other.write_all(b"b").unwrap();
        let [of_one, of_other] = urgent;
        drop(of_one);
        assert!(rest.wait(LONG), "the other one is still listened to");
        drop(of_other);
        assert!(!rest.wait(SHORT), "nobody is");
    }

    /// How often a thread looks at its socket until it has all bytes.
    async fn looks(note: impl Fn(usize)) -> usize {
        let (mut sends, receives) = UnixStream::pair().unwrap();
        receives.set_nonblocking(true).unwrap();
        let mut receives = tokio::net::UnixStream::from_std(receives).unwrap();
        let sender = thread::spawn(move || {
            let begin = Clock.monotonic();
            for number in 0..BYTES {
                let due = Duration::from_micros(500) * u32::try_from(number).unwrap();
                sleep(due.saturating_sub(Clock.monotonic() - begin));
                sends.write_all(b"a").unwrap();
            }
        });
        let mut looks = 0;
        loop {
            match receives.read(&mut [0; 256]).await.unwrap() {
                0 => break,
                bytes => note(bytes),
            }
            looks += 1;
        }
        sender.join().unwrap();
        looks
    }

    #[test]
    fn a_busy_thread_looks_seldom() {
        let rest = Arc::new(Rest::default());
        let runtime = rest.runtime().unwrap();
        let looks = runtime.block_on(looks(|bytes| (0..bytes).for_each(|_| rest.note_request())));
        assert!(looks * 3 < BYTES, "{looks} looks");
    }

    #[test]
    fn a_thread_that_rests_hears_what_is_urgent_at_once() {
        // It is not looked at anew within the test.
        let since = Clock.monotonic() + 10 * LONG;
        let pace = Mutex::new(Pace { since, rest: Some(LONG) });
        let rest = Arc::new(Rest { pace, ..Rest::default() });
        let (mut upstream, its) = UnixStream::pair().unwrap();
        its.set_nonblocking(true).unwrap();
        let urgent = rest.ends_for(&its).unwrap();
        let begin = Clock.monotonic();
        rest.runtime().unwrap().block_on(async {
            let mut its = tokio::net::UnixStream::from_std(its).unwrap();
            let says = thread::spawn(move || {
                sleep(50 * SHORT);
                upstream.write_all(b"a").unwrap();
                upstream
            });
            its.read_exact(&mut [0]).await.unwrap();
            says.join().unwrap();
        });
        assert!(Clock.monotonic() - begin < LONG);
        drop(urgent);
    }

    #[test]
    fn a_rest_brings_several_requests_or_there_is_none() {
        let rest_at = |pace: u32| rest_for(Duration::from_secs(1) / pace);
        for pace in [1, 100, 999, 4_001, 100_000] {
            assert_eq!(rest_at(pace), None, "{pace} a second");
        }
        for (pace, micros) in [(1_000, 4_000), (1_500, 4_000), (2_000, 4_000), (2_500, 3_200), (4_000, 2_000)]
        {
            assert_eq!(rest_at(pace), Some(Duration::from_micros(micros)), "{pace} a second");
        }
    }

    #[test]
    fn the_pace_is_that_of_the_last_moments() {
        let (mut pace, mut now) = (Pace::default(), Monotonic::default());
        let mut rests_after = |requests, millis| {
            now = now + Duration::from_millis(millis);
            pace.set(requests, now);
            assert!(!pace.is_old(now + WINDOW / 2) && pace.is_old(now + WINDOW));
            pace.rest
        };
        assert_eq!(rests_after(0, 20), None);
        assert_eq!(rests_after(40, 20), Some(REST_MAX));
        assert_eq!(rests_after(40, 10_000), None, "it was quiet for long");
        assert_eq!(rests_after(80, 20), Some(REST_MAX / 2));
        assert_eq!(rests_after(0, 20), None, "it has become quiet");
    }
}

//! A server without file descriptors waits instead of spinning; alone in its process because the limit belongs to the process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use adit_net::{Limits, Listener};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DESCRIPTORS: u64 = 64;
const STARVED: Duration = Duration::from_millis(400);

/// Computing time that this process has used.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[tokio::test]
async fn without_descriptors_accepting_pauses_and_then_goes_on() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum }).unwrap();
    let mut listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Limits::default()).unwrap();
    let client = TcpStream::connect(listener.address()).await.unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let before = used();
    assert!(timeout(STARVED, listener.accept()).await.is_err(), "there was a descriptor left");
    let computing = used() - before;
    assert!(computing < STARVED / 4, "{computing:?} of computing while there was nothing to do");
    hoard.clear();
    let accepted = timeout(Duration::from_secs(5), listener.accept()).await.unwrap();
    assert_eq!(accepted.peer, client.local_addr().unwrap());
}

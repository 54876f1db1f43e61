//! A machine that speaks SV1 and mines on a thread of its own.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use adit_miner::HeaderHasher;
use adit_net::Clock;
use adit_share::{Extranonce, VERSION_ROLLING_MASK};
use adit_translator::legacy::{LINE_MAX, LegacyConfig, LegacyUpstream};
use adit_translator::sv1::LineReader;
use adit_translator::upstream::{ChannelWork, Event, Outcome, UpShare};
use adit_units::Hashrate;

/// Nonces that are tried between two looks at the socket.
const SLICE: u32 = 20_000;

/// A machine with one connection, which it does not make again.
pub(crate) struct Rig {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    accepted: AtomicU64,
    refused: AtomicU64,
    stops: AtomicBool,
}

impl Rig {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        Self { state, thread: thread::spawn(move || mine(address, &shared)) }
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Whether its connection still stands.
    pub(crate) fn is_up(&self) -> bool {
        !self.thread.is_finished()
    }

    pub(crate) fn stop(self) {
        self.state.stops.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn mine(address: SocketAddr, state: &State) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let config = LegacyConfig { user: "farm.rig".to_owned(), version_mask: VERSION_ROLLING_MASK };
    let mut client = LegacyUpstream::new(&Arc::new(config), Clock.monotonic());
    let (mut lines, mut bytes) = (LineReader::new(LINE_MAX), [0; 16 * 1024]);
    let (mut work, mut tag) = (None, 0);
    while !state.stops.load(Ordering::Relaxed) {
        stream.write_all(&core::mem::take(client.output())).unwrap();
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => lines.push(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        while let Some(line) = lines.next_line().unwrap() {
            client.handle_line(line, Clock.monotonic()).unwrap();
        }
        while let Some(event) = client.poll_event() {
            match event {
                Event::Ready { .. } => {
                    client.open(0, Hashrate::from_hashes_per_second(1), Clock.monotonic()).unwrap();
                }
                Event::Work(new) => work = Some(new),
                Event::Settled { outcome: Outcome::Accepted, .. } => {
                    state.accepted.fetch_add(1, Ordering::Relaxed);
                }
                Event::Settled { .. } => {
                    state.refused.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        if let Some(work) = &work {
            tag += 1;
            if let Some(share) = search(work, tag) {
                // One whose block has just gone is not sent.
                let _ = client.submit(&share);
            }
        }
    }
}

/// Tries some nonces with an extranonce and a version of their own.
fn search(work: &ChannelWork, tag: u64) -> Option<UpShare> {
    let size = usize::from(work.extranonce_size);
    let rolled = &tag.to_be_bytes()[8 - size.min(8)..];
    let root = work.job.merkle_root(Extranonce::join(work.prefix.as_bytes(), rolled).as_bytes()).unwrap();
    let low = u32::from(u16::try_from(tag & 0xffff).unwrap());
    let rolling = low << 13 & VERSION_ROLLING_MASK;
    let bits = if work.job.version_rolling_allowed() { rolling } else { 0 };
    let version = (work.job.version() & !bits) | bits;
    let (tip, ntime) = (work.job.tip(), work.job.min_ntime());
    let mut header = [0; 80];
    header[..4].copy_from_slice(&version.to_le_bytes());
    header[4..36].copy_from_slice(tip.prev_hash.as_ref());
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&ntime.to_le_bytes());
    header[72..76].copy_from_slice(&tip.nbits.to_consensus().to_le_bytes());
    let (nonce, _) = HeaderHasher::new(&header).find(0..=SLICE, &work.target)?;
    let extranonce = Extranonce::join(rolled, &[]);
    Some(UpShare { tag, key: work.key, source: work.source, nonce, ntime, version, extranonce, worker: None })
}

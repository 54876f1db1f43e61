//! The client's side of an SV1 connection to a pool: any lines from the pool, and a miner that submits on all work it is given.

use std::sync::Arc;

use adit_share::Extranonce;
use adit_translator::legacy::{ANSWERS_MAX, LINE_MAX, LegacyConfig, LegacyUpstream, PENDING_MAX};
use adit_translator::sv1::LineReader;
use adit_translator::upstream::{Event, UpShare};
use adit_units::{Hashrate, Monotonic};

/// The name of the only channel.
const KEY: u64 = 0;

/// More bytes than a share takes, whatever its job is called.
const SHARE_MAX: usize = 1024;

/// The bytes as what a pool sends, behind answers that let the miner in unless the first byte is odd.
///
/// # Panics
///
/// If work does not fit together, if a share that fits its work is not taken, or if something that waits exceeds its bounds.
pub fn run(bytes: &[u8]) {
    let config =
        LegacyConfig { user: "farm".to_owned(), password: "x".to_owned(), version_mask: 0x1fff_e000 };
    let now = Monotonic::from_micros(1);
    let mut upstream = LegacyUpstream::new(&Arc::new(config), now);
    let mut lines = LineReader::new(LINE_MAX);
    if bytes.first().is_none_or(|first| first % 2 == 0) {
        lines.push(
            b"{\"id\":1,\"result\":{\"version-rolling\":true,\"version-rolling.mask\":\"1fffe000\"}}\n",
        );
        lines.push(b"{\"id\":2,\"result\":[[],\"01020304\",8]}\n{\"id\":3,\"result\":true}\n");
    }
    lines.push(bytes.get(1..).unwrap_or_default());
    let mut tag = 0;
    while let Ok(Some(line)) = lines.next_line() {
        let is_over = upstream.handle_line(line, now).is_err();
        tag = answer_events(&mut upstream, tag, now);
        assert!(upstream.output().len() < ANSWERS_MAX + SHARE_MAX, "answers that nobody reads");
        assert!(upstream.pending() <= PENDING_MAX);
        if upstream.output().len() > ANSWERS_MAX / 2 {
            upstream.output().clear();
        }
        if is_over {
            break;
        }
        assert!(upstream.poll_timeout().is_some());
    }
    upstream.abandon();
    assert_eq!(upstream.pending(), 0);
}

/// Opens the channel when it may be, and submits a share on each piece of work; the answer is the last share's tag.
fn answer_events(upstream: &mut LegacyUpstream, mut tag: u64, now: Monotonic) -> u64 {
    while let Some(event) = upstream.poll_event() {
        match event {
            Event::Ready { .. } => {
                upstream.open(KEY, Hashrate::from_hashes_per_second(1), now).expect("nobody has it yet");
            }
            Event::Work(work) => {
                let (prefix, size) = (work.prefix.as_bytes().len(), usize::from(work.extranonce_size));
                assert_eq!(work.job.extranonce_len(), prefix + size);
                tag += 1;
                let share = UpShare {
                    tag,
                    key: KEY,
                    source: work.source,
                    nonce: 0,
                    ntime: work.job.min_ntime(),
                    version: work.job.version(),
                    extranonce: Extranonce::join([7; 32].get(..size).unwrap_or_default(), &[]),
                    worker: None,
                };
                upstream.submit(&share, now).expect("it fits its work");
            }
            Event::Settled { tag: settled, .. } => assert!(settled <= tag, "a share that was never sent"),
            Event::Opened { key } => assert_eq!(key, KEY),
            Event::Refused { .. } | Event::Closed { .. } | Event::Reconnect { .. } => {
                unreachable!("SV1 has no such thing")
            }
        }
    }
    tag
}

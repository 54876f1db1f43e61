//! Frames from any pool, and machines that come and go, given to the translator's client of pools: its books stay right.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use adit_messages::{Direction, Protocol, decode};
use adit_share::Extranonce;
use adit_translator::upstream::{
    ChannelWork, DOUBT_AFTER, Event, UpShare, Upstream, UpstreamConfig, UpstreamError, payout,
};
use adit_transport::Frame;
use adit_units::{Hashrate, Monotonic};
use bitcoin::ScriptBuf;

/// Most steps of one input.
const STEPS: usize = 400;
/// Most machines; few, so that names are used again.
const MACHINES: u8 = 6;

/// What whoever holds an upstream may rely on.
#[derive(Default)]
struct Books {
    asked: BTreeSet<u64>,
    open: BTreeSet<u64>,
    pending: BTreeSet<u64>,
    works: Vec<ChannelWork>,
    tag: u64,
}

/// The first byte says whether workers are named. Then come steps: a byte from 0 to 4 for what the translator does, with what it needs
/// behind it, and any other byte for a frame, which follows.
///
/// # Panics
///
/// If what the client says does not fit what it said before.
pub fn run(bytes: &[u8]) {
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    let mut now = Monotonic::default();
    let config = UpstreamConfig {
        host: "pool.example".to_owned(),
        port: 34254,
        user: "account.worker".to_owned(),
        min_extranonce_size: 12,
        names_workers: kind & 1 == 1,
        doubt_after: DOUBT_AFTER,
    };
    let (mut upstream, mut books) = (Upstream::new(&Arc::new(config), now), Books::default());
    for _ in 0..STEPS {
        let Some((step, behind)) = rest.split_first() else { break };
        rest = behind;
        let result = if *step <= 4 {
            let mut number = || rest.split_off_first().copied().unwrap_or(0);
            let (first, second) = (number(), number());
            books.act(&mut upstream, [*step, first, second], &mut now)
        } else {
            let Some((frame, behind)) = Frame::split_from(rest) else { break };
            rest = behind;
            // The transport refuses what is longer than the client allows.
            if frame.payload.len() > upstream.frame_limit(&frame.header) {
                break;
            }
            upstream.handle_frame(frame, now)
        };
        books.check(&mut upstream);
        if result.is_err() {
            break;
        }
    }
    upstream.abandon();
    books.check(&mut upstream);
    assert!(books.pending.is_empty(), "all shares are settled in the end");
}

impl Books {
    /// Something happens that the pool has no part in.
    fn act(
        &mut self,
        upstream: &mut Upstream,
        [step, first, second]: [u8; 3],
        now: &mut Monotonic,
    ) -> Result<(), UpstreamError> {
        let key = u64::from(first % MACHINES);
        match step {
            0 => {
                if upstream.open(key, "", Hashrate::from_hashes_per_second(second.into()), *now).is_ok() {
                    assert!(!self.open.contains(&key) && self.asked.insert(key), "a name means one channel");
                }
            }
            1 => {
                upstream.close(key);
                self.asked.remove(&key);
                self.open.remove(&key);
                self.works.retain(|work| work.key != key);
            }
            2 => self.submit(upstream, second),
            3 => upstream.set_hashrate(key, Hashrate::from_hashes_per_second(1 << (second % 64)), *now),
            _ => {
                *now = *now + Duration::from_millis(u64::from(first) * u64::from(second));
                return if upstream.poll_timeout().is_some_and(|due| due <= *now) {
                    upstream.handle_timeout(*now)
                } else {
                    Ok(())
                };
            }
        }
        Ok(())
    }

    /// All machines find a share on what they have been given last.
    fn submit(&mut self, upstream: &mut Upstream, nonce: u8) {
        for ChannelWork { key, source, extranonce_size, .. } in &self.works {
            self.tag += 1;
            let rolled = vec![nonce; usize::from(*extranonce_size)];
            let share = UpShare {
                tag: self.tag,
                key: *key,
                source: *source,
                nonce: nonce.into(),
                ntime: 0,
                version: 0,
                extranonce: Extranonce::join(&rolled, &[]),
                worker: None,
            };
            // The tip may have changed without a job for this channel.
            if upstream.submit(&share).is_ok() {
                self.pending.insert(self.tag);
            }
        }
    }

    /// All that came out of the client fits what went before, and it knows as much.
    fn check(&mut self, upstream: &mut Upstream) {
        while let Some(event) = upstream.poll_event() {
            self.note(event);
        }
        for frame in upstream.frames().iter() {
            let message = decode(Protocol::Mining, frame).expect("the client writes messages");
            assert_ne!(message.info().direction, Direction::ToClient, "{}", message.info().name);
        }
        upstream.frames().clear();
        let open: BTreeSet<u64> = upstream.channels().map(|channel| channel.key).collect();
        assert_eq!(open, self.open);
        assert_eq!(upstream.pending(), self.pending.len());
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Ready { .. } | Event::Reconnect { .. } => {}
            Event::Opened { key } => {
                assert!(self.asked.remove(&key) && self.open.insert(key), "it was asked for");
            }
            Event::Refused { key, .. } => assert!(self.asked.remove(&key), "it was asked for"),
            Event::Closed { key, .. } => {
                assert!(self.open.remove(&key), "it was open");
                self.works.retain(|work| work.key != key);
            }
            Event::Settled { tag, .. } => assert!(self.pending.remove(&tag), "it was sent, and not settled"),
            Event::Work(work) => {
                assert!(self.open.contains(&work.key), "it is for a channel that is open");
                check_work(&work);
                self.works.retain(|known| known.key != work.key);
                self.works.push(work);
            }
        }
    }
}

/// Work can be mined, and its coinbase can be looked at.
fn check_work(work: &ChannelWork) {
    let rolled = vec![0; usize::from(work.extranonce_size)];
    assert!(rolled.len() >= 12, "there is room for the machines");
    let whole = Extranonce::join(work.prefix.as_bytes(), &rolled);
    work.job.merkle_root(whole.as_bytes()).expect("the extranonce fits the job");
    let expectation = payout::Expectation { script: ScriptBuf::from_bytes(vec![0x51]), least_percent: 50 };
    let _ = payout::check(&work.job, work.prefix.as_bytes(), work.extranonce_size, &expectation);
}

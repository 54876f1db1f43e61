//! What a miner counts, and how fast it is.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use adit_messages::error_code::SubmitSharesError;
use adit_units::{Hashrate, Monotonic, Target};

use crate::client::RejectCode;

/// A miner at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The speed over the last few seconds.
    pub hashrate: Hashrate,
    /// All hashes since the start.
    pub hashes: u64,
    /// The threads that hash.
    pub threads: usize,
    /// Whether a channel is open now.
    pub connected: bool,
    /// How many times a channel has been opened.
    pub connections: u64,
    /// Shares handed to a server.
    pub submitted: u64,
    /// Shares that a server has acknowledged.
    pub accepted: u64,
    /// Shares that a server has refused.
    pub rejected: Rejections,
    /// Shares that were found too late to be of use, and were not sent.
    pub outdated: u64,
    /// Submitted shares that met the network's target. Whether a node took the block is something a client is never told.
    pub blocks: u64,
    /// What a hash must meet to be a share of the present work.
    pub target: Option<Target>,
    /// Why there was no connection the last time that there was none.
    pub last_error: Option<String>,
}

/// Refused shares by error code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    known: BTreeMap<SubmitSharesError, u64>,
    other: u64,
}

impl Rejections {
    /// How codes are named that nobody has written down; a server may invent as many as it likes, so they are counted together.
    pub const OTHER: &str = "other";

    pub(crate) fn add(&mut self, code: &RejectCode) {
        let count = match code {
            RejectCode::Known(code) => self.known.entry(*code).or_default(),
            RejectCode::Other(_) => &mut self.other,
        };
        *count = count.saturating_add(1);
    }

    /// The codes that occurred, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.known.iter().map(|(code, count)| (code.as_str(), *count));
        known.chain((self.other > 0).then_some((Self::OTHER, self.other)))
    }

    /// All refused shares.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |total, (_, count)| total.saturating_add(count))
    }
}

/// The speed over the last few seconds, from a counter that is read now and then.
#[derive(Debug, Default)]
pub(crate) struct Speedometer {
    /// Moments and what the counter said then, oldest first.
    readings: VecDeque<(Monotonic, u64)>,
}

impl Speedometer {
    /// How often to read the counter.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
    /// How far back the speed is taken from.
    const WINDOW: usize = 20;

    pub(crate) fn read(&mut self, hashes: u64, now: Monotonic) {
        if self.readings.len() > Self::WINDOW {
            self.readings.pop_front();
        }
        self.readings.push_back((now, hashes));
    }

    pub(crate) fn hashrate(&self) -> Hashrate {
        let (Some((from, before)), Some((until, after))) = (self.readings.front(), self.readings.back())
        else {
            return Hashrate::default();
        };
        rate(after.saturating_sub(*before), *until - *from)
    }
}

/// So many hashes in so much time; none if there was no time.
pub(crate) fn rate(hashes: u64, time: Duration) -> Hashrate {
    let per_second = (u128::from(hashes) * 1_000_000).checked_div(time.as_micros()).unwrap_or(0);
    Hashrate::from_hashes_per_second(u64::try_from(per_second).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_code() {
        let mut rejections = Rejections::default();
        rejections.add(&RejectCode::Known(SubmitSharesError::StaleShare));
        rejections.add(&RejectCode::Other("whatever".into()));
        rejections.add(&RejectCode::Known(SubmitSharesError::StaleShare));
        rejections.add(&RejectCode::Known(SubmitSharesError::InvalidJobId));
        let counted: Vec<_> = rejections.iter().collect();
        assert_eq!(counted, [("stale-share", 2), ("invalid-job-id", 1), ("other", 1)]);
        assert_eq!(rejections.total(), 4);
        assert_eq!(Rejections::default().iter().count(), 0);
    }

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let mut speed = Speedometer::default();
        assert_eq!(speed.hashrate(), Hashrate::default());
        let mut now = Monotonic::from_micros(77);
        let mut hashes = 0;
        speed.read(hashes, now);
        assert_eq!(speed.hashrate(), Hashrate::default());
        for (step, per_second) in [(30, 1_000_000), (21, 4_000_000)] {
            for _ in 0..step {
                now = now + Speedometer::INTERVAL;
                hashes += per_second / 2;
                speed.read(hashes, now);
            }
            assert_eq!(speed.hashrate(), Hashrate::from_hashes_per_second(per_second));
        }
    }

    #[test]
    fn a_rate_cannot_overflow() {
        assert_eq!(rate(u64::MAX, Duration::from_micros(1)).to_hashes_per_second(), u64::MAX);
        assert_eq!(rate(5, Duration::ZERO), Hashrate::default());
    }
}

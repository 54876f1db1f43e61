//! What all connections of a load run count together.

use core::time::Duration;
use std::collections::BTreeMap;

use adit_units::Monotonic;

use super::histogram::Histogram;

/// The counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Connections whose handshake is done.
    pub(super) greeted: usize,
    /// Connections with all channels open and work for them.
    pub(super) opened: usize,
    /// From setting out to connect to having work.
    pub(super) openings: Histogram,
    /// Connections that ended before they were told to, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    /// By the code that the server gave.
    pub(super) refused: BTreeMap<String, u64>,
    /// From when a share was due to its acknowledgement.
    pub(super) acks: Histogram,
    /// The same, of the phase that is measured now, if one is.
    pub(super) phase: Option<Histogram>,
    /// Oldest first.
    pub(super) tips: Vec<TipSeen>,
    /// When the next tip was ordered.
    pub(super) ordered: Option<Monotonic>,
}

/// When one tip came to the connections.
#[derive(Debug)]
pub(super) struct TipSeen {
    prev_hash: [u8; 32],
    pub(super) ordered: Option<Monotonic>,
    /// In the order of coming.
    pub(super) arrivals: Vec<Monotonic>,
}

impl Tally {
    /// A connection has all its channels open and work for them, so long after it set out.
    pub(super) fn open(&mut self, after: Duration) {
        self.opened += 1;
        self.openings.record(after);
    }

    /// A connection is lost.
    pub(super) fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// How many connections are lost.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// A share was acknowledged so long after it was due.
    pub(super) fn acknowledge(&mut self, after: Duration) {
        self.acks.record(after);
        if let Some(phase) = &mut self.phase {
            phase.record(after);
        }
    }

    /// A share was refused.
    pub(super) fn refuse(&mut self, code: String) {
        *self.refused.entry(code).or_default() += 1;
    }

    /// Shares that were neither accepted nor refused.
    pub(super) fn unanswered(&self) -> u64 {
        self.submitted.saturating_sub(self.accepted).saturating_sub(self.refused.values().sum())
    }

    /// A connection was told of a new tip.
    pub(super) fn see_tip(&mut self, prev_hash: [u8; 32], now: Monotonic) {
        if let Some(tip) = self.tips.iter_mut().rev().find(|tip| tip.prev_hash == prev_hash) {
            tip.arrivals.push(now);
            return;
        }
        let ordered = self.ordered.take();
        self.tips.push(TipSeen { prev_hash, ordered, arrivals: vec![now] });
    }

    /// How many connections have been told of the tip that was ordered then.
    pub(super) fn told(&self, ordered: Monotonic) -> usize {
        let tip = self.tips.iter().rev().find(|tip| tip.ordered == Some(ordered));
        tip.map_or(0, |tip| tip.arrivals.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordered_tip_is_the_next_one_that_nobody_knew() {
        let (mut tally, at) = (Tally::default(), Monotonic::from_micros);
        tally.see_tip([1; 32], at(1));
        tally.ordered = Some(at(5));
        tally.see_tip([1; 32], at(6));
        tally.see_tip([2; 32], at(7));
        tally.see_tip([2; 32], at(9));
        assert_eq!(tally.tips[0].ordered, None);
        assert_eq!(tally.tips[1].ordered, Some(at(5)));
        assert_eq!(tally.told(at(5)), 2);
        assert_eq!(tally.told(at(6)), 0);
    }

    #[test]
    fn every_share_is_accepted_refused_or_unanswered() {
        let mut tally = Tally { submitted: 5, accepted: 2, ..Tally::default() };
        tally.refuse("stale-share".to_owned());
        assert_eq!(tally.unanswered(), 2);
    }
}

//! What all connections of a run count together.

use core::time::Duration;
use std::collections::BTreeMap;

use adit_units::Monotonic;

use super::histogram::Histogram;

/// The counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Connections that were made, handshake and all.
    pub(super) greeted: usize,
    /// Connections that came to have work, on all channels where there are channels.
    pub(super) opened: usize,
    /// When the last of them did.
    pub(super) last_opened: Option<Monotonic>,
    /// From setting out to connect to having work.
    pub(super) openings: Histogram,
    /// Connections that ended before they were told to, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    /// By what the server said.
    pub(super) refused: BTreeMap<String, u64>,
    /// From when a share was due to its acceptance.
    pub(super) answers: Histogram,
    /// The same, of the phase that is measured now, if one is.
    pub(super) phase: Option<Histogram>,
    /// Tips that Stratum V2 connections were told of, by their hashes, oldest first.
    pub(super) tips: Vec<News<[u8; 32]>>,
    /// When the next tip was ordered.
    pub(super) ordered: Option<Monotonic>,
    /// What the pool above SV1 machines has sent, by the pool's numbers, oldest first.
    pub(super) jobs: Vec<News<u32>>,
    /// Accepted or not, shares of SV1 machines that met the target of the pool above.
    pub(super) due_up: u64,
    /// Shares that came to that pool and met its target.
    pub(super) went_up: u64,
    /// Shares that came to that pool and did not.
    pub(super) worthless_up: u64,
}

/// One tip or job on its way to the connections.
#[derive(Debug)]
pub(super) struct News<K> {
    /// What it is known by.
    key: K,
    /// When it was ordered or began to be sent; `None` if it came of itself.
    pub(super) start: Option<Monotonic>,
    /// When connections heard of it, in the order of hearing.
    pub(super) arrivals: Vec<Monotonic>,
}

/// How long one piece of news took, from its start or else from the first that heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) first: Duration,
    /// Until half had heard.
    pub(super) median: Duration,
    /// Until 99 of a hundred had heard.
    pub(super) p99: Duration,
    pub(super) last: Duration,
}

impl<K: PartialEq> News<K> {
    /// The latest of that key.
    fn find(news: &mut [Self], key: K) -> Option<&mut Self> {
        news.iter_mut().rev().find(|piece| piece.key == key)
    }
}

impl<K> News<K> {
    /// How it spread, if anybody has heard of it.
    pub(super) fn spread(&self) -> Option<Spread> {
        let end = self.arrivals.len().checked_sub(1)?;
        let start = self.start.or_else(|| self.arrivals.first().copied())?;
        let after = |place: usize| self.arrivals.get(place).map(|moment| *moment - start);
        Some(Spread {
            first: after(0)?,
            median: after(end / 2)?,
            p99: after(end * 99 / 100)?,
            last: after(end)?,
        })
    }
}

impl Tally {
    /// A connection that set out then has work.
    pub(super) fn open(&mut self, since: Monotonic, now: Monotonic) {
        self.opened += 1;
        self.last_opened = Some(now);
        self.openings.record(now - since);
    }

    /// A connection is lost.
    pub(super) fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// How many connections are lost.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// So many shares were accepted, those that are remembered so long after they were due.
    pub(super) fn accept(&mut self, count: u32, after: impl IntoIterator<Item = Duration>) {
        self.accepted += u64::from(count);
        for after in after {
            self.answers.record(after);
            if let Some(phase) = &mut self.phase {
                phase.record(after);
            }
        }
    }

    /// A share was refused.
    pub(super) fn refuse(&mut self, reason: String) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// Shares that were neither accepted nor refused.
    pub(super) fn unanswered(&self) -> u64 {
        self.submitted.saturating_sub(self.accepted).saturating_sub(self.refused.values().sum())
    }

    /// A connection was told of a new tip.
    pub(super) fn see_tip(&mut self, prev_hash: [u8; 32], now: Monotonic) {
        if let Some(tip) = News::find(&mut self.tips, prev_hash) {
            tip.arrivals.push(now);
            return;
        }
        let start = self.ordered.take();
        self.tips.push(News { key: prev_hash, start, arrivals: vec![now] });
    }

    /// How many connections have been told of the tip that was ordered then.
    pub(super) fn told(&self, ordered: Monotonic) -> usize {
        let tip = self.tips.iter().rev().find(|tip| tip.start == Some(ordered));
        tip.map_or(0, |tip| tip.arrivals.len())
    }

    /// The pool above sends a job.
    pub(super) fn send_job(&mut self, number: u32, now: Monotonic) {
        self.jobs.push(News { key: number, start: Some(now), arrivals: Vec::new() });
    }

    /// A machine has read of a job; of those that were there before everybody had come nothing is noted.
    pub(super) fn see_job(&mut self, number: u32, now: Monotonic) {
        if let Some(job) = News::find(&mut self.jobs, number) {
            job.arrivals.push(now);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A piece of news with that start and those arrivals, in microseconds.
    pub(in super::super) fn news(start: Option<u64>, arrivals: &[u64]) -> News<[u8; 32]> {
        let at = Monotonic::from_micros;
        News { key: [1; 32], start: start.map(at), arrivals: arrivals.iter().copied().map(at).collect() }
    }

    #[test]
    fn an_ordered_tip_is_the_next_one_that_nobody_knew() {
        let (mut tally, at) = (Tally::default(), Monotonic::from_micros);
        tally.see_tip([1; 32], at(1));
        tally.ordered = Some(at(5));
        tally.see_tip([1; 32], at(6));
        tally.see_tip([2; 32], at(7));
        tally.see_tip([2; 32], at(9));
        assert_eq!(tally.tips[0].start, None);
        assert_eq!(tally.tips[1].start, Some(at(5)));
        assert_eq!(tally.told(at(5)), 2);
        assert_eq!(tally.told(at(6)), 0);
    }

    #[test]
    fn arrivals_belong_to_the_job_of_their_number() {
        let (mut tally, at) = (Tally::default(), Monotonic::from_micros);
        tally.see_job(1, at(1));
        tally.send_job(2, at(2));
        tally.send_job(3, at(5));
        tally.see_job(3, at(6));
        tally.see_job(2, at(7));
        tally.see_job(2, at(8));
        let arrivals: Vec<_> = tally.jobs.iter().map(|job| job.arrivals.len()).collect();
        assert_eq!(arrivals, [2, 1]);
    }

    #[test]
    fn every_share_is_accepted_refused_or_unanswered() {
        let mut tally = Tally { submitted: 5, ..Tally::default() };
        tally.accept(1, [Duration::from_millis(1)]);
        tally.refuse("Low difficulty share".to_owned());
        assert_eq!(tally.unanswered(), 3);
        tally.accept(1, []);
        assert_eq!((tally.unanswered(), tally.answers.total()), (2, 1));
    }
}

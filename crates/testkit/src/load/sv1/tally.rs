//! What all machines of a run count together, and the pool above them.

use core::time::Duration;
use std::collections::BTreeMap;

use adit_units::Monotonic;

use super::super::histogram::Histogram;

/// The counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Machines that came to have work.
    pub(super) opened: usize,
    /// When the last of them did.
    pub(super) last_opened: Option<Monotonic>,
    /// From setting out to connect to having work.
    pub(super) openings: Histogram,
    /// Machines that ended before they were told to, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// What the pool has told, oldest first.
    pub(super) news: Vec<News>,
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    /// By what the translator said.
    pub(super) refused: BTreeMap<String, u64>,
    /// From when a share was due to its answer.
    pub(super) answers: Histogram,
    /// Accepted or not, shares that met the pool's target.
    pub(super) due_up: u64,
    /// Shares that came to the pool and met its target.
    pub(super) went_up: u64,
    /// Shares that came to the pool and did not.
    pub(super) worthless_up: u64,
}

/// One job on its way.
#[derive(Debug)]
pub(super) struct News {
    /// The pool's number for it.
    pub(super) number: u32,
    /// When the pool began to send it.
    pub(super) sent: Monotonic,
    /// When machines had read it, in the order of reading.
    pub(super) arrivals: Vec<Monotonic>,
}

impl Tally {
    /// A machine has work, so long after it set out.
    pub(super) fn open(&mut self, now: Monotonic, after: Duration) {
        self.opened += 1;
        self.last_opened = Some(now);
        self.openings.record(after);
    }

    /// A machine is lost.
    pub(super) fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// How many machines are lost.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The pool sends a job.
    pub(super) fn send(&mut self, number: u32, now: Monotonic) {
        self.news.push(News { number, sent: now, arrivals: Vec::new() });
    }

    /// A machine has read of a job; of those that were there before everybody had come nothing is noted.
    pub(super) fn hear(&mut self, number: u32, now: Monotonic) {
        if let Some(news) = self.news.iter_mut().rev().find(|news| news.number == number) {
            news.arrivals.push(now);
        }
    }

    /// A share was accepted so long after it was due.
    pub(super) fn accept(&mut self, after: Duration) {
        self.accepted += 1;
        self.answers.record(after);
    }

    /// A share was refused.
    pub(super) fn refuse(&mut self, reason: String) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// Shares that were neither accepted nor refused.
    pub(super) fn unanswered(&self) -> u64 {
        self.submitted.saturating_sub(self.accepted).saturating_sub(self.refused.values().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_belong_to_the_job_of_their_number() {
        let (mut tally, at) = (Tally::default(), Monotonic::from_micros);
        tally.hear(1, at(1));
        tally.send(2, at(2));
        tally.send(3, at(5));
        tally.hear(3, at(6));
        tally.hear(2, at(7));
        tally.hear(2, at(8));
        let arrivals: Vec<_> = tally.news.iter().map(|news| news.arrivals.len()).collect();
        assert_eq!(arrivals, [2, 1]);
    }

    #[test]
    fn every_share_is_accepted_refused_or_unanswered() {
        let mut tally = Tally { submitted: 5, ..Tally::default() };
        tally.accept(Duration::from_millis(1));
        tally.refuse("Low difficulty share".to_owned());
        assert_eq!(tally.unanswered(), 3);
    }
}

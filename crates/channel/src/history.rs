//! What of a channel holds for which job: that which was in force when the job became active.

use crate::Activation;

/// The values of something that a channel's jobs are judged by, each in force from some activation on.
///
/// `SetTarget` applies to jobs that become active after it and never to one that already is (spec 5.3.21), and likewise
/// `SetExtranoncePrefix` (spec 5.3.10), so a job keeps what it was issued with. Nearly always one entry, so nothing is on the heap.
#[derive(Debug)]
pub struct History<T> {
    current: (Activation, T),
    /// Oldest first, all older than `current`.
    earlier: Vec<(Activation, T)>,
}

impl<T: Copy> History<T> {
    /// The values of a channel whose first job will have the activation `from`; earlier jobs were not given to it.
    #[must_use]
    pub const fn new(from: Activation, first: T) -> Self {
        Self { current: (from, first), earlier: Vec::new() }
    }

    /// From the activation `from` on, which has not happened yet, jobs are judged by `value`.
    ///
    /// `oldest` is the activation of the oldest job that can still earn; what only older ones need is forgotten.
    pub fn set(&mut self, from: Activation, value: T, oldest: Activation) {
        if self.current.0 < from {
            self.earlier.push(self.current);
        }
        self.current = (from, value);
        let needed = self.earlier.iter().rposition(|&(start, _)| start <= oldest).unwrap_or(0);
        self.earlier.drain(..needed);
        if self.earlier.is_empty() {
            self.earlier = Vec::new();
        }
    }

    /// The value for the job with that activation, or `None` if the job became active before the channel was there.
    #[must_use]
    pub fn at(&self, activation: Activation) -> Option<T> {
        self.values().find(|&(from, _)| from <= activation).map(|(_, value)| value)
    }

    /// The value for the next job.
    #[must_use]
    pub const fn latest(&self) -> T {
        self.current.1
    }

    /// All values that are not forgotten and since when they are in force, the newest first.
    pub fn values(&self) -> impl Iterator<Item = (Activation, T)> {
        core::iter::once(self.current).chain(self.earlier.iter().rev().copied())
    }
}

#[cfg(test)]
mod tests {
    use adit_units::{JobId, Target, Work};
    use proptest::prelude::*;

    use super::*;
    use crate::JobTable;

    fn target(hashes: u128) -> Target {
        Target::from_work(Work::from_hashes(hashes))
    }

    /// A table with a tip and one refresh, and the activations of both jobs.
    fn two_jobs() -> (JobTable<()>, Activation, Activation) {
        let mut table = JobTable::default();
        table.announce(JobId(1), ());
        let first = table.set_tip(JobId(1)).unwrap();
        let second = table.activate(JobId(2), ());
        (table, first, second)
    }

    #[test]
    fn a_job_keeps_the_target_it_was_issued_with() {
        let (mut table, first, second) = two_jobs();
        let mut targets = History::new(first, target(100));
        targets.set(table.next_activation(), target(200), table.oldest_activation());
        let third = table.activate(JobId(3), ());
        assert_eq!(targets.at(first), Some(target(100)));
        assert_eq!(targets.at(second), Some(target(100)));
        assert_eq!(targets.at(third), Some(target(200)));
    }

    #[test]
    fn a_future_job_takes_the_target_of_its_activation() {
        let (mut table, first, _) = two_jobs();
        let mut targets = History::new(first, target(100));
        table.announce(JobId(3), ());
        targets.set(table.next_activation(), target(200), table.oldest_activation());
        let third = table.set_tip(JobId(3)).unwrap();
        assert_eq!(targets.at(third), Some(target(200)));
    }

    #[test]
    fn jobs_from_before_the_channel_have_no_target() {
        let (_, first, second) = two_jobs();
        let targets = History::new(second, target(100));
        assert_eq!(targets.at(first), None);
        assert_eq!(targets.at(second), Some(target(100)));
    }

    #[test]
    fn of_two_changes_between_jobs_the_last_counts() {
        let (mut table, first, second) = two_jobs();
        let mut targets = History::new(first, target(100));
        targets.set(table.next_activation(), target(200), table.oldest_activation());
        targets.set(table.next_activation(), target(300), table.oldest_activation());
        let third = table.activate(JobId(3), ());
        assert_eq!(targets.at(second), Some(target(100)));
        assert_eq!(targets.at(third), Some(target(300)));
    }

    proptest! {
        #[test]
        fn agrees_with_a_target_written_on_every_job(changes in prop::collection::vec(prop::option::of(1_u128..1000), 1..80)) {
            let mut table = JobTable::default();
            table.announce(JobId(0), ());
            let first = table.set_tip(JobId(0)).unwrap();
            let mut targets = History::new(first, target(7));
            let mut written = vec![(first, target(7))];
            for (id, change) in (1..).zip(changes) {
                if let Some(hashes) = change {
                    targets.set(table.next_activation(), target(hashes), table.oldest_activation());
                }
                written.push((table.activate(JobId(id), ()), targets.latest()));
                for &(activation, target) in written.iter().rev().take(crate::PAST_JOBS + 1) {
                    prop_assert_eq!(targets.at(activation), Some(target));
                }
                prop_assert!(targets.earlier.len() <= crate::PAST_JOBS + 1);
            }
        }
    }
}

//! The newest work of each channel on its way from a link to the steward, no more often than machines are to be told of.
//!
//! What one pool says costs it a few hundred bytes, and goes on to every machine. So a pool that floods jobs is followed at a pace: whatever
//! work comes for a channel that has work waiting replaces it. The work of a new tip waits for nothing, unless the pool floods those too.

use core::time::Duration;
use std::collections::{BTreeSet, HashMap};

use adit_units::Monotonic;

use crate::upstream::ChannelWork;

/// The least time from one job of a channel to the next on the same tip. The full template that follows an empty one is not held up by it
/// so that anybody would notice.
pub(super) const JOB_GAP: Duration = Duration::from_millis(50);

/// How often a channel may have another job in the long run; pools send one in half a minute.
pub(super) const JOB_INTERVAL: Duration = Duration::from_secs(1);

/// How many jobs a channel may have beyond that: what a pool sends in hours, so that nothing but a flood is ever slowed down.
pub(super) const JOBS_AT_ONCE: u32 = 512;

/// The same with new tips, which go on being told of when other jobs do no more.
pub(super) const TIPS_AT_ONCE: u32 = 2 * JOBS_AT_ONCE;

/// Work that waits, at most one of each channel.
#[derive(Debug, Default)]
pub(super) struct Newest {
    channels: HashMap<u64, Channel>,
    queues: Queues,
}

/// When the work of which channel may go on.
#[derive(Debug, Default)]
struct Queues {
    /// That of new tips, which goes first.
    tips: BTreeSet<(Monotonic, u64)>,
    jobs: BTreeSet<(Monotonic, u64)>,
}

impl Queues {
    const fn of(&mut self, work: &ChannelWork) -> &mut BTreeSet<(Monotonic, u64)> {
        if work.is_new_tip { &mut self.tips } else { &mut self.jobs }
    }

    /// The channel whose work goes on next, if any may by now.
    fn first(&self, now: Monotonic) -> Option<u64> {
        let due = |queue: &BTreeSet<(Monotonic, u64)>| queue.first().copied().filter(|(due, _)| *due <= now);
        due(&self.tips).or_else(|| due(&self.jobs)).map(|(_, key)| key)
    }

    /// When the first of all may go on.
    fn next_due(&self) -> Option<Monotonic> {
        let first = |queue: &BTreeSet<(Monotonic, u64)>| queue.first().map(|(due, _)| *due);
        first(&self.tips).into_iter().chain(first(&self.jobs)).min()
    }
}

/// A channel that has had work, or is to have some.
#[derive(Debug, Default)]
struct Channel {
    pace: Pace,
    waiting: Option<Waiting>,
}

/// Work that a channel has come by.
#[derive(Debug)]
struct Waiting {
    work: ChannelWork,
    due: Monotonic,
}

/// How often a channel has had work.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    last: Option<Monotonic>,
    /// When all new tips that it has had would have come, had they come at [`JOB_INTERVAL`].
    tips_settled: Monotonic,
    /// The same with other jobs, which are not held up by a flood of tips.
    jobs_settled: Monotonic,
}

impl Pace {
    /// When the channel may have work that comes now.
    fn due(&self, is_new_tip: bool, now: Monotonic) -> Monotonic {
        let (settled, at_once, gap) = if is_new_tip {
            (self.tips_settled, TIPS_AT_ONCE, Duration::ZERO)
        } else {
            (self.jobs_settled, JOBS_AT_ONCE, JOB_GAP)
        };
        let after_last = self.last.map_or(now, |last| last + gap);
        let ahead = settled.saturating_since(now).saturating_sub(JOB_INTERVAL * at_once);
        now.max(after_last).max(now + ahead)
    }

    /// It has it.
    fn note(&mut self, is_new_tip: bool, now: Monotonic) {
        self.last = Some(now);
        let settled = if is_new_tip { &mut self.tips_settled } else { &mut self.jobs_settled };
        *settled = (*settled).max(now) + JOB_INTERVAL;
    }
}

impl Newest {
    /// There is other work for a channel; what waits for it is of no more use.
    pub(super) fn put(&mut self, work: ChannelWork, now: Monotonic) {
        let key = work.key;
        let channel = self.channels.entry(key).or_default();
        let (work, due) = match channel.waiting.take() {
            // Machines have not heard of the tip that what is replaced stood on first.
            Some(former) => {
                self.queues.of(&former.work).remove(&(former.due, key));
                let is_new_tip = work.is_new_tip || former.work.is_new_tip;
                (ChannelWork { is_new_tip, ..work }, former.due)
            }
            None => (work, Monotonic::from_micros(u64::MAX)),
        };
        let due = due.min(channel.pace.due(work.is_new_tip, now));
        self.queues.of(&work).insert((due, key));
        channel.waiting = Some(Waiting { work, due });
    }

    /// The work that may go on now, one after another.
    pub(super) fn pop(&mut self, now: Monotonic) -> Option<ChannelWork> {
        let key = self.queues.first(now)?;
        let channel = self.channels.get_mut(&key)?;
        let Waiting { work, due } = channel.waiting.take()?;
        self.queues.of(&work).remove(&(due, key));
        channel.pace.note(work.is_new_tip, now);
        Some(work)
    }

    /// When there will be work that may go on.
    pub(super) fn next_due(&self) -> Option<Monotonic> {
        self.queues.next_due()
    }

    /// The channel is closed.
    pub(super) fn forget(&mut self, key: u64) {
        if let Some(Waiting { work, due }) = self.channels.remove(&key).and_then(|channel| channel.waiting) {
            self.queues.of(&work).remove(&(due, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::fixture::Given;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(1_000_000 + millis * 1_000)
    }

    fn work(key: u64, number: u32, is_new_tip: bool) -> ChannelWork {
        ChannelWork { key, is_new_tip, ..Given { number, ..Given::default() }.work() }
    }

    /// The channel and the number of each piece of work that goes on at that time.
    fn popped(newest: &mut Newest, now: Monotonic) -> Vec<(u64, u32)> {
        core::iter::from_fn(|| newest.pop(now)).map(|work| (work.key, work.source.job)).collect()
    }

    #[test]
    fn a_pool_that_flooded_jobs_had_every_machine_told_of_each() {
        let mut newest = Newest::default();
        let (mut told, mut millis) = (Vec::new(), 0);
        // A thousand a second for ten minutes.
        for number in 1..=600_000 {
            millis += 1;
            newest.put(work(1, number, number == 1), at(millis));
            told.extend(popped(&mut newest, at(millis)).into_iter().map(|(_, job)| (millis, job)));
        }
        let pauses = told.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(pauses.clone().all(|pause| pause >= 50), "never sooner than the gap");
        let most = usize::try_from(JOBS_AT_ONCE).unwrap() + 601;
        assert!((most - 3..=most).contains(&told.len()), "{}", told.len());
        assert!(told.iter().all(|&(millis, job)| u64::from(job) == millis), "the newest is what goes on");
        let due = newest.next_due().unwrap();
        assert!(due <= at(millis) + JOB_INTERVAL);
        assert_eq!(popped(&mut newest, due), [(1, 600_000)], "and the last one is not lost");
    }

    #[test]
    fn a_new_tip_waits_for_nothing_and_is_not_lost_by_what_replaces_it() {
        let mut newest = Newest::default();
        for number in 1..=2_000 {
            newest.put(work(1, number, false), at(0));
            popped(&mut newest, at(60 * u64::from(number)));
        }
        let now = at(60 * 2_000);
        newest.put(work(1, 3_000, false), now);
        assert_eq!(popped(&mut newest, now), [], "it floods");
        newest.put(work(1, 3_001, true), now);
        newest.put(work(1, 3_002, false), now);
        let told = newest.pop(now).unwrap();
        assert_eq!((told.source.job, told.is_new_tip), (3_002, true));
        for number in 4_000..6_000 {
            newest.put(work(1, number, true), now);
            popped(&mut newest, now);
        }
        assert_eq!(newest.next_due().map(|due| due > now), Some(true), "but not thousands of them");
    }

    /// The full template that follows an empty one came only when the flood had been over for minutes.
    #[test]
    fn a_flood_of_new_tips_held_up_the_jobs_that_followed_it() {
        let mut newest = Newest::default();
        for number in 1..=TIPS_AT_ONCE {
            newest.put(work(1, number, true), at(0));
            assert_eq!(popped(&mut newest, at(0)), [(1, number)]);
        }
        newest.put(work(1, 5_000, false), at(0));
        assert_eq!(newest.next_due(), Some(at(0) + JOB_GAP));
    }

    #[test]
    fn new_tips_of_some_channels_go_before_the_jobs_of_others() {
        let mut newest = Newest::default();
        for key in 0..3 {
            newest.put(work(key, 1, false), at(key));
        }
        for key in [5, 1] {
            newest.put(work(key, 2, true), at(9));
        }
        assert_eq!(popped(&mut newest, at(9)), [(1, 2), (5, 2), (0, 1), (2, 1)]);
        newest.put(work(1, 3, false), at(9));
        newest.forget(1);
        assert_eq!((newest.pop(at(10_000)).is_none(), newest.next_due()), (true, None), "it is closed");
    }
}

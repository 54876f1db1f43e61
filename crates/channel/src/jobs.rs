//! How long a job can earn: from the message that makes it active until the next tip, or until newer jobs push it out.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use adit_units::JobId;

/// Past jobs of the same tip that still earn; a share on an older one is stale.
pub const PAST_JOBS: usize = 16;

/// Still older jobs of the same tip, which earn no more but may yet be blocks. With those that earn they fill a list of 32 places, which
/// these have to grow to anyhow.
pub const LATE_JOBS: usize = 15;

/// Future jobs that wait for their tip; a newer one pushes out the oldest.
pub const FUTURE_JOBS: usize = 4;

/// The place of a job in the order in which jobs became active on one connection.
///
/// Not the order of their ids: a future job waits while later ones come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Activation(u64);

impl Activation {
    /// The activation that follows.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The jobs that one connection or group was given, of which only those of the present tip can earn.
///
/// Job ids must come from a source that only counts up; then an id that is no longer here tells by itself whether it was ever
/// handed out.
#[derive(Debug)]
pub struct JobTable<T> {
    /// Announced without `min_ntime`, oldest first.
    future: VecDeque<(JobId, T)>,
    /// Oldest first; the last one is active, the [`PAST_JOBS`] before it can earn, and what is older may still be blocks.
    open: VecDeque<(JobId, T)>,
    /// What was open at the tip before. On the heap, because every connection has this field and few ask for it.
    former: Option<Box<Former<T>>>,
    /// The activation of the oldest job in `open`.
    oldest: Activation,
    /// All ids that were ever here are below this one; a bound takes half the room of an id that may be missing.
    handed_out: JobId,
    /// What that was when the last channel was closed.
    told: JobId,
}

/// The jobs of the tip before.
#[derive(Debug)]
struct Former<T> {
    /// Oldest first.
    jobs: VecDeque<(JobId, T)>,
    /// The activation of the oldest.
    oldest: Activation,
    /// Those jobs whose block has been found when they could no longer earn; some may be of the present tip.
    found: Vec<JobId>,
}

impl<T> Default for Former<T> {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), oldest: Activation::default(), found: Vec::new() }
    }
}

/// What is known about a job id that a share names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a, T> {
    /// The job can earn.
    Open {
        /// The job.
        job: &'a T,
        /// When it became active, which decides the target that it is judged by.
        activation: Activation,
    },
    /// The job was superseded by a new tip or by too many newer jobs.
    Stale,
    /// The id was never handed out, or its job waits for a tip that has not come.
    Unknown,
}

impl<T> Default for JobTable<T> {
    fn default() -> Self {
        let (future, open) = (VecDeque::new(), VecDeque::new());
        let none = JobId(0);
        Self { future, open, former: None, oldest: Activation::default(), handed_out: none, told: none }
    }
}

impl<T> JobTable<T> {
    /// A future job was sent (`min_ntime` empty); it cannot earn until [`Self::set_tip`] names it.
    pub fn announce(&mut self, id: JobId, job: T) {
        if self.future.len() == FUTURE_JOBS {
            self.future.pop_front();
        }
        self.future.push_back((id, job));
        self.handed_out = self.handed_out.max(above(id));
    }

    /// `SetNewPrevHash` was sent for an announced job: it is active, and no other job can earn any more (spec 5.3.17).
    ///
    /// Answers `None`, and changes nothing, if no such job waits.
    pub fn set_tip(&mut self, id: JobId) -> Option<Activation> {
        let index = self.future.iter().position(|&(future, _)| future == id)?;
        let job = self.future.swap_remove_back(index)?;
        self.future.clear();
        self.leave_tip();
        self.open.push_back(job);
        Some(self.oldest)
    }

    /// There is another tip, but no job on it yet: none can earn any more, and the future ones wait for nothing.
    pub fn end_tip(&mut self) {
        self.future.clear();
        self.leave_tip();
    }

    /// What was open is former from now on.
    fn leave_tip(&mut self) {
        let (next, oldest) = (self.next_activation(), self.oldest);
        let jobs = core::mem::take(&mut self.open);
        let mut found = self.former.take().map(|former| former.found).unwrap_or_default();
        found.retain(|&id| jobs.iter().any(|&(former, _)| former == id));
        self.former = Some(Box::new(Former { jobs, oldest, found }));
        self.oldest = next;
    }

    /// A job of the present tip was sent (`min_ntime` set): it is active, and the one before it is a past job.
    pub fn activate(&mut self, id: JobId, job: T) -> Activation {
        if self.open.len() > PAST_JOBS + LATE_JOBS {
            self.pop_oldest();
        }
        let activation = self.next_activation();
        self.open.push_back((id, job));
        self.handed_out = self.handed_out.max(above(id));
        activation
    }

    /// What a share on job `id` can hope for.
    #[must_use]
    pub fn lookup(&self, id: JobId) -> Lookup<'_, T> {
        // Shares are nearly always on the newest job.
        let found = self.open.iter().enumerate().skip(self.late()).rfind(|&(_, &(open, _))| open == id);
        if let Some((place, (_, job))) = found {
            return Lookup::Open { job, activation: Activation(self.oldest.0 + place as u64) };
        }
        let waits = self.future.iter().any(|&(future, _)| future == id);
        if id < self.handed_out && !waits { Lookup::Stale } else { Lookup::Unknown }
    }

    /// A job that could earn until the present tip or too many newer jobs came, and when it became active; a share on it earns nothing, but
    /// may still be a block.
    #[must_use]
    pub fn former(&self, id: JobId) -> Option<(Activation, &T)> {
        let place_in = |mut jobs: Iter<'_, (JobId, T)>| jobs.position(|&(former, _)| former == id);
        let (jobs, oldest, place) = match place_in(self.open.iter()) {
            Some(place) if place < self.late() => (&self.open, self.oldest, place),
            Some(_) => return None,
            None => {
                let former = self.former.as_ref()?;
                (&former.jobs, former.oldest, place_in(former.jobs.iter())?)
            }
        };
        let is_found = self.former.as_ref().is_some_and(|former| former.found.contains(&id));
        let (_, job) = jobs.get(place).filter(|_| !is_found)?;
        Some((Activation(oldest.0 + place as u64), job))
    }

    /// The block of that former job has been found, so there is nothing more to look for in it.
    pub fn forget_former(&mut self, id: JobId) {
        if self.former(id).is_none() {
            return;
        }
        let former = self.former.get_or_insert_default();
        former.found.retain(|&found| {
            let is_it = |&(held, _): &(JobId, T)| held == found;
            former.jobs.iter().any(is_it) || self.open.iter().any(is_it)
        });
        former.found.push(id);
    }

    /// The oldest of the jobs that are held, unless it is the active one: what [`Self::drop_oldest`] would drop.
    #[must_use]
    pub fn oldest_spare(&self) -> Option<JobId> {
        let former = self.former.as_ref().and_then(|former| former.jobs.front());
        former.or_else(|| self.open.front().filter(|_| self.open.len() > 1)).map(|&(id, _)| id)
    }

    /// Drops the oldest of the jobs that are held but for the active one, where memory is short; shares on it are stale from now on.
    pub fn drop_oldest(&mut self) {
        if let Some(former) = &mut self.former
            && former.jobs.pop_front().is_some()
        {
            former.oldest = former.oldest.next();
        } else if self.open.len() > 1 {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if self.open.pop_front().is_some() {
            self.oldest = self.oldest.next();
        }
    }

    /// How many of the jobs of the present tip earn no more.
    fn late(&self) -> usize {
        self.open.len().saturating_sub(PAST_JOBS + 1)
    }

    /// The job that miners work on, and when it became active.
    #[must_use]
    pub fn active(&self) -> Option<(Activation, &T)> {
        let (_, job) = self.open.back()?;
        Some((Activation(self.oldest.0 + self.open.len() as u64 - 1), job))
    }

    /// The activation of the oldest job that can still earn.
    #[must_use]
    pub fn oldest_activation(&self) -> Activation {
        Activation(self.oldest.0 + self.late() as u64)
    }

    /// The activation of the oldest job of the present tip that may still be a block.
    #[must_use]
    pub const fn oldest_held(&self) -> Activation {
        self.oldest
    }

    /// The activation that the next job to become active will have.
    #[must_use]
    pub fn next_activation(&self) -> Activation {
        Activation(self.oldest.0 + self.open.len() as u64)
    }

    /// Forgets the past jobs, because no channel that could name them is left.
    pub fn forget_past(&mut self) {
        while self.open.len() > 1 {
            self.pop_oldest();
        }
        self.open.shrink_to_fit();
        self.former = None;
        self.told = self.handed_out;
    }

    /// The first channel is about to be told of the active job and, where there is one, of the future job `ahead`. Jobs that came and went
    /// while there was no channel were never handed out.
    pub fn forget_untold(&mut self, ahead: Option<JobId>) {
        let active = self.open.back().map(|&(id, _)| id);
        self.handed_out = active.into_iter().chain(ahead).map(above).fold(self.told, Ord::max);
    }
}

/// The id behind this one; nobody comes as far as the last one.
fn above(id: JobId) -> JobId {
    JobId(id.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(table: &JobTable<&'static str>, id: u32) -> Option<&'static str> {
        match table.lookup(JobId(id)) {
            Lookup::Open { job, .. } => Some(*job),
            Lookup::Stale | Lookup::Unknown => None,
        }
    }

    #[test]
    fn a_future_job_earns_only_once_its_tip_has_come() {
        let mut table = JobTable::default();
        table.announce(JobId(1), "future");
        assert_eq!(table.lookup(JobId(1)), Lookup::Unknown);
        assert_eq!(table.set_tip(JobId(2)), None);
        assert!(table.set_tip(JobId(1)).is_some());
        assert_eq!(open(&table, 1), Some("future"));
        assert_eq!(table.set_tip(JobId(1)), None, "no longer a future job");
    }

    #[test]
    fn past_jobs_of_the_tip_earn_and_older_ones_are_stale() {
        let mut table = JobTable::default();
        table.announce(JobId(1), "tip");
        table.set_tip(JobId(1)).unwrap();
        for id in 2..=17 {
            table.activate(JobId(id), "refresh");
        }
        assert_eq!(open(&table, 1), Some("tip"), "{PAST_JOBS} past jobs and the active one");
        table.activate(JobId(18), "refresh");
        assert_eq!(table.lookup(JobId(1)), Lookup::Stale);
        assert_eq!(open(&table, 2), Some("refresh"));
        assert_eq!(table.lookup(JobId(19)), Lookup::Unknown);
    }

    #[test]
    fn a_block_on_a_job_that_newer_ones_had_pushed_out_was_not_looked_for() {
        let mut table = JobTable::default();
        let held = u32::try_from(PAST_JOBS + 1 + LATE_JOBS).unwrap();
        for id in 1..=held {
            table.activate(JobId(id), "job");
        }
        let late = |table: &JobTable<&'static str>, id| table.former(JobId(id)).map(|(at, _)| at.0);
        assert_eq!((table.lookup(JobId(1)), late(&table, 1)), (Lookup::Stale, Some(0)));
        let first_open = u32::try_from(LATE_JOBS).unwrap() + 1;
        assert_eq!((open(&table, first_open), late(&table, first_open)), (Some("job"), None));
        assert_eq!(table.oldest_activation().0, u64::from(first_open) - 1);
        table.forget_former(JobId(2));
        assert_eq!((late(&table, 1), late(&table, 2), late(&table, 3)), (Some(0), None, Some(2)));
        table.activate(JobId(held + 1), "job");
        assert_eq!((late(&table, 1), late(&table, 3)), (None, Some(2)), "no more are held");
        table.end_tip();
        assert_eq!(
            (late(&table, 2), late(&table, 3), late(&table, held)),
            (None, Some(2), Some(u64::from(held) - 1))
        );
        assert_eq!(table.next_activation().0, u64::from(held) + 1);
    }

    #[test]
    fn the_oldest_jobs_go_first_and_the_active_one_stays() {
        let mut table = JobTable::default();
        for id in 1..=3 {
            table.activate(JobId(id), "before");
        }
        table.end_tip();
        for id in 4..=6 {
            table.activate(JobId(id), "now");
        }
        let mut dropped = Vec::new();
        while let Some(id) = table.oldest_spare() {
            dropped.push(id.0);
            table.drop_oldest();
            assert!(table.former(id).is_none());
            assert_eq!(table.lookup(id), Lookup::Stale);
        }
        assert_eq!(dropped, [1, 2, 3, 4, 5]);
        table.drop_oldest();
        let activation = Activation(5);
        assert_eq!(table.lookup(JobId(6)), Lookup::Open { job: &"now", activation });
    }

    #[test]
    fn a_new_tip_makes_every_other_job_stale() {
        let mut table = JobTable::default();
        table.announce(JobId(1), "tip");
        table.set_tip(JobId(1)).unwrap();
        table.announce(JobId(2), "never used");
        table.announce(JobId(3), "next tip");
        table.activate(JobId(4), "refresh");
        table.set_tip(JobId(3)).unwrap();
        for stale in [1, 2, 4] {
            assert_eq!(table.lookup(JobId(stale)), Lookup::Stale, "{stale}");
        }
        assert_eq!(open(&table, 3), Some("next tip"));
        assert_eq!(table.lookup(JobId(5)), Lookup::Unknown);
        let former =
            |table: &JobTable<&'static str>, id| table.former(JobId(id)).map(|(at, job)| (at.0, *job));
        assert_eq!(former(&table, 1), Some((0, "tip")), "may still be a block");
        assert_eq!(former(&table, 4), Some((1, "refresh")), "and when each became active is known");
        assert_eq!(former(&table, 2), None, "nobody worked on it");
        table.forget_former(JobId(1));
        assert_eq!((former(&table, 1), former(&table, 4)), (None, Some((1, "refresh"))));
        table.announce(JobId(6), "tip after that");
        table.set_tip(JobId(6)).unwrap();
        assert_eq!((former(&table, 4), former(&table, 3)), (None, Some((2, "next tip"))));
    }

    #[test]
    fn what_came_and_went_unheard_was_never_handed_out() {
        let mut table = JobTable::default();
        table.announce(JobId(2), "heard by a channel");
        table.set_tip(JobId(2)).unwrap();
        table.forget_past();
        table.activate(JobId(5), "heard by nobody");
        table.announce(JobId(4), "an older number, on a new tip");
        table.set_tip(JobId(4)).unwrap();
        assert_eq!(table.lookup(JobId(5)), Lookup::Stale);
        table.forget_untold(None);
        assert_eq!(
            [5, 3, 1].map(|id| table.lookup(JobId(id))),
            [Lookup::Unknown, Lookup::Stale, Lookup::Stale]
        );
        assert_eq!(open(&table, 4), Some("an older number, on a new tip"));
        table.forget_untold(Some(JobId(6)));
        assert_eq!([7, 5].map(|id| table.lookup(JobId(id))), [Lookup::Unknown, Lookup::Stale]);
    }

    #[test]
    fn future_jobs_are_limited() {
        let mut table = JobTable::default();
        for id in 1..=5 {
            table.announce(JobId(id), "future");
        }
        assert_eq!(table.lookup(JobId(1)), Lookup::Stale, "pushed out by the fifth");
        assert_eq!(table.set_tip(JobId(1)), None);
        assert!(table.set_tip(JobId(2)).is_some());
    }

    /// The same rules, told as a list of all jobs there ever were.
    #[derive(Default)]
    struct Model {
        jobs: Vec<(u32, State)>,
        active: Vec<u32>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum State {
        Future,
        Open,
        Gone,
    }

    impl Model {
        fn put(&mut self, id: u32, state: State) {
            self.jobs.retain(|&(known, _)| known != id);
            self.jobs.push((id, state));
        }

        fn in_state(&self, state: State) -> Vec<u32> {
            self.jobs.iter().filter(|&&(_, s)| s == state).map(|&(id, _)| id).collect()
        }

        fn limit(&mut self, state: State, most: usize) {
            let ids = self.in_state(state);
            for &id in ids.iter().take(ids.len().saturating_sub(most)) {
                self.put_in_place(id, State::Gone);
            }
        }

        fn put_in_place(&mut self, id: u32, state: State) {
            for job in self.jobs.iter_mut().filter(|job| job.0 == id) {
                job.1 = state;
            }
        }

        fn set_tip(&mut self, id: u32) -> bool {
            if !self.in_state(State::Future).contains(&id) {
                return false;
            }
            for job in &mut self.jobs {
                job.1 = State::Gone;
            }
            self.put(id, State::Open);
            self.active.push(id);
            true
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_all_jobs(steps in prop::collection::vec((0_u8..3, 0_u32..6), 0..120)) {
            let (mut table, mut model, mut last) = (JobTable::default(), Model::default(), 0);
            for (kind, back) in steps {
                match kind {
                    0 => {
                        last += 1;
                        table.announce(JobId(last), last);
                        model.put(last, State::Future);
                        model.limit(State::Future, FUTURE_JOBS);
                    }
                    1 => {
                        let id = last.saturating_sub(back);
                        prop_assert_eq!(table.set_tip(JobId(id)).is_some(), model.set_tip(id));
                    }
                    _ => {
                        last += 1;
                        table.activate(JobId(last), last);
                        model.put(last, State::Open);
                        model.active.push(last);
                        model.limit(State::Open, PAST_JOBS + 1);
                    }
                }
                for &(id, state) in &model.jobs {
                    match (table.lookup(JobId(id)), state) {
                        (Lookup::Open { job, activation }, State::Open) => {
                            prop_assert_eq!(*job, id);
                            let place = usize::try_from(activation.0).unwrap();
                            prop_assert_eq!(model.active[place], id);
                        }
                        (Lookup::Stale, State::Gone) | (Lookup::Unknown, State::Future) => {}
                        (found, state) => prop_assert!(false, "job {} is {:?}, found {:?}", id, state, found),
                    }
                }
                prop_assert_eq!(table.lookup(JobId(last + 1)), Lookup::Unknown);
            }
        }
    }
}

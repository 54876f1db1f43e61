//! The time that a machine is told with a job: a later one each time that it gets the same job.

use core::time::Duration;

use adit_units::Monotonic;

use crate::job::{Route, Sv1Job};

/// How much later it is at the least.
const STEP: Duration = Duration::from_secs(1);

/// The time that was told last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The job that it was told with, under whatever number.
    route: Route,
    ntime: u32,
    at: Monotonic,
}

impl Told {
    /// What is to be told with `job`, after what was told `last`.
    ///
    /// Much firmware begins its search anew with each notify, and would find the same shares again if the same job came with the same time. So
    /// time goes on as it has passed here: a clock that the host sets may be hours off.
    pub(super) fn next(last: Option<Self>, job: &Sv1Job, now: Monotonic) -> Self {
        let (route, first) = (job.route(), job.ntime());
        let ntime = last.filter(|last| last.route == route).map_or(first, |last| {
            let passed = now.saturating_since(last.at).max(STEP).as_secs();
            let later = last.ntime.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
            later.clamp(first, job.latest_ntime())
        });
        Self { route, ntime, at: now }
    }

    /// In seconds since 1970.
    pub(super) const fn ntime(&self) -> u32 {
        self.ntime
    }
}

//! When shares go up together: whoever brings one at that time says so, and nobody has to wake up just to look at a clock.

use std::sync::atomic::{AtomicU64, Ordering};

use adit_units::Monotonic;
use tokio::sync::Notify;

/// No departure is planned.
const NONE: u64 = u64::MAX;

/// The time from which on a link wants to be told of the next share.
#[derive(Debug)]
pub(super) struct Departure {
    /// In microseconds, as [`Monotonic`] counts them.
    due: AtomicU64,
    come: Notify,
}

impl Default for Departure {
    fn default() -> Self {
        Self { due: AtomicU64::new(NONE), come: Notify::new() }
    }
}

impl Departure {
    /// Shares that come before `due` are not told of; none is without a time.
    pub(super) fn plan(&self, due: Option<Monotonic>) {
        self.due.store(due.map_or(NONE, Monotonic::to_micros), Ordering::Relaxed);
    }

    /// A share has come. The first one at the planned time or later is told of, and no other.
    pub(super) fn handle_share(&self, now: Monotonic) {
        let due = self.due.load(Ordering::Relaxed);
        let is_first = due <= now.to_micros()
            && self.due.compare_exchange(due, NONE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_first {
            self.come.notify_one();
        }
    }

    /// Waits until a share has come at the planned time or later. Cancel safe.
    pub(super) async fn come(&self) {
        self.come.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn the_first_share_that_comes_in_time_is_told_of() {
        let departure = Departure::default();
        let start = Monotonic::default();
        let [early, due, late] = [1, 2, 3].map(|millis| start + Duration::from_millis(millis));
        let mut waits = task::spawn(departure.come());
        departure.handle_share(late);
        assert_pending!(waits.poll(), "nothing is planned");
        departure.plan(Some(due));
        departure.handle_share(early);
        assert!(!waits.is_woken());
        departure.handle_share(due);
        assert!(waits.is_woken());
        assert_ready!(waits.poll());
        drop(waits);

        let mut waits = task::spawn(departure.come());
        departure.handle_share(late);
        assert_pending!(waits.poll(), "one is enough");
        departure.plan(Some(due));
        departure.plan(None);
        departure.handle_share(late);
        assert_pending!(waits.poll());
    }
}

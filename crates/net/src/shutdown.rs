//! Graceful shutdown: one side says it once, the other side finishes what it promised.
//!
//! One bulletin does both halves. Its value is the signal; its number of readers is the number of those who are not done yet.

use crate::{Bulletin, Reader};

/// The side that decides; dropping it counts as deciding.
#[derive(Debug)]
pub struct Shutdown {
    begun: Bulletin<bool>,
}

/// The side that obeys: held by everything that has to finish before the program may end.
#[derive(Clone, Debug)]
pub struct Draining {
    begun: Reader<bool>,
}

impl Shutdown {
    /// A shutdown that has not begun, and the first one who waits for it.
    #[must_use]
    pub fn new() -> (Self, Draining) {
        let begun = Bulletin::new(false);
        let draining = Draining { begun: begun.reader() };
        (Self { begun }, draining)
    }

    /// Another one who waits for it.
    #[must_use]
    pub fn draining(&self) -> Draining {
        Draining { begun: self.begun.reader() }
    }

    /// Tells all of them; telling again changes nothing.
    pub fn begin(&self) {
        self.begun.modify(|begun| *begun = true);
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until every [`Draining`] is dropped. Cancel safe.
    pub async fn finished(&self) {
        self.begun.unread().await;
    }
}

impl Draining {
    /// Waits until the shutdown has begun. Cancel safe; returns at once when it has.
    pub async fn begun(&mut self) {
        // That the deciding side is gone is a decision too, and tells of itself.
        while !self.has_begun() && self.begun.changed().await.is_ok() {}
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow() || self.begun.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_last_one_is_done() {
        let (shutdown, mut first) = Shutdown::new();
        let mut second = first.clone();
        assert!(!first.has_begun());
        assert!(timeout(Duration::from_secs(1), first.begun()).await.is_err());
        let worker = tokio::spawn(async move {
            second.begun().await;
            sleep(Duration::from_secs(3)).await;
        });
        shutdown.begin();
        assert!(shutdown.has_begun() && first.has_begun());
        first.begun().await;
        first.begun().await;
        drop(first);
        assert!(timeout(Duration::from_secs(2), shutdown.finished()).await.is_err(), "one is still at it");
        shutdown.finished().await;
        worker.await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_decision_is_one() {
        let (shutdown, mut draining) = Shutdown::new();
        drop(shutdown);
        draining.begun().await;
        assert!(draining.has_begun());
    }
}

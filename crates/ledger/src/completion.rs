//! How a connection learns that its records are on stable storage, without waking any other connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// What both ends share: a count that only grows, and the one task to wake.
#[derive(Debug, Default)]
struct Shared {
    durable: AtomicU64,
    grown: Notify,
}

/// The log's end: counts the records of one connection that are on stable storage.
///
/// A clone goes along with every batch that the connection appends.
#[derive(Clone, Debug)]
pub struct Durable(Arc<Shared>);

/// The connection's end: waits until more of its records are on stable storage.
#[derive(Debug)]
pub struct DurableWatch {
    shared: Arc<Shared>,
    seen: u64,
}

/// The two ends of a new connection's count, which starts at zero.
#[must_use]
pub fn completion() -> (Durable, DurableWatch) {
    let shared = Arc::new(Shared::default());
    (Durable(Arc::clone(&shared)), DurableWatch { shared, seen: 0 })
}

impl Durable {
    /// Says that the next `records` records of this connection, in the order of its appends, are on stable storage.
    pub fn advance(&self, records: u64) {
        self.0.durable.fetch_add(records, Ordering::Release);
        self.0.grown.notify_one();
    }
}

impl DurableWatch {
    /// Waits until the count has grown since the last call, and returns it: so many records of this connection, counted from
    /// its first append, are on stable storage.
    ///
    /// Nothing is lost when the future is dropped. It stays pending for ever once the log has stopped; the log's outcome says so.
    pub async fn changed(&mut self) -> u64 {
        loop {
            let durable = self.durable();
            if durable > self.seen {
                self.seen = durable;
                return durable;
            }
            self.shared.grown.notified().await;
        }
    }

    /// The count as it stands.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use core::task::Poll;

    use tokio_test::task::spawn;

    use super::*;

    #[test]
    fn only_the_connection_that_waits_for_the_record_wakes() {
        let ((first, mut first_watch), (_second, mut second_watch)) = (completion(), completion());
        let (mut one, mut other) = (spawn(first_watch.changed()), spawn(second_watch.changed()));
        assert_eq!((one.poll(), other.poll()), (Poll::Pending, Poll::Pending));
        first.advance(3);
        assert!(one.is_woken() && !other.is_woken());
        assert_eq!(one.poll(), Poll::Ready(3));
    }

    #[tokio::test]
    async fn growth_before_during_and_after_a_wait_is_seen_once() {
        let (durable, mut watch) = completion();
        durable.advance(1);
        durable.clone().advance(2);
        assert_eq!(watch.changed().await, 3);
        tokio::select! {
            biased;
            count = watch.changed() => panic!("the count stayed at 3, yet {count} was reported"),
            () = std::future::ready(()) => {}
        }
        let waiter = tokio::spawn(async move { watch.changed().await });
        tokio::task::yield_now().await;
        durable.advance(4);
        assert_eq!(waiter.await.unwrap(), 7);
    }
}

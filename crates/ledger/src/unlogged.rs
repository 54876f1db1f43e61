//! A share log that keeps nothing, for those whose shares somebody further up writes down.

use std::sync::Arc;

use adit_channel::ShareRecord;
use tokio::sync::watch;

use crate::log::{LogFailure, LogOutcome};
use crate::{Durable, LogClosed, ShareSink};

/// Counts every record at once. What is acknowledged then is promised by nobody but the process itself.
#[derive(Clone, Debug)]
pub struct Unlogged {
    /// Dropped with the last handle.
    _end: Arc<End>,
}

/// Says that the log has ended.
#[derive(Debug)]
struct End(watch::Sender<Option<Result<(), LogFailure>>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_replace(Some(Ok(())));
    }
}

impl Unlogged {
    /// A log, and what tells that all its handles were dropped.
    #[must_use]
    pub fn open() -> (Self, LogOutcome) {
        let (ended, outcome) = watch::channel(None);
        (Self { _end: Arc::new(End(ended)) }, LogOutcome::new(outcome))
    }
}

impl ShareSink for Unlogged {
    async fn append(&self, records: &[ShareRecord], done: &Durable) -> Result<(), LogClosed> {
        done.advance(records.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion;
    use crate::test_records::record;

    #[tokio::test]
    async fn records_count_at_once_and_the_log_ends_with_its_last_handle() {
        let (log, mut outcome) = Unlogged::open();
        let (done, watch) = completion();
        log.append(&[record(1), record(2)], &done).await.unwrap();
        assert_eq!(watch.durable(), 2);
        let other = log.clone();
        drop(log);
        other.append(&[record(3)], &done).await.unwrap();
        drop(other);
        assert!(outcome.wait().await.is_ok());
        assert_eq!(watch.durable(), 3);
    }
}

//! Connections that come, open their channels and leave, at a steady pace beside everybody else.

use core::num::NonZeroU32;
use core::time::Duration;
use std::sync::Arc;

use adit_net::{Bulletin, Clock};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::client::Run;
use super::crowd::{ANSWER_PATIENCE, Step, follow};
use super::report::Visits;
use super::{Plan, sleep_until};

/// Visits under way, and what has come of those that are over.
pub(super) struct Visitors {
    run: Arc<Run>,
    end: watch::Sender<bool>,
    /// Ends with how many have set out.
    host: JoinHandle<u64>,
}

impl Visitors {
    /// Has `rate` visitors a second set out from now on.
    pub(super) fn start(plan: &Plan, rate: NonZeroU32) -> Self {
        let run = Arc::new(Run::new(plan.clone(), false));
        let (end, ended) = watch::channel(false);
        let host = tokio::spawn(invite(Arc::clone(&run), rate, ended));
        Self { run, end, host }
    }

    /// Invites nobody any more, and sees those out that are under way.
    pub(super) async fn end(self) -> Visits {
        self.end.send_replace(true);
        let set_out = self.host.await.unwrap_or(0);
        Visits::new(set_out, &self.run.tally())
    }
}

/// Sends visitors off, one after the other and whatever becomes of the earlier ones; how many there were.
async fn invite(run: Arc<Run>, rate: NonZeroU32, mut ended: watch::Receiver<bool>) -> u64 {
    let steps = Bulletin::new(Step::Open);
    let (mut visitors, start, mut count) = (JoinSet::new(), Clock.monotonic(), 0_u64);
    loop {
        let due = start + Duration::from_micros(count * 1_000_000 / u64::from(rate.get()));
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => break,
            Some(_) = visitors.join_next() => {}
            () = sleep_until(due) => {
                count += 1;
                visitors.spawn(follow(Arc::clone(&run), 0, steps.reader()));
            }
        }
    }
    // Those that take longer are cut off, and count as visitors that never got work.
    let _ = timeout(ANSWER_PATIENCE, async { while visitors.join_next().await.is_some() {} }).await;
    count
}

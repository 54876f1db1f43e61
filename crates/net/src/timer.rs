//! One timer per task, moved as deadlines move.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use adit_units::Monotonic;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use crate::Clock;

/// Wakes a task at a deadline that moves often.
///
/// A deadline that moves away does not touch the runtime's timers: the timer then wakes once too early, and the task looks, finds
/// nothing due and sleeps on. So a task whose deadlines are pushed back with every message pays for a timer only when one is near.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When `sleep` ends; never after the deadline that was asked for last, unless there is none.
    armed: Option<Monotonic>,
    /// The task that it wakes then.
    waits: Option<Waker>,
}

impl Timer {
    /// Sees to it that [`Self::fired`] returns at `deadline` or before; `None` leaves nothing to wait for, and takes no memory.
    pub fn set(&mut self, deadline: Option<Monotonic>) {
        let Some(deadline) = deadline else {
            *self = Self::default();
            return;
        };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        let instant = Clock.instant(deadline);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(instant),
            none => *none = Some(Box::pin(sleep_until(instant))),
        }
        (self.armed, self.waits) = (Some(deadline), None);
    }

    /// Waits until the deadline; for ever without one. Cancel safe. Afterwards no deadline is set.
    pub async fn fired(&mut self) {
        poll_fn(|cx| self.poll_fired(cx)).await;
    }

    /// [`Self::fired`] for a hand-written future.
    pub(crate) fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(sleep), Some(armed)) = (&mut self.sleep, self.armed) else { return Poll::Pending };
        let is_known = self.waits.as_ref().is_some_and(|waits| waits.will_wake(cx.waker()));
        // A look at the clock costs less than one at the runtime's entry, which is cold when thousands of tasks wake for something else.
        if is_known && Clock.monotonic() < armed {
            return Poll::Pending;
        }
        // A task that has used up its turn is told to come again before the entry is looked at, and would be taken for one that waits there.
        if pin!(unconstrained(sleep.as_mut())).poll(cx).is_pending() {
            if !is_known {
                self.waits = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        (self.armed, self.waits) = (None, None);
        Poll::Ready(())
    }
}

/// What `future` comes to without waiting, or `None` where it would wait; it is dropped then.
///
/// For a task that finds a deadline passed: a process that was stopped for a while finds that together with what its peer has said in time,
/// and the peer is to be heard before it is judged. The runtime looks at its sockets before `future` does.
pub async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    yield_now().await;
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::coop::consume_budget;
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits as a task does: sets the same deadline again when woken too early.
    async fn wait(timer: &mut Timer, deadline: Monotonic) -> u32 {
        let mut wakeups = 0;
        while Clock.monotonic() < deadline {
            timer.set(Some(deadline));
            timer.fired().await;
            wakeups += 1;
        }
        wakeups
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let mut timer = Timer::default();
        let start = Clock.monotonic();
        timer.set(Some(start + 9 * SECOND));
        timer.set(Some(start + 2 * SECOND));
        timer.fired().await;
        assert!((Clock.monotonic() - start).abs_diff(2 * SECOND) < SECOND / 10, "sooner takes effect");
        timer.set(Some(start + 4 * SECOND));
        assert_eq!(wait(&mut timer, start + 6 * SECOND).await, 2, "later costs one wake-up too early");
        assert!((Clock.monotonic() - start).abs_diff(6 * SECOND) < SECOND / 10);
    }

    fn use_up_turn(cx: &mut Context<'_>) {
        while pin!(consume_budget()).poll(cx).is_ready() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_had_used_up_its_turn_did_not_wake() {
        let busy = tokio::spawn(async {
            let mut timer = Timer::default();
            timer.set(Some(Clock.monotonic() + SECOND));
            let first = poll_fn(|cx| {
                use_up_turn(cx);
                Poll::Ready(timer.poll_fired(cx))
            });
            assert!(first.await.is_pending());
            timer.fired().await;
        });
        timeout(5 * SECOND, busy).await.expect("it wakes at its deadline").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_that_waits_last_wakes() {
        let mut timer = Timer::default();
        timer.set(Some(Clock.monotonic() + 5 * SECOND));
        assert!(timeout(SECOND, timer.fired()).await.is_err());
        let mut other = tokio::spawn(async move {
            timer.fired().await;
            Clock.monotonic()
        });
        assert!(timeout(2 * SECOND, &mut other).await.is_err(), "it was moved, and is not due");
        let before = Clock.monotonic();
        assert!(other.await.unwrap() - before < 3 * SECOND);
    }

    #[tokio::test]
    async fn what_is_there_is_had_at_once_and_nothing_is_waited_for() {
        let (mut ours, mut theirs) = tokio::io::duplex(8);
        let mut byte = [0];
        assert!(at_once(ours.read_exact(&mut byte)).await.is_none());
        theirs.write_all(&[7]).await.unwrap();
        assert_eq!(at_once(ours.read_exact(&mut byte)).await.map(Result::unwrap), Some(1));
        assert_eq!(byte, [7]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_it_sleeps() {
        let mut timer = Timer::default();
        assert!(timeout(100 * SECOND, timer.fired()).await.is_err());
        timer.set(Some(Clock.monotonic() + SECOND));
        timer.set(None);
        assert!(timeout(100 * SECOND, timer.fired()).await.is_err());
        timer.set(Some(Clock.monotonic()));
        timer.fired().await;
        assert!(timeout(100 * SECOND, timer.fired()).await.is_err(), "it fires once");
    }
}

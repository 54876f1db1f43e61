//! A crowd of connections that follow the steps of a run together, whatever they speak.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_net::{Bulletin, Clock, Reader, Timer};
use adit_units::Monotonic;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::LoadError;
use super::figures::per_second;
use super::tally::Tally;

/// How long the last shares have to be answered, and news to reach everybody.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How long connections have to hear of something that is no step.
const HEARING: Duration = Duration::from_millis(50);

/// What a connection says that outlives its run.
const BROKEN_OFF: &str = "the run was broken off";

/// How far a run has come; connections follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Connect and wait.
    Greet,
    /// Get work, and hear of what is new.
    Open,
    /// Submit shares.
    Mine,
    /// Submit nothing more, and hear what became of the last shares.
    Rest,
    /// Close.
    Leave,
}

/// Why a connection ended before its time.
pub(super) type Lost = String;

/// One connection as its crowd sees it.
pub(super) trait Member: Sized + Send + 'static {
    /// What all of them are told.
    type Plan: Send + Sync + 'static;

    /// What several of them are called.
    const MANY: &'static str;

    /// How many may hold a turn ([`Run::turn`]) at once.
    const DOOR: usize;

    /// Connects, and says nothing more before [`Self::settle`]; `place` is its number among all, from zero.
    fn connect(run: Arc<Run<Self>>, place: usize) -> impl Future<Output = Result<Self, Lost>> + Send;

    /// Does what the step asks for at this moment and hands it to the socket; whether there is more to be done at once.
    fn settle(&mut self, step: Step) -> Result<bool, Lost>;

    /// Whether it has come to have work.
    fn has_work(&self) -> bool;

    /// When its next share is due, if shares are paced.
    fn due(&self) -> Option<Monotonic>;

    /// Waits for the socket and takes in what has come. Cancel safe.
    fn io(&mut self) -> impl Future<Output = Result<(), Lost>> + Send;

    /// What it is connected by.
    fn socket(&self) -> &TcpStream;

    /// Ends in order.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What all connections of a run share.
pub(super) struct Run<M: Member> {
    pub(super) plan: M::Plan,
    tally: Mutex<Tally>,
    door: Arc<Semaphore>,
    /// Posted before each piece of news that is timed.
    calm: Bulletin<()>,
    /// Whether connections stay until they are told to leave, and do not leave as soon as they have work.
    stays: bool,
}

impl<M: Member> Run<M> {
    pub(super) fn new(plan: M::Plan, stays: bool) -> Self {
        let (tally, door) = (Mutex::default(), Arc::new(Semaphore::new(M::DOOR)));
        Self { plan, tally, door, calm: Bulletin::new(()), stays }
    }

    /// The counts; a connection that panicked leaves them as good as they were.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place among those that may be on their way at once.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, Lost> {
        Arc::clone(&self.door).acquire_owned().await.map_err(|_| BROKEN_OFF.to_owned())
    }
}

/// Follows the run's steps with one connection; `place` is its number among all, from zero.
pub(super) async fn follow<M: Member>(run: Arc<Run<M>>, place: usize, steps: Reader<Step>) {
    if let Err(lost) = live(&run, place, steps).await {
        run.tally().fail(lost);
    }
}

async fn live<M: Member>(run: &Arc<Run<M>>, place: usize, mut steps: Reader<Step>) -> Result<(), Lost> {
    let gone = |_| BROKEN_OFF.to_owned();
    let mut member = M::connect(Arc::clone(run), place).await?;
    run.tally().greeted += 1;
    let mut step = *steps.borrow_and_update();
    while step < Step::Open {
        steps.changed().await.map_err(gone)?;
        step = *steps.borrow_and_update();
    }
    let (mut timer, mut calm) = (Timer::default(), run.calm.reader());
    while step < Step::Leave {
        let has_more = member.settle(step)?;
        if member.has_work() && !run.stays {
            break;
        }
        timer.set(member.due().filter(|_| step == Step::Mine));
        tokio::select! {
            biased;
            changed = steps.changed() => {
                changed.map_err(gone)?;
                step = *steps.borrow_and_update();
            }
            () = timer.fired() => {}
            Ok(()) = calm.changed() => acknowledge_late(member.socket())?,
            done = member.io() => done?,
            // Only after the socket was asked, so that shares and answers keep step.
            () = yield_now(), if has_more => {}
        }
    }
    member.close().await;
    Ok(())
}

/// Has the kernel acknowledge what is overdue now, and what comes next only after a while.
///
/// A kernel acknowledges at once what comes after a rest. Between two machines that is work for another moment; over loopback the sender's
/// processor does it for both ends, within the call that sends, and a message to thousands of connections takes half as long again.
fn acknowledge_late(socket: &TcpStream) -> Result<(), Lost> {
    #[cfg(target_os = "linux")]
    for at_once in [true, false] {
        socket.set_quickack(at_once).map_err(|error| error.to_string())?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

/// Keeps the thread from going to sleep: over loopback, to wake it is work for the call that sends.
async fn stay_awake() -> Infallible {
    loop {
        yield_now().await;
    }
}

/// Sees `work` through, and never sleeps meanwhile if the thread is to stay `awake`.
pub(super) async fn see_through<T>(awake: bool, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = stay_awake(), if awake => match never {},
    }
}

/// Connections with one run to follow.
pub(super) struct Crowd<M: Member> {
    pub(super) run: Arc<Run<M>>,
    pub(super) steps: Bulletin<Step>,
    members: JoinSet<()>,
}

impl<M: Member> Crowd<M> {
    /// Nobody yet; those who come begin with that step.
    pub(super) fn new(plan: M::Plan, step: Step) -> Self {
        Self { run: Arc::new(Run::new(plan, true)), steps: Bulletin::new(step), members: JoinSet::new() }
    }

    /// Lets connections come until there are `count`.
    pub(super) fn grow(&mut self, count: usize) {
        for place in self.members.len()..count {
            self.members.spawn(follow(Arc::clone(&self.run), place, self.steps.reader()));
        }
    }

    /// Waits until `done`, or until it is clear that it will not come to pass.
    pub(super) async fn until(&self, patience: Duration, done: impl Fn(&Tally) -> bool) {
        let deadline = Clock.monotonic() + patience;
        while Clock.monotonic() < deadline && !done(&self.run.tally()) {
            sleep(LOOK).await;
        }
    }

    /// Waits until everybody was `told`.
    pub(super) async fn until_told(&self, told: impl Fn(&Tally) -> bool) {
        self.until(ANSWER_PATIENCE, told).await;
    }

    /// Sees to it that the next piece of news is not acknowledged while it is sent to the others.
    pub(super) async fn calm(&self) {
        self.run.calm.modify(|()| ());
        sleep(HEARING).await;
    }

    /// Lets connections come until there are `count`, and waits until each has work or is lost.
    pub(super) async fn gather(&mut self, count: usize, patience: Duration) {
        self.grow(count);
        self.until(patience, |tally| tally.opened as u64 + tally.failed() >= count as u64).await;
    }

    /// How many connections have work, if it is all that were wanted.
    pub(super) fn all_opened(&self, wanted: usize) -> Result<usize, LoadError> {
        let tally = self.run.tally();
        if tally.opened < wanted {
            let first_reason = tally.failures.keys().next().cloned();
            return Err(LoadError::NotOpened { whom: M::MANY, opened: tally.opened, wanted, first_reason });
        }
        Ok(tally.opened)
    }

    /// Has everybody submit nothing more and waits until the last shares are `settled`; how many were accepted in a second from `start` on.
    pub(super) async fn rest(&self, start: Monotonic, settled: impl Fn(&Tally) -> bool) -> u64 {
        let (span, in_time) = (Clock.monotonic() - start, self.run.tally().accepted);
        self.steps.modify(|step| *step = Step::Rest);
        self.until(ANSWER_PATIENCE, settled).await;
        per_second(in_time, span)
    }

    /// Has everybody leave.
    pub(super) async fn leave(mut self) {
        self.steps.modify(|step| *step = Step::Leave);
        while self.members.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use core::future::{pending, ready};
    use core::pin::pin;
    use core::sync::atomic::{AtomicBool, Ordering};
    use core::task::{Context, Poll, Waker};
    use std::task::Wake;

    use super::*;

    /// Notes that it was woken.
    #[derive(Default)]
    struct Sleeper(AtomicBool);

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a task that waits for something wants to go on at once.
    fn goes_on(awake: bool) -> bool {
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        let waits = pin!(see_through(awake, pending::<()>()));
        assert!(waits.poll(&mut Context::from_waker(&waker)).is_pending());
        sleeper.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_generator_that_is_to_stay_awake_never_sleeps() {
        assert!(goes_on(true) && !goes_on(false));
        let done = pin!(see_through(true, ready(7)));
        assert_eq!(done.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(7));
    }
}

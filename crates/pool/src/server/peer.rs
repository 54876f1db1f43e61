//! One connection: its handshake, its session, and its orderly end.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker, ready};
use core::time::Duration;
use std::sync::Arc;

use adit_ledger::{Durable, DurableWatch, LogClosed, SavedBlock, ShareSink, completion};
use adit_net::{
    Accepted, Clock, Connection, Draining, HANDSHAKE_PATIENCE, Intake, Io, IoError, Permit, QueueError,
    Reader, Timer, keep_little_unread,
};
use adit_transport::{FrameQueue, OpenError};
use adit_units::{ConnectionId, Now};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use tokio::time::{timeout, timeout_at};

use super::board::Posted;
use super::metrics::Meter;
use super::promises::Promises;
use super::refresh::Refresh;
use super::registry::Seat;
use super::{DRAIN_PATIENCE, Failure, Hall, fail};
use crate::{Disconnect, Session, Work};

/// How long a peer that is sent away has to take its leave.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Shares of one connection that may wait for stable storage before no more are read from it.
const UNACKNOWLEDGED_PAUSE: usize = 8_192;

/// Shares of one connection that are taken although the log is too busy for earlier ones. A disk that stalls makes every connection
/// wait for the log, and any of their next shares may be a block.
const UNWRITTEN_PAUSE: usize = 64;

/// Reads that a connection gets at shutdown for what has arrived already.
const LAST_READS: usize = 4;

/// Bytes of answers to one read after which they are sent before more frames are looked at. A proxy may ask for all its channels in
/// one go, and the answers, each with a job, would not fit into the outbox.
const ANSWERS_PAUSE: usize = 16 * 1024;

/// A queue of frames that has held more than this gives its memory back.
const FRAMES_KEPT: usize = 1_024;

/// Records on their way to a log that is busy.
type Append = Pin<Box<dyn Future<Output = Result<(), LogClosed>> + Send>>;

/// The next work that is made for those who wait for it.
type Aside = Pin<Box<dyn Future<Output = Option<Arc<Work>>> + Send>>;

/// One miner or proxy.
struct Peer<L> {
    hall: Arc<Hall<L>>,
    id: ConnectionId,
    permit: Permit,
    connection: Connection,
    session: Session,
    board: Reader<Option<Posted>>,
    /// Work that the session has asked for; on the heap, because few ever wait for it.
    aside: Option<Aside>,
    /// When work is taken in that can wait.
    refresh: Refresh,
    durable: Durable,
    durable_watch: DurableWatch,
    append: Option<Append>,
    promises: Promises,
    /// Whether frames may be left that have come and were not looked at.
    frames_left: bool,
    meter: Meter,
    /// Where those who ask about this connection find it.
    seat: Seat,
    timer: Timer,
}

/// What a peer's task wakes up for.
enum Wake {
    Shutdown,
    Work,
    Aside(Option<Arc<Work>>),
    Durable(u64),
    BlockSafe,
    Rung,
    Appended,
    Timeout,
    FramesLeft,
    Io(Result<Io, IoError>),
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the server ends its connections")]
    Shutdown,
    #[error(transparent)]
    Session(#[from] Disconnect),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Serves an admitted peer from handshake to end.
///
/// Each of the thousands of tasks is as large as its largest step, so what an idle miner does not need is on the heap for as long
/// as it is needed: the handshake, and at the end the leave-taking.
pub(super) fn serve<L: ShareSink>(
    accepted: Accepted,
    hall: Arc<Hall<L>>,
    draining: Draining,
) -> impl Future<Output = ()> + Send {
    let arrival = Box::pin(arrive(accepted, hall, draining.clone()));
    async move {
        // Boxed only when the handshake has given its memory back, and so in its place.
        let Some(mut peer) = arrival.await.map(Box::new) else { return };
        let end = peer.run(draining).await;
        Box::pin(peer.part(end)).await;
    }
}

/// The handshake, and the session that begins with it; `None` if there is none.
async fn arrive<L: ShareSink>(
    accepted: Accepted,
    hall: Arc<Hall<L>>,
    mut draining: Draining,
) -> Option<Peer<L>> {
    let Accepted { stream, peer: address, at, permit } = accepted;
    if let Err(error) = keep_little_unread(&stream) {
        tracing::debug!(peer = %address, %error, "the kernel keeps what it likes for this peer");
    }
    let meter = Meter::new(Arc::clone(&hall.gauges));
    let identity = Arc::clone(&hall.identity.borrow());
    let handshake = hall.lane.respond(stream, identity, at + HANDSHAKE_PATIENCE, hall.outbox);
    let shaken = tokio::select! {
        biased;
        () = draining.begun() => return None,
        shaken = handshake => shaken,
    };
    let refused = |error| tracing::debug!(peer = %address, %error, "handshake failed");
    let connection = shaken.map_err(refused).ok()?;
    let Some(id) = hall.next_connection() else {
        fail(&hall.failure, Failure::ConnectionsExhausted);
        return None;
    };
    tracing::debug!(connection = id.0, peer = %address, "connected");
    let board = hall.board.clone();
    let rules = board.borrow().as_ref().map(|posted| Arc::clone(&posted.rules));
    let rules = rules.expect("nobody is let in before there is work");
    let session = Session::new(rules, id, hall.seen_key, Clock.now());
    let (durable, durable_watch) = completion();
    let seat = hall.registry.enter(id, address, Clock.monotonic());
    Some(Peer {
        hall,
        id,
        permit,
        connection,
        session,
        board,
        aside: None,
        refresh: Refresh::default(),
        durable,
        durable_watch,
        append: None,
        promises: Promises::default(),
        frames_left: false,
        meter,
        seat,
        timer: Timer::default(),
    })
}

impl<L: ShareSink> Peer<L> {
    /// Serves the peer until there is a reason to end.
    async fn run(&mut self, mut draining: Draining) -> End {
        // Waited for once and not anew at each wake-up.
        let mut shutdown = pin!(draining.begun());
        self.take_work(Clock.now());
        loop {
            if let Err(end) = self.settle() {
                return end;
            }
            let wake = self.wake(shutdown.as_mut()).await;
            if let Err(end) = self.handle(wake).await {
                return end;
            }
        }
    }

    /// Waits for the next thing to do.
    async fn wake(&mut self, shutdown: Pin<&mut impl Future<Output = ()>>) -> Wake {
        let (intake, busy) = (self.intake(), self.append.is_some());
        let waits_for_the_disk = self.session.unacknowledged() > 0;
        // A peer that lags behind is not sent every job, only the newest once it has caught up.
        let ready_for_work = !self.connection.is_congested();
        let refresh_due = self.refresh.due().filter(|_| ready_for_work);
        self.timer.set(self.session.poll_timeout().into_iter().chain(refresh_due).min());
        let ready_for_frames = self.frames_left && ready_for_work && !self.log_is_behind();
        let Self { hall, connection, board, aside, durable_watch, append, promises, seat, timer, .. } = self;
        // What is rare comes first, because bytes from a busy peer are always ready; and all that is ready together is
        // answered in one write, which is what `io` begins with.
        tokio::select! {
            biased;
            () = shutdown => Wake::Shutdown,
            Ok(()) = board.changed(), if ready_for_work => Wake::Work,
            work = done(aside), if ready_for_work && aside.is_some() => Wake::Aside(work),
            _ = done(append), if busy => Wake::Appended,
            count = durable_watch.changed(), if waits_for_the_disk => Wake::Durable(count),
            () = promises.released(&hall.blocks) => Wake::BlockSafe,
            () = seat.rung() => Wake::Rung,
            () = timer.fired() => Wake::Timeout,
            () = core::future::ready(()), if ready_for_frames => Wake::FramesLeft,
            done = connection.io(intake) => Wake::Io(done),
        }
    }

    /// No more is taken from a peer whose shares the log has no room for, or who does not read the answers.
    fn intake(&self) -> Intake {
        let is_busy = self.frames_left || self.log_is_behind() || self.connection.is_congested();
        if is_busy { Intake::Paused } else { Intake::Open }
    }

    /// Whether the log has to take earlier shares before there are more.
    fn log_is_behind(&self) -> bool {
        let is_busy = self.append.is_some() && self.session.unwritten() >= UNWRITTEN_PAUSE;
        is_busy || self.waits_for_the_log()
    }

    /// Whether so many shares are not durable that the peer has to wait. After a failure nothing will ever be, and the only thing
    /// to look for is a block.
    fn waits_for_the_log(&self) -> bool {
        self.session.unacknowledged() >= UNACKNOWLEDGED_PAUSE && self.hall.failure.borrow().is_none()
    }

    async fn handle(&mut self, wake: Wake) -> Result<(), End> {
        self.seat.change();
        match wake {
            Wake::Rung => self.seat.answer(&mut self.session, Clock.now()),
            Wake::Shutdown => return Err(End::Shutdown),
            Wake::Work => self.take_work(Clock.now()),
            Wake::Aside(work) => {
                if work.is_some_and(|work| self.session.handle_aside(&work, Clock.now())) {
                    self.refresh.settle();
                } else if self.session.awaits_job() {
                    self.ask_for_work();
                }
            }
            Wake::Durable(count) => {
                self.promises.note_durable(count);
                self.meter.written(count);
                self.session.handle_durable(self.promises.kept());
            }
            Wake::BlockSafe => self.session.handle_durable(self.promises.kept()),
            Wake::Timeout => {
                let now = Clock.now();
                self.session.handle_timeout(now)?;
                let is_due = self.refresh.due().is_some_and(|due| due <= now.monotonic);
                if is_due && !self.connection.is_congested() {
                    self.take_work(now);
                }
            }
            Wake::FramesLeft => self.take_frames().await?,
            Wake::Io(done) => {
                if let Io::Read(_) = done? {
                    self.take_frames().await?;
                }
            }
            Wake::Appended => {}
        }
        Ok(())
    }

    /// Takes in what the board says, or if it can wait, sees to it that this connection has its turn.
    fn take_work(&mut self, now: Now) {
        let Self { hall, session, refresh, id, .. } = self;
        let posted = self.board.borrow_and_update();
        let Some(Posted { work, rules }) = &*posted else { return };
        let rules = (!session.goes_by(rules)).then(|| Arc::clone(rules));
        let can_wait = rules.is_none() && session.can_wait_for(work);
        if can_wait && refresh.puts_off(*id, hall.refresh_spread, now.monotonic) {
            return;
        }
        *refresh = Refresh::default();
        let work = Arc::clone(work);
        // Others must not wait for the board while this session takes in what it says.
        drop(posted);
        if let Some(rules) = rules {
            session.handle_config(rules);
        }
        let is_new_tip = session.tip_seen() != Some(work.tip_seen());
        session.handle_work(Arc::clone(&work), now);
        if is_new_tip {
            self.meter.told(&work, Clock.monotonic());
        }
    }

    /// Gives the session the work that waits for it or that others have asked for, or asks for some.
    fn ask_for_work(&mut self) {
        self.aside = None;
        if self.refresh.due().is_some() {
            return self.refresh.hasten(Clock.monotonic());
        }
        let mut aside = self.hall.aside.clone();
        // What was made before the rules changed is nothing for who is about to hear of that.
        let is_by_the_rules = |posted: &Posted| self.session.goes_by(&posted.rules);
        let goes_by = self.board.borrow().as_ref().is_some_and(is_by_the_rules);
        let work = aside.borrow_and_update().clone().filter(|_| goes_by);
        if work.is_some_and(|work| self.session.handle_aside(&work, Clock.now())) {
            return;
        }
        self.hall.wishes.notify_one();
        self.refresh.hasten(Clock.monotonic());
        self.aside = Some(Box::pin(async move {
            aside.changed().await.ok()?;
            aside.borrow().clone()
        }));
    }

    /// Takes in the rules that hold now; work is of no more use.
    fn take_last_rules(&mut self) {
        let rules = self.board.borrow().as_ref().map(|posted| Arc::clone(&posted.rules));
        if let Some(rules) = rules {
            self.session.handle_config(rules);
        }
    }

    /// Hands the whole frames that have come to the session, until there are many answers to send; before the next frame is looked at, a block
    /// goes out, and a token is looked up.
    async fn take_frames(&mut self) -> Result<(), End> {
        loop {
            let (taken, mut has_block) = (self.take_burst(), false);
            let has_token = self.look_up_tokens();
            // Whoever is further up has a node, too, that wants to hear of a block.
            self.pass_on();
            while let Some(found) = self.session.poll_block() {
                has_block = true;
                self.promises.hold(found.record, found.block.hash);
                // On the heap, because hardly any connection ever finds one.
                Box::pin(self.hall.blocks.hand_over(found)).await;
            }
            if self.session.has_custom_block() {
                has_block = true;
                Box::pin(self.hand_over_custom()).await;
            }
            taken?;
            if self.frames_left || !(has_block || has_token) {
                return Ok(());
            }
        }
    }

    /// Sends the blocks out that were found on jobs of the miner's own, where their transactions are known here.
    async fn hand_over_custom(&mut self) {
        while let Some(found) = self.session.poll_custom_block() {
            let work = self.board.borrow().as_ref().map(|posted| Arc::clone(&posted.work));
            let (hash, height) = (BlockHash::hash(&found.header), found.declaration.height());
            let Some(bytes) = self.hall.custom.complete(&found, work.as_deref()) else {
                let (connection, user) = (self.id.0, &found.user);
                tracing::info!(connection, %user, %hash, height = height.0, "block on a job whose transactions only its miner knows");
                continue;
            };
            self.promises.hold(found.record, hash);
            let block = SavedBlock { hash: hash.to_byte_array(), height, bytes };
            self.hall.blocks.take(block, found.user, found.worker).await;
        }
    }

    /// Answers for the tokens that the session asks about; whether there were any.
    fn look_up_tokens(&mut self) -> bool {
        let has_token = self.session.has_token();
        while let Some(token) = self.session.poll_token() {
            let now = Clock.now();
            let verdict = self.hall.custom.use_up(&token, now);
            self.session.handle_token(verdict, now);
        }
        has_token
    }

    /// Hands frames to the session until there are no more, there is a block or a token, or there are many answers to send.
    fn take_burst(&mut self) -> Result<(), End> {
        let Self { session, connection, frames_left, .. } = self;
        let mut burst = session.burst(Clock.now());
        let taken = loop {
            *frames_left = burst.answers_len() > ANSWERS_PAUSE;
            if *frames_left || burst.has_block() || burst.has_token() {
                break Ok(());
            }
            match connection.next_frame(|header| burst.frame_limit(header)) {
                Ok(Some(frame)) => {
                    if let Err(end) = burst.handle_frame(frame) {
                        break Err(end.into());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        // What is wrong with the share that came last was so before anything that came after it.
        burst.finish()?;
        taken
    }

    /// Carries out what the session wants: records to the log, frames to the outbox, numbers to the metrics.
    fn settle(&mut self) -> Result<(), End> {
        self.write_down();
        self.pass_on();
        self.look_up_tokens();
        if self.session.is_set_up() {
            self.permit.establish();
        }
        // A peer that lags behind wants no more jobs than it has.
        if !self.connection.is_congested() && self.session.take_wish() {
            self.ask_for_work();
        } else if self.aside.is_some() && !self.session.awaits_job() {
            self.aside = None;
        }
        let frames = self.session.frames();
        let is_long = frames.len_bytes() > FRAMES_KEPT;
        self.connection.queue(frames)?;
        if is_long {
            *frames = FrameQueue::default();
        }
        Ok(())
    }

    /// Gives new shares to whoever passes them on.
    fn pass_on(&mut self) {
        let Some(relay) = &self.hall.relay else { return };
        for share in self.session.take_relayed() {
            if relay.try_send(share).is_err() {
                tracing::warn!(
                    connection = self.id.0,
                    "a share is not passed on, because too many wait for it"
                );
            }
        }
    }

    /// Gives the log the records of new shares, unless it still has to take earlier ones.
    fn write_down(&mut self) {
        if self.append.is_some() {
            return;
        }
        let mut records = Vec::new();
        self.session.take_records(&mut records);
        self.meter.add(self.session.counters(), self.session.channels(), &records);
        if records.is_empty() {
            return;
        }
        let (log, durable) = (self.hall.log.clone(), self.durable.clone());
        let mut append: Append = Box::pin(async move { log.append(&records, &durable).await });
        // A log that has stopped says so to the server; here its shares just stay without acknowledgement. One that is busy is waited
        // for where everything else is.
        if append.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.append = Some(append);
        }
    }

    /// Ends the connection: what was accepted is written down and, if the peer is there to hear it, acknowledged.
    async fn part(mut self: Box<Self>, end: End) {
        self.seat.leave();
        let is_shutdown = matches!(end, End::Shutdown);
        // A peer that has closed its side may still want to hear what became of its last shares.
        let listens = matches!(end, End::Shutdown | End::Session(_) | End::Io(IoError::Closed));
        if is_shutdown {
            self.take_last_rules();
            self.session.begin_drain();
            self.take_what_came().await;
        }
        let patience = if listens && !is_shutdown { CLOSE_PATIENCE } else { DRAIN_PATIENCE };
        let deadline = Clock.instant(Clock.monotonic() + patience);
        if timeout_at(deadline, self.finish(listens)).await.is_err() {
            let (connection, shares) = (self.id.0, self.session.unacknowledged());
            tracing::debug!(connection, shares, "ends without acknowledgement of all shares");
        }
        let counters = self.session.counters();
        tracing::debug!(
            connection = self.id.0,
            peer = %self.seat.peer(),
            reason = %end,
            accepted = counters.accepted,
            rejected = counters.rejected_total(),
            "disconnected"
        );
        if listens {
            self.connection.close(CLOSE_PATIENCE).await;
        }
    }

    /// Takes the bytes that had arrived when the shutdown began.
    async fn take_what_came(&mut self) {
        for _ in 0..LAST_READS {
            if !self.frames_left {
                // No patience at all still asks the socket once.
                let Ok(Ok(_)) = timeout(Duration::ZERO, self.connection.read()).await else { return };
            }
            if self.take_frames().await.is_err() || self.settle().is_err() {
                return;
            }
            if self.log_is_behind() || self.connection.is_congested() {
                return;
            }
        }
    }

    /// Waits until the log has taken all records, and if the peer `listens`, until it was told that they are durable.
    async fn finish(&mut self, mut listens: bool) {
        let mut outcome = self.hall.outcome.clone();
        loop {
            self.write_down();
            let written = self.append.is_none();
            listens = listens && self.connection.queue(self.session.frames()).is_ok();
            if written && (!listens || self.session.unacknowledged() == 0) {
                return;
            }
            let Self { hall, connection, durable_watch, append, promises, session, meter, .. } = self;
            tokio::select! {
                biased;
                _ = outcome.wait() => return,
                _ = done(append), if !written => {}
                count = durable_watch.changed() => {
                    promises.note_durable(count);
                    meter.written(count);
                    session.handle_durable(promises.kept());
                }
                () = promises.released(&hall.blocks) => session.handle_durable(promises.kept()),
                done = connection.io(Intake::Paused), if listens => listens = done.is_ok(),
            }
        }
    }
}

/// Waits for what is under way on the heap, if there is anything; afterwards nothing is. Smaller than an `async fn`, of which every
/// connection would have the state.
fn done<T>(under_way: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        let Some(busy) = under_way else { return Poll::Pending };
        let done = ready!(busy.as_mut().poll(cx));
        *under_way = None;
        Poll::Ready(done)
    })
}

#[cfg(test)]
mod tests {
    use adit_ledger::ShareLog;

    use super::*;

    /// Bytes of the future that a function makes.
    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// With the ciphers and the runtime's own share this keeps a connection below four KiB until it is set up.
    #[test]
    fn a_connection_is_small() {
        let task = size_of_future(serve::<ShareLog>);
        assert!(task <= 768, "{task} bytes for each stranger");
        let peer = size_of::<Peer<ShareLog>>();
        assert!(peer <= 1_136, "{peer} bytes more after the handshake");
    }
}

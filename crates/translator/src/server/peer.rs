//! One machine's connection, from its first byte to its orderly end.

use core::future::{pending, poll_fn};
use core::mem::MaybeUninit;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit_net::{Accepted, Bulletin, Clock, Draining, OsRng, Permit, Reader, Timer};
use adit_units::Monotonic;
use rand_core::Rng as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::Hall;
use super::board::{Board, Joining, Up, Uplink};
use super::entrance::{self, Newcomer};
use super::registry::{Registry, Slot};
use super::tls::Tls;
use crate::machine::{Disconnect, Event, Machine, MachineTerms, Report};
use crate::sv1::{LineReader, LineTooLong};

/// Most bytes of a line; the longest that a machine has to send are a tenth of that.
const LINE_MAX: usize = 8 * 1024;

/// Most bytes taken from the socket at once.
const READ_MAX: usize = 4 * 1024;

/// Bytes that may wait for a machine: some dozen of the longest jobs.
const OUTPUT_MAX: usize = 256 * 1024;

/// Bytes that each machine may have us hold; an ordinary one never comes near.
const HELD_FREE: usize = 32 * 1024;

/// Bytes beyond these that all machines may have us hold together. When they are used up, whoever asks for more than its own is cut off.
const HELD_MAX: usize = 512 * 1024 * 1024;

/// How long a machine may leave bytes unread.
const DEAF_PATIENCE: Duration = Duration::from_secs(30);

/// How often a machine's numbers are noted at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long they may lack what came within that time. A machine that goes on is noted when it says the next thing, and needs no wake-up for it.
const REPORT_REST: Duration = Duration::from_secs(5);

/// How old they become at most, but for the time to the next job, while it says nothing: its speed fades away over minutes.
const REPORT_AGE: Duration = Duration::from_secs(30);

/// Why a machine's connection has ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
    #[error(transparent)]
    Sent(#[from] Disconnect),
    #[error("it does not read")]
    Deaf,
    #[error("it wants more memory than is left for all machines together")]
    Greedy,
    #[error("the program ends")]
    Draining,
}

/// One machine's connection.
struct Peer<S> {
    hall: Arc<Hall>,
    slot: Arc<Slot>,
    permit: Permit,
    pipe: Pipe<S>,
    machine: Machine,
    lines: LineReader,
    /// What it works on; `None` until it has a channel.
    board: Option<Reader<Board>>,
    /// Where shares go, as the board had it when it was looked at last: nothing is locked for a share.
    uplinks: Arc<[Uplink]>,
    /// Bytes beyond its own that it has us hold, as they are counted.
    held: usize,
    /// When its numbers are to be noted.
    report_due: Option<Monotonic>,
    reported: Monotonic,
}

/// A socket, and how far its output is written.
struct Pipe<S> {
    stream: S,
    /// Bytes of the output that are written already; none while the socket takes no more.
    written: usize,
    /// Since when the socket takes no more.
    blocked: Option<Monotonic>,
}

/// Serves a machine that has just connected.
pub(super) async fn serve(hall: Arc<Hall>, accepted: Accepted, mut draining: Draining) {
    let newcomer = tokio::select! {
        biased;
        () = draining.begun() => return,
        newcomer = entrance::admit(&hall, accepted) => newcomer,
    };
    if let Some(newcomer) = newcomer {
        attend(hall, newcomer, draining).await;
    }
}

/// Serves a machine that has just connected, and is to speak TLS.
pub(super) async fn serve_over_tls(hall: Arc<Hall>, tls: Tls, accepted: Accepted, mut draining: Draining) {
    let newcomer = tokio::select! {
        biased;
        () = draining.begun() => return,
        newcomer = entrance::admit_over_tls(&hall, &tls, accepted) => newcomer,
    };
    if let Some(newcomer) = newcomer {
        attend(hall, newcomer, draining).await;
    }
}

/// Serves a machine until it leaves.
async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    hall: Arc<Hall>,
    newcomer: Newcomer<S>,
    draining: Draining,
) {
    let Newcomer { stream, peer, permit } = newcomer;
    let (slot, extranonce1) = hall.registry.enter(peer);
    let mut seen_key = [0; 16];
    OsRng.fill_bytes(&mut seen_key);
    let now = Clock.monotonic();
    let machine = Machine::new(Arc::clone(&hall.machine), MachineTerms { extranonce1, seen_key }, now);
    let board = hall.common.clone();
    let mut peer = Peer {
        hall,
        slot,
        permit,
        pipe: Pipe { stream, written: 0, blocked: None },
        machine,
        lines: LineReader::new(LINE_MAX),
        board,
        uplinks: Arc::new([]),
        held: 0,
        report_due: None,
        reported: now,
    };
    tracing::debug!(machine = peer.slot.id, peer = %peer.slot.peer, "machine connected");
    peer.look_at_board();
    let end = peer.run(draining).await.unwrap_or_else(|end| end);
    peer.finish(&end).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn run(&mut self, mut draining: Draining) -> Result<End, End> {
        // Waited for once and not anew at each wake-up.
        let (mut begun, mut timer) = (pin!(draining.begun()), Timer::default());
        loop {
            timer.set(self.deadline());
            tokio::select! {
                biased;
                () = begun.as_mut() => return Ok(End::Draining),
                // A machine that does not read is told of the newest job when it does.
                () = changed(&mut self.board), if self.pipe.blocked.is_none() => self.look_at_board(),
                () = timer.fired() => self.handle_timeout()?,
                taken = poll_fn(|cx| self.pipe.poll_io(self.machine.output(), &mut self.lines, cx)) => {
                    taken?;
                    self.take_lines()?;
                }
            }
            self.pass_on();
            self.watch_output()?;
            self.watch_memory()?;
        }
    }

    /// The machine is told of the newest job, or that there is no upstream.
    fn look_at_board(&mut self) {
        let Some(board) = &mut self.board else { return };
        tell(&mut self.machine, &mut self.uplinks, &board.borrow_and_update(), Clock.monotonic());
        // A machine that has fallen silent is noted as such after a job, and not while others wait for that job. For one that is
        // noted with each share anyway this is no reason to wake up.
        if self.machine.is_ready() && self.report_due.is_none() {
            let soon = Clock.monotonic() + REPORT_INTERVAL;
            self.report_due = Some(soon.max(self.reported + REPORT_AGE));
        }
    }

    fn take_lines(&mut self) -> Result<(), End> {
        let now = Clock.now();
        while let Some(line) = self.lines.next_line()? {
            let registry = &self.hall.registry;
            self.machine.handle_line(line, &mut &*registry, now)?;
            if let Some(rest) = &self.hall.config.rest {
                rest.note_request();
            }
        }
        // A machine that says something now and then is noted at once. Only what one says within a second of that may need a timer.
        if now.monotonic >= self.reported + REPORT_INTERVAL {
            self.report(now.monotonic);
        } else {
            let due = self.reported + REPORT_REST;
            self.report_due = Some(self.report_due.map_or(due, |other| other.min(due)));
        }
        Ok(())
    }

    /// Sends shares up, and joins when the machine has said who it is.
    fn pass_on(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Ready { user } => {
                    self.permit.establish();
                    self.report(Clock.monotonic());
                    self.log_ready(&user);
                    self.join(user);
                }
                Event::LongCoinbase { length, longest } => self.warn_of_coinbase(length, longest),
            }
        }
        while let Some(share) = self.machine.poll_share() {
            let uplink = self.uplinks.iter().find(|uplink| uplink.link == share.route.link);
            let up = Up { machine: self.slot.id, share };
            if uplink.is_none_or(|uplink| !uplink.send(up, Clock.monotonic())) {
                self.slot.lost.fetch_add(1, Ordering::Relaxed);
                self.hall.registry.count_unsent(share.route.link);
                if share.is_block {
                    tracing::error!(
                        machine = self.slot.id,
                        "a block was found, and its upstream cannot be told"
                    );
                }
            }
        }
    }

    fn log_ready(&self, user: &str) {
        let Some(Report { identity, class, .. }) = self.slot.report() else { return };
        let agent = &identity.user_agent;
        tracing::debug!(machine = self.slot.id, peer = %self.slot.peer, user, agent, class, "machine is ready");
    }

    fn warn_of_coinbase(&mut self, length: usize, longest: usize) {
        let now = Clock.monotonic();
        self.report(now);
        let class = self.machine.report(now).class;
        tracing::warn!(machine = self.slot.id, peer = %self.slot.peer, class, length, longest,
            "the coinbase is longer than such devices are known to take; if its shares are refused, use a pool that pays fewer addresses");
    }

    fn join(&mut self, user: Box<str>) {
        if self.hall.common.is_some() {
            return;
        }
        let post = Bulletin::new(Board::default());
        let board = post.reader();
        let nominal = self.machine.expected();
        let joined = Joining::Joined { machine: self.slot.id, user, nominal, board: post };
        match self.hall.joining.try_send(joined) {
            Ok(()) => self.board = Some(board),
            Err(mpsc::error::TrySendError::Full(joined)) => {
                self.board = Some(board);
                let joining = self.hall.joining.clone();
                tokio::spawn(async move { joining.send(joined).await });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    fn deadline(&self) -> Option<Monotonic> {
        let deaf = self.pipe.blocked.map(|since| since + DEAF_PATIENCE);
        [self.machine.poll_timeout(), self.report_due, deaf].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self) -> Result<(), End> {
        let now = Clock.monotonic();
        self.machine.handle_timeout(now)?;
        if self.report_due.is_some_and(|due| due <= now) {
            self.report(now);
        }
        Ok(())
    }

    fn report(&mut self, now: Monotonic) {
        (self.report_due, self.reported) = (None, now);
        self.slot.nominal.store(self.machine.nominal(now).to_hashes_per_second(), Ordering::Relaxed);
        self.slot.tell(self.machine.report(now));
    }

    /// Bytes that wait are bounded in number and in age.
    fn watch_output(&mut self) -> Result<(), End> {
        let is_old = self.pipe.blocked.is_some_and(|since| since + DEAF_PATIENCE <= Clock.monotonic());
        let waiting = self.machine.output().len() - self.pipe.written;
        if is_old || waiting > OUTPUT_MAX { Err(End::Deaf) } else { Ok(()) }
    }

    /// What machines hold is bounded for all of them together, and each has enough of its own to work with.
    fn watch_memory(&mut self) -> Result<(), End> {
        let now = self.machine.held().saturating_sub(HELD_FREE);
        if is_greedy(&self.hall.registry, &mut self.held, now) { Err(End::Greedy) } else { Ok(()) }
    }

    /// Says goodbye, and gives back what was lent.
    ///
    /// It takes no part of `self` with it, because a future keeps twice what is moved within it.
    async fn finish(&mut self, end: &End) {
        self.pass_on();
        if matches!(end, End::Draining) {
            self.machine.handle_drain();
        }
        // Refusals and the farewell are worth a try, but nothing is waited for long.
        let farewell = poll_fn(|cx| self.pipe.poll_close(self.machine.output(), cx));
        let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
        let report = self.machine.report(Clock.monotonic());
        tracing::debug!(machine = self.slot.id, peer = %self.slot.peer, reason = %end, accepted = report.shares.accepted,
            refused = report.shares.refused(), "machine disconnected");
        self.hall.registry.hold(self.held, 0);
        let memory = self.machine.take_memory();
        self.hall.registry.leave(&self.slot, (&report, memory), Clock.monotonic());
        if self.hall.common.is_none() {
            let _ = self.hall.joining.send(Joining::Left { machine: self.slot.id }).await;
        }
    }
}

/// Tells a machine what is on the board: the newest job, or that there is no upstream, and which links have gone since it was told of `known`.
fn tell(machine: &mut Machine, known: &mut Arc<[Uplink]>, board: &Board, now: Monotonic) {
    let is_changed = !Arc::ptr_eq(known, &board.uplinks);
    if is_changed {
        *known = Arc::clone(&board.uplinks);
    }
    let is_up = |link| board.uplink(link).is_some();
    let Some(job) = board.job.as_ref().filter(|_| board.is_live()) else {
        return machine.handle_upstream_lost(is_up, now);
    };
    if is_changed || machine.has_lost_upstream() {
        machine.handle_links(is_up);
    }
    machine.handle_job(job, now);
}

/// Counts what a machine holds now beyond its own; whether that is more than before, and more than is left for all.
fn is_greedy(registry: &Registry, held: &mut usize, now: usize) -> bool {
    let before = core::mem::replace(held, now);
    before != now && registry.hold(before, now) > HELD_MAX && now > before
}

/// Waits until there is something new on the board. Never, without a board.
async fn changed(board: &mut Option<Reader<Board>>) {
    if let Some(board) = board
        && board.changed().await.is_ok()
    {
        return;
    }
    // Without whoever posts jobs there are none to come.
    pending().await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipe<S> {
    /// Writes what is there and reads what comes; ready when bytes have come, and when the socket begins or ends to take no more.
    fn poll_io(
        &mut self,
        output: &mut Vec<u8>,
        lines: &mut LineReader,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        let was_blocked = self.blocked.is_some();
        match self.poll_write(output, cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            // There may be a newer job for it.
            Poll::Ready(Ok(())) if was_blocked => return Poll::Ready(Ok(())),
            // How long it may stay so is counted from here.
            Poll::Pending if !was_blocked => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let mut space = [const { MaybeUninit::uninit() }; READ_MAX];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(End::Closed));
        }
        lines.push(buffer.filled());
        Poll::Ready(Ok(()))
    }

    /// Writes what is there and says that nothing more comes, which TLS tells from a connection that was cut.
    fn poll_close(&mut self, output: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(output, cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Writes what is there, and gives its memory back; ready when all is written.
    fn poll_write(&mut self, output: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = output.get(self.written..).filter(|bytes| !bytes.is_empty()) {
            let Poll::Ready(count) = Pin::new(&mut self.stream).poll_write(cx, bytes)? else {
                return self.hold_up(output);
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        // TLS may hold back what it has taken, and things of its own.
        if Pin::new(&mut self.stream).poll_flush(cx)?.is_pending() {
            return self.hold_up(output);
        }
        if self.written > 0 {
            *output = Vec::new();
        }
        (self.written, self.blocked) = (0, None);
        Poll::Ready(Ok(()))
    }

    /// The socket takes no more for now. What is written must not pile up in front of what waits.
    fn hold_up(&mut self, output: &mut Vec<u8>) -> Poll<io::Result<()>> {
        self.blocked.get_or_insert_with(|| Clock.monotonic());
        output.drain(..self.written);
        self.written = 0;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use adit_channel::LinkId;
    use adit_units::{Now, Target, UnixTime};
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::MachineConfig;
    use crate::job::fixture::{Given, TIME};
    use crate::job::{NUMBER_STEP, Sv1Job};

    #[test]
    fn machines_that_take_all_memory_are_cut_off_and_no_others() {
        let (registry, half) = (Registry::new(), HELD_MAX / 2);
        let [mut one, mut other, mut third] = [0; 3];
        assert!(!is_greedy(&registry, &mut one, half) && !is_greedy(&registry, &mut other, half));
        assert!(!is_greedy(&registry, &mut third, 0), "whoever holds no more than its own goes on");
        assert!(is_greedy(&registry, &mut third, 1));
        assert!(!is_greedy(&registry, &mut third, 0) && !is_greedy(&registry, &mut one, half));
        assert!(is_greedy(&registry, &mut other, half + 1));
        assert!(!is_greedy(&registry, &mut other, 7) && !is_greedy(&registry, &mut third, 1_000));
    }

    #[tokio::test]
    async fn a_machine_that_did_not_read_was_never_given_up() {
        let (mut machine, stream) = tokio::io::duplex(64);
        let mut pipe = Pipe { stream, written: 0, blocked: None };
        let (mut output, mut lines) = (vec![7; 100], LineReader::new(LINE_MAX));
        poll_fn(|cx| pipe.poll_io(&mut output, &mut lines, cx)).await.unwrap();
        assert!(pipe.blocked.is_some(), "the task learns that there is something to wait for");
        let mut read = [0; 100];
        let (told, _) = tokio::join!(
            poll_fn(|cx| pipe.poll_io(&mut output, &mut lines, cx)),
            machine.read_exact(&mut read)
        );
        told.unwrap();
        assert_eq!((pipe.blocked, output.len(), read), (None, 0, [7; 100]));
    }

    /// It asked without end, and left a little unread: all that it had read was kept too.
    #[tokio::test]
    async fn a_machine_that_always_left_something_unread_used_up_the_memory_of_all() {
        const WAITING: usize = 1_000;
        let (mut machine, stream) = tokio::io::duplex(64);
        let mut pipe = Pipe { stream, written: 0, blocked: None };
        let (mut output, mut lines) = (Vec::new(), LineReader::new(LINE_MAX));
        let (mut said, mut heard) = (0_u8, Vec::new());
        for _ in 0..1_000 {
            while output.len() - pipe.written < WAITING {
                output.push(said);
                said = said.wrapping_add(1);
            }
            // So that nothing but the socket holds it up.
            tokio::task::yield_now().await;
            let polled = poll_fn(|cx| Poll::Ready(pipe.poll_io(&mut output, &mut lines, cx))).await;
            assert!(!matches!(polled, Poll::Ready(Err(_))));
            assert!(output.len() <= WAITING, "{} bytes for {WAITING} that wait", output.len());
            let mut some = [0; 64];
            machine.read_exact(&mut some).await.unwrap();
            heard.extend(some);
        }
        assert!(
            pipe.blocked.is_some() && heard.iter().zip((0..=u8::MAX).cycle()).all(|(one, two)| *one == two)
        );
    }

    /// What a board says while those links are up.
    fn board(links: &[LinkId], job: &Arc<Sv1Job>) -> Board {
        let (shares, blocks) = (mpsc::channel(1).0, mpsc::channel(1).0);
        let uplink = |&link| Uplink {
            link,
            shares: shares.clone(),
            blocks: blocks.clone(),
            departure: Arc::default(),
        };
        Board { job: Some(Arc::clone(job)), uplinks: links.iter().map(uplink).collect() }
    }

    fn at(seconds: u64) -> Now {
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) };
        now.after(Duration::from_secs(seconds))
    }

    /// A machine, and the links that it knows of.
    struct Seat {
        machine: Machine,
        known: Arc<[Uplink]>,
    }

    impl Seat {
        /// It has said who it is.
        fn ready() -> Self {
            let terms = MachineTerms { extranonce1: [1; 4], seen_key: [2; 16] };
            let machine = Machine::new(Arc::new(MachineConfig::default()), terms, at(0).monotonic);
            let mut seat = Self { machine, known: Arc::new([]) };
            seat.says(r#"{"id":1,"method":"mining.subscribe","params":["x"]}"#, at(0));
            seat.says(r#"{"id":2,"method":"mining.authorize","params":["a.b","x"]}"#, at(0));
            seat
        }

        /// It has gone over from the first link to the second, which are both up.
        fn gone_over() -> Self {
            let mut seat = Self::ready();
            seat.looks_at(&board(&[1], &job(1)), at(0));
            seat.looks_at(&board(&[1, 2], &job(2)), at(0));
            seat
        }

        /// What it is told when it says that.
        fn says(&mut self, line: &str, now: Now) -> String {
            self.machine.handle_line(line.as_bytes(), &mut (), now).unwrap();
            self.told()
        }

        fn submits(&mut self, job: &Sv1Job, nonce: u32, now: Now) -> String {
            let (id, zeros) = (job.number(), "0".repeat(16));
            let line = format!(
                r#"{{"id":3,"method":"mining.submit","params":["a.b","{id:016x}","{zeros}","{TIME:08x}","{nonce:08x}"]}}"#
            );
            self.says(&line, now)
        }

        /// What it is told of the board.
        fn looks_at(&mut self, board: &Board, now: Now) -> String {
            tell(&mut self.machine, &mut self.known, board, now.monotonic);
            self.told()
        }

        fn told(&mut self) -> String {
            String::from_utf8(core::mem::take(self.machine.output())).unwrap()
        }

        /// Where its next share goes.
        fn sends_to(&mut self) -> Option<LinkId> {
            self.machine.poll_share().map(|share| share.route.link)
        }
    }

    /// A job of that link, all of whose shares the upstream takes. All jobs are the same, so that a nonce is good once.
    fn job(link: LinkId) -> Arc<Sv1Job> {
        let work = Given { target: Target::MAX, ..Given::default() }.work();
        Arc::new(Sv1Job::new(&work, link, (link * NUMBER_STEP, NUMBER_STEP), 8).unwrap())
    }

    const GOOD: &str = r#""result":true"#;
    const STALE: &str = r#"[21,"Stale",null]"#;
    const NOWHERE: &str = r#"[20,"No upstream",null]"#;

    /// The pool that comes back has work on the same tip, so the other one's jobs were of use until its link had ended. From then on their shares
    /// were answered `true`, credited, and lost.
    #[test]
    fn shares_of_a_pool_that_was_left_were_told_to_be_good_and_went_nowhere() {
        let (mut seat, now) = (Seat::gone_over(), at(0));
        let [left, used] = [1, 2].map(job);
        assert!(seat.submits(&left, 1, now).contains(GOOD), "its link is still there");
        assert_eq!(seat.sends_to(), Some(1));
        seat.looks_at(&board(&[2], &used), now);
        assert!(seat.submits(&left, 2, now).contains(STALE));
        assert_eq!(seat.sends_to(), None);
        assert!(seat.submits(&used, 3, now).contains(GOOD), "the work goes on");
        assert_eq!(seat.sends_to(), Some(2));
        let shares = seat.machine.report(now.monotonic).shares;
        assert_eq!((shares.accepted, shares.stale), (2, 1));
    }

    /// The pool in use died, and until there was another, shares of the one before it were refused, which was still there and would have taken them.
    /// They were stale from then on.
    #[test]
    fn shares_for_a_pool_that_was_left_were_lost_with_the_one_after_it() {
        let mut seat = Seat::gone_over();
        let [left, died, next] = [1, 2, 3].map(job);
        assert_eq!(seat.looks_at(&board(&[1], &died), at(1)), "", "it works on");
        for (second, nonce) in [(1, 1), (9, 2)] {
            assert!(seat.submits(&left, nonce, at(second)).contains(GOOD));
            assert_eq!(seat.sends_to(), Some(1));
            assert!(seat.submits(&died, 10 + nonce, at(second)).contains(NOWHERE));
        }
        let mut after = board(&[1, 3], &died);
        seat.looks_at(&after, at(9));
        assert!(seat.submits(&died, 3, at(9)).contains(NOWHERE), "a link that has no work yet");
        after.job = Some(Arc::clone(&next));
        assert!(seat.looks_at(&after, at(10)).contains(",true]}"), "what it works on is of no use");
        for (job, nonce, answer) in [(&left, 4, GOOD), (&died, 14, STALE), (&next, 24, GOOD)] {
            assert!(seat.submits(job, nonce, at(10)).contains(answer));
        }
        assert_eq!([seat.sends_to(), seat.sends_to()], [Some(1), Some(3)]);
        after.uplinks = board(&[3], &next).uplinks;
        assert_eq!(seat.looks_at(&after, at(11)), "");
        assert!(seat.submits(&left, 5, at(11)).contains(STALE));
    }

    /// It was told nothing of the death, because it did not read meanwhile.
    #[test]
    fn a_machine_that_missed_an_outage_is_told_to_leave_what_it_works_on() {
        let mut seat = Seat::gone_over();
        let [left, died, next] = [1, 2, 3].map(job);
        assert!(seat.looks_at(&board(&[1, 3], &next), at(9)).contains(",true]}"));
        for (job, nonce, answer) in [(&left, 1, GOOD), (&died, 2, STALE), (&next, 3, GOOD)] {
            assert!(seat.submits(job, nonce, at(9)).contains(answer));
        }
    }

    /// The pool that had been left closed its channel during the outage, and its jobs came back to life with the next pool's.
    #[test]
    fn jobs_that_nobody_took_any_more_were_good_again_after_an_outage() {
        let mut seat = Seat::gone_over();
        let [left, died, next] = [1, 2, 3].map(job);
        for links in [&[1][..], &[], &[1, 3]] {
            seat.looks_at(&board(links, &died), at(1));
        }
        assert!(seat.submits(&left, 1, at(1)).contains(NOWHERE));
        seat.looks_at(&board(&[1, 3], &next), at(2));
        assert!(seat.submits(&left, 2, at(2)).contains(STALE));
        assert!(seat.submits(&next, 3, at(2)).contains(GOOD));
    }
}

//! One machine's connection, from its first byte to its orderly end.

use core::future::{pending, poll_fn};
use core::mem::MaybeUninit;
use core::net::IpAddr;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit_net::{Accepted, Clock, Draining, OsRng, Permit, Timer};
use adit_units::Monotonic;
use rand_core::Rng as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};

use super::Hall;
use super::board::{Board, Joining, Up};
use super::registry::Slot;
use crate::machine::{Disconnect, Event, Machine, MachineTerms};
use crate::sv1::{LineReader, LineTooLong};

/// Most bytes of a line; the longest that a machine has to send are a tenth of that.
const LINE_MAX: usize = 8 * 1024;

/// Most bytes taken from the socket at once.
const READ_MAX: usize = 4 * 1024;

/// Bytes that may wait for a machine: some dozen of the longest jobs.
const OUTPUT_MAX: usize = 256 * 1024;

/// How long a machine may leave bytes unread.
const DEAF_PATIENCE: Duration = Duration::from_secs(30);

/// How often a machine's numbers are noted at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

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
    board: Option<watch::Receiver<Board>>,
    /// When its numbers are to be noted.
    report_due: Option<Monotonic>,
    reported: Monotonic,
}

/// A socket, and how far its output is written.
struct Pipe<S> {
    stream: S,
    /// Bytes of the output that are written already.
    written: usize,
    /// Since when the socket takes no more.
    blocked: Option<Monotonic>,
}

/// Serves a machine that has just connected.
pub(super) async fn serve(hall: Arc<Hall>, accepted: Accepted, draining: Draining) {
    let Accepted { stream, peer, permit, .. } = accepted;
    if !hall.config.allows_public && !is_private(peer.ip()) {
        tracing::warn!(%peer, "machines from public addresses are turned away; set translator.allow_public to serve them");
        return;
    }
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
        let mut timer = Timer::default();
        loop {
            timer.set(self.deadline());
            tokio::select! {
                biased;
                () = draining.begun() => return Ok(End::Draining),
                () = changed(&mut self.board) => self.look_at_board(),
                () = timer.fired() => self.handle_timeout()?,
                taken = poll_fn(|cx| self.pipe.poll_io(self.machine.output(), &mut self.lines, cx)) => {
                    taken?;
                    self.take_lines()?;
                }
            }
            self.pass_on();
            self.watch_output()?;
        }
    }

    /// The machine is told of the newest job, or that there is no upstream.
    fn look_at_board(&mut self) {
        let Some(board) = &mut self.board else { return };
        let board = board.borrow_and_update();
        match &board.job {
            Some(job) if board.is_live() => self.machine.handle_job(job, Clock.monotonic()),
            Some(_) | None => self.machine.handle_upstream_lost(Clock.monotonic()),
        }
        // A machine that has fallen silent is noted as such when the next job comes.
        if self.machine.is_ready() {
            self.report_due.get_or_insert(self.reported + REPORT_INTERVAL);
        }
    }

    fn take_lines(&mut self) -> Result<(), End> {
        while let Some(line) = self.lines.next_line()? {
            let registry = &self.hall.registry;
            self.machine.handle_line(line, &mut &*registry, Clock.now())?;
            self.report_due.get_or_insert(self.reported + REPORT_INTERVAL);
        }
        Ok(())
    }

    /// Sends shares up, and joins when the machine has said who it is.
    fn pass_on(&mut self) {
        while let Some(Event::Ready { user }) = self.machine.poll_event() {
            self.permit.establish();
            self.report();
            self.join(user);
        }
        while let Some(share) = self.machine.poll_share() {
            let link = share.route.link;
            let board = self.board.as_ref().map(watch::Receiver::borrow);
            let uplink = board.as_ref().and_then(|board| board.uplink(link));
            let up = Up { machine: self.slot.id, share };
            if uplink.is_none_or(|uplink| uplink.shares.try_send(up).is_err()) {
                self.slot.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn join(&mut self, user: Box<str>) {
        if self.hall.common.is_some() {
            return;
        }
        let (post, board) = watch::channel(Board::default());
        let nominal = self.machine.nominal(Clock.monotonic());
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
        [self.machine.poll_timeout(), self.report_due].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self) -> Result<(), End> {
        let now = Clock.monotonic();
        self.machine.handle_timeout(now)?;
        if self.report_due.is_some_and(|due| due <= now) {
            self.report();
        }
        Ok(())
    }

    fn report(&mut self) {
        let now = Clock.monotonic();
        (self.report_due, self.reported) = (None, now);
        self.slot.nominal.store(self.machine.nominal(now).to_hashes_per_second(), Ordering::Relaxed);
        self.slot.tell(self.machine.report(now));
    }

    /// Bytes that wait are bounded in number and in age. Jobs come often enough for this to be looked at.
    fn watch_output(&mut self) -> Result<(), End> {
        let is_old = self.pipe.blocked.is_some_and(|since| since + DEAF_PATIENCE <= Clock.monotonic());
        let waiting = self.machine.output().len() - self.pipe.written;
        if is_old || waiting > OUTPUT_MAX { Err(End::Deaf) } else { Ok(()) }
    }

    /// Says goodbye, and gives back what was lent.
    async fn finish(mut self, end: &End) {
        if matches!(end, End::Draining) {
            self.machine.handle_drain();
        }
        // Refusals and the farewell are worth a try, but nothing is waited for long.
        let farewell = poll_fn(|cx| self.pipe.poll_write(self.machine.output(), cx));
        let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
        let report = self.machine.report(Clock.monotonic());
        tracing::debug!(machine = self.slot.id, peer = %self.slot.peer, reason = %end, accepted = report.shares.accepted,
            refused = report.shares.refused(), "machine disconnected");
        self.hall.registry.leave(&self.slot, &report);
        if self.hall.common.is_none() {
            let _ = self.hall.joining.send(Joining::Left { machine: self.slot.id }).await;
        }
    }
}

/// Whether an address is of this machine or of a network of one's own.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// Waits until there is something new on the board. Never, without a board.
async fn changed(board: &mut Option<watch::Receiver<Board>>) {
    if let Some(board) = board
        && board.changed().await.is_ok()
    {
        return;
    }
    // Without whoever posts jobs there are none to come.
    pending().await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipe<S> {
    /// Writes what is there and reads what comes; ready when bytes have come.
    fn poll_io(
        &mut self,
        output: &mut Vec<u8>,
        lines: &mut LineReader,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        if let Poll::Ready(Err(error)) = self.poll_write(output, cx) {
            return Poll::Ready(Err(error.into()));
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

    /// Writes what is there, and gives its memory back; ready when all is written.
    fn poll_write(&mut self, output: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = output.get(self.written..).filter(|bytes| !bytes.is_empty()) {
            let Poll::Ready(count) = Pin::new(&mut self.stream).poll_write(cx, bytes)? else {
                self.blocked.get_or_insert_with(|| Clock.monotonic());
                return Poll::Pending;
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        if self.written > 0 {
            *output = Vec::new();
        }
        (self.written, self.blocked) = (0, None);
        Poll::Ready(Ok(()))
    }
}

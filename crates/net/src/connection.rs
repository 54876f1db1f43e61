//! A connection after its handshake: encrypted frames in, encrypted frames out, both bounded.

use core::future::poll_fn;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;

use adit_transport::{
    Frame, FrameQueue, Header, OpenError, Opener, RecvBuffer, SealError, Sealer, Transport, sealed_frame_len,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::{Clock, Timer};

mod outbox;

use outbox::Outbox;
pub use outbox::OutboxLimits;

/// Most bytes taken from the socket at once: some two hundred shares, and the most that one peer can make the server work before
/// others get their turn.
pub const READ_MAX: usize = 16 * 1024;

/// One peer, encrypted. The owner is the one task that serves it.
///
/// Nothing is held while nothing is in flight: bytes are read into the stack and only kept, in exactly the space they need, once
/// there are any; what is written is freed. So thousands of idle connections cost little more than their ciphers.
pub struct Connection<S = TcpStream> {
    stream: S,
    opener: Opener,
    sealer: Sealer,
    received: RecvBuffer,
    outbox: Outbox,
    /// Runs while the socket takes no more bytes.
    stall: Timer,
}

/// Whether [`Connection::io`] takes bytes from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It does.
    Open,
    /// It leaves them in the kernel, whose buffer fills up and tells the peer to wait.
    Paused,
}

/// What [`Connection::io`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// That many bytes came; look for frames.
    Read(usize),
    /// What had been held up is written; the outbox is empty.
    Written,
}

/// Why nothing more can be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The peer has closed its side.
    #[error("peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error("connection broke: {0}")]
    Broken(#[from] io::Error),
    /// Bytes have waited for longer than [`OutboxLimits::age`].
    #[error("peer has not read for too long")]
    Deaf,
}

/// Why frames cannot be queued; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The peer does not read what it is sent.
    #[error("peer does not read: {unwritten} bytes would wait for it, the limit is {limit}")]
    Overflow {
        /// Bytes that would wait with the new frames.
        unwritten: usize,
        /// [`OutboxLimits::bytes`].
        limit: usize,
    },
    /// The cipher refuses to go on.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection with the keys of a finished handshake.
    #[must_use]
    pub fn new(stream: S, transport: Transport, limits: OutboxLimits) -> Self {
        let Transport { opener, sealer } = transport;
        Self {
            stream,
            opener,
            sealer,
            received: RecvBuffer::default(),
            outbox: Outbox::new(limits),
            stall: Timer::default(),
        }
    }

    /// The same connection with other limits on what may wait for the peer, which hold from the next frame on.
    #[must_use]
    pub const fn with_outbox_limits(mut self, limits: OutboxLimits) -> Self {
        self.outbox.set_limits(limits);
        self
    }

    /// Writes what is queued, with one call for all of it, and waits for bytes. Cancel safe.
    ///
    /// This is the branch of a task's `select!`; make it the last one of a `biased` one. Then everything that became ready
    /// together is queued together and leaves in one write, and a peer that never stops sending cannot keep its task from looking
    /// at anything else.
    ///
    /// Returns after bytes were read, or after the outbox was emptied when that had to wait or intake is paused. With intake paused and
    /// nothing to write it waits for ever.
    ///
    /// # Errors
    ///
    /// If the socket fails, the peer has closed it, or it has left data unread for too long: drop it then.
    pub async fn io(&mut self, intake: Intake) -> Result<Io, IoError> {
        self.received.shrink();
        poll_fn(|cx| self.poll_io(cx, intake)).await
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, intake: Intake) -> Poll<Result<Io, IoError>> {
        if !self.outbox.is_empty() {
            let was_held_up = self.outbox.is_held_up();
            if self.poll_write(cx)?.is_pending() {
                self.poll_stall(cx)?;
            } else if was_held_up || intake == Intake::Paused {
                return Poll::Ready(Ok(Io::Written));
            }
        }
        match intake {
            Intake::Open => self.poll_read(cx).map_ok(Io::Read),
            Intake::Paused => Poll::Pending,
        }
    }

    /// Sees to it that the task wakes when the peer has left data unread for too long, and finds that it has.
    ///
    /// Only a socket that takes no more bytes has a timer; most writes go through at once and need none.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Result<(), IoError> {
        while let Some(deadline) = self.outbox.deadline() {
            if deadline <= Clock.monotonic() {
                return Err(IoError::Deaf);
            }
            self.stall.set(Some(deadline));
            if self.stall.poll_fired(cx).is_pending() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for bytes and returns how many came. Cancel safe.
    ///
    /// # Errors
    ///
    /// If the socket fails or the peer has closed it.
    pub async fn read(&mut self) -> Result<usize, IoError> {
        self.received.shrink();
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Writes all that is queued. Cancel safe.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub async fn flush(&mut self) -> Result<(), IoError> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Takes the next whole frame out of the bytes that came, or `None` if more bytes are needed.
    ///
    /// Call it until `None` after each read. `limit` says how many bytes of payload the frame may carry by its header.
    ///
    /// # Errors
    ///
    /// If the peer tampered with the stream or sent a frame beyond the limit; the connection is then of no more use.
    pub fn next_frame(
        &mut self,
        limit: impl FnOnce(&Header) -> usize,
    ) -> Result<Option<Frame<'_>>, OpenError> {
        self.opener.open(&mut self.received, limit)
    }

    /// Seals frames into the outbox and leaves the queue empty; [`Self::io`] or [`Self::flush`] writes them.
    ///
    /// Frames for a peer that is not congested are taken in one piece however many they are: what a caller has to say at once may be
    /// more than a peer may leave unread. So the outbox holds at most half its limit and one such piece, and a caller bounds its pieces.
    ///
    /// # Errors
    ///
    /// If the peer is congested, and the outbox would hold more than [`OutboxLimits::bytes`]: drop this peer, it does not read.
    pub fn queue(&mut self, frames: &mut FrameQueue) -> Result<(), QueueError> {
        if frames.is_empty() {
            return Ok(());
        }
        let sealed: usize = frames.iter().map(|frame| sealed_frame_len(frame.payload.len())).sum();
        let (unwritten, limit) = (self.outbox.len() + sealed, self.outbox.limits().bytes);
        if self.is_congested() && unwritten > limit {
            return Err(QueueError::Overflow { unwritten, limit });
        }
        let sealer = &mut self.sealer;
        self.outbox.append(Clock.monotonic(), |bytes| sealer.seal_all(frames, bytes))?;
        Ok(())
    }

    /// Encrypted bytes that wait to be written.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the peer lags so far behind that the task should send it no more than it must, and take no requests from it.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.outbox.len() > self.outbox.limits().bytes / 2
    }

    /// Closes gently: writes what is queued, says that no more comes, and waits until the peer has closed too, but no longer than
    /// `patience` in all.
    ///
    /// A socket closed while bytes from the peer are unread is reset, and a reset may overtake the last bytes sent, which
    /// are acknowledgements or the reason why the peer is turned away.
    pub async fn close(mut self, patience: Duration) {
        let deadline = Clock.instant(Clock.monotonic() + patience);
        let farewell = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            poll_fn(|cx| self.poll_discard(cx)).await
        };
        match timeout_at(deadline, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "closed by the peer"),
            Err(_) => tracing::trace!("peer did not close in time"),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, IoError>> {
        let mut space = [const { MaybeUninit::uninit() }; READ_MAX];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(IoError::Closed));
        }
        let spare = self.received.spare(bytes.len());
        let (space, _) = spare.split_at_mut(bytes.len());
        space.copy_from_slice(bytes);
        self.received.advance(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), IoError>> {
        while !self.outbox.is_empty() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, self.outbox.bytes()) {
                Poll::Ready(written) => written?,
                Poll::Pending => {
                    self.outbox.hold_up();
                    return Poll::Pending;
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.outbox.consume(written, || Clock.monotonic());
        }
        self.stall = Timer::default();
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the peer has closed.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), IoError>> {
        let mut space = [const { MaybeUninit::uninit() }; READ_MAX];
        loop {
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Connection<TcpStream> {
    /// The socket, for what there is to be asked or set of it.
    #[must_use]
    pub const fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Where the peer is.
    ///
    /// # Errors
    ///
    /// If the socket is broken already.
    pub fn peer(&self) -> io::Result<std::net::SocketAddr> {
        self.stream.peer_addr()
    }
}

impl<S> core::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection").field("unwritten", &self.outbox.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

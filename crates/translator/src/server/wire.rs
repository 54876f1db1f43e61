//! A link's two halves, the protocol and the socket, for either protocol that an upstream may speak.

use core::future::poll_fn;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;

use adit_net::{
    Clock, ConnectError, Connection, Intake, OutboxLimits, connect, connect_plain, connect_unauthenticated,
};
use adit_units::{Hashrate, Monotonic};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::link::{Destination, LinkError};
use super::pool::Pool;
use crate::legacy::{LINE_MAX, LegacyUpstream};
use crate::sv1::LineReader;
use crate::upstream::{ChannelView, DOUBT_AFTER, Event, NotOpened, NotSubmitted, UpShare, Upstream};

/// Bytes that may wait for an upstream: requests for tens of thousands of channels.
const OUTBOX_BYTES: usize = 16 << 20;

/// Bytes that may wait for an SV1 upstream: some thousands of shares.
const PLAIN_OUTBOX_BYTES: usize = 1 << 20;

/// Most bytes taken from the socket at once.
const READ_MAX: usize = 16 * 1024;

/// The protocol.
#[derive(Debug)]
pub(super) enum Speaker {
    Sv2(Box<Upstream>),
    Sv1(Box<LegacyUpstream>),
}

/// The socket.
pub(super) enum Wire {
    Sv2(Box<Connection>),
    Sv1(Plain),
}

/// A socket without encryption, and what waits to be written and read.
pub(super) struct Plain {
    stream: TcpStream,
    lines: LineReader,
    output: Vec<u8>,
    /// Bytes of the output that are written already.
    written: usize,
}

impl Speaker {
    pub(super) fn new(to: &Destination, now: Monotonic) -> Self {
        match &to.pool {
            Pool::Sv2(_) => Self::Sv2(Box::new(Upstream::new(&to.upstream, now))),
            Pool::Sv1(_) => Self::Sv1(Box::new(LegacyUpstream::new(&to.legacy, now))),
        }
    }

    pub(super) fn open(
        &mut self,
        key: u64,
        user: &str,
        nominal: Hashrate,
        now: Monotonic,
    ) -> Result<(), NotOpened> {
        match self {
            Self::Sv2(upstream) => upstream.open(key, user, nominal, now),
            Self::Sv1(upstream) => upstream.open(key, nominal, now),
        }
    }

    pub(super) fn close(&mut self, key: u64) {
        match self {
            Self::Sv2(upstream) => upstream.close(key),
            Self::Sv1(upstream) => upstream.close(key),
        }
    }

    pub(super) fn set_hashrate(&mut self, key: u64, nominal: Hashrate, now: Monotonic) {
        match self {
            Self::Sv2(upstream) => upstream.set_hashrate(key, nominal, now),
            Self::Sv1(upstream) => upstream.set_hashrate(key, nominal),
        }
    }

    pub(super) fn submit(&mut self, share: &UpShare) -> Result<(), NotSubmitted> {
        match self {
            Self::Sv2(upstream) => upstream.submit(share),
            Self::Sv1(upstream) => upstream.submit(share, Clock.monotonic()),
        }
    }

    pub(super) fn abandon(&mut self) {
        match self {
            Self::Sv2(upstream) => upstream.abandon(),
            Self::Sv1(upstream) => upstream.abandon(),
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        match self {
            Self::Sv2(upstream) => upstream.poll_event(),
            Self::Sv1(upstream) => upstream.poll_event(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Monotonic> {
        match self {
            Self::Sv2(upstream) => upstream.poll_timeout(),
            Self::Sv1(upstream) => upstream.poll_timeout(),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) -> Result<(), LinkError> {
        match self {
            Self::Sv2(upstream) => Ok(upstream.handle_timeout(now)?),
            Self::Sv1(upstream) => Ok(upstream.handle_timeout(now)?),
        }
    }

    pub(super) fn doubt_after_next(&self) -> Duration {
        match self {
            Self::Sv2(upstream) => upstream.doubt_after_next(),
            // SV1 pools answer each share.
            Self::Sv1(_) => DOUBT_AFTER,
        }
    }

    pub(super) fn pending(&self) -> usize {
        match self {
            Self::Sv2(upstream) => upstream.pending(),
            Self::Sv1(upstream) => upstream.pending(),
        }
    }

    /// Whether versions may be rolled, as far as the connection goes.
    pub(super) fn allows_version_rolling(&self) -> bool {
        match self {
            Self::Sv2(upstream) => upstream.allows_version_rolling(),
            Self::Sv1(upstream) => upstream.allows_version_rolling(),
        }
    }

    /// What is left of the extranonce, where that is said before there is a channel.
    pub(super) fn extranonce_size(&self) -> Option<u16> {
        match self {
            Self::Sv2(_) => None,
            Self::Sv1(upstream) => upstream.extranonce_size(),
        }
    }

    /// The channels that are open.
    pub(super) fn channels(&self) -> impl Iterator<Item = ChannelView<'_>> {
        let (sv2, sv1) = match self {
            Self::Sv2(upstream) => (Some(upstream.channels()), None),
            Self::Sv1(upstream) => (None, upstream.channel()),
        };
        sv2.into_iter().flatten().chain(sv1)
    }
}

impl Wire {
    pub(super) async fn dial(to: &Destination) -> Result<Self, ConnectError> {
        let address = to.pool.address();
        let connection = match &to.pool {
            Pool::Sv1(_) => return Ok(Self::Sv1(Plain::new(connect_plain(&address).await?))),
            Pool::Sv2(url) => match url.authority() {
                None if to.insecure => connect_unauthenticated(&address).await?,
                authority => connect(&address, authority).await?,
            },
        };
        let limits = OutboxLimits { bytes: OUTBOX_BYTES, ..OutboxLimits::default() };
        Ok(Self::Sv2(Box::new(connection.with_outbox_limits(limits))))
    }

    pub(super) const fn socket(&self) -> &TcpStream {
        match self {
            Self::Sv2(connection) => connection.socket(),
            Self::Sv1(plain) => &plain.stream,
        }
    }

    /// Takes what the protocol has to send.
    pub(super) fn queue(&mut self, speaker: &mut Speaker) -> Result<(), LinkError> {
        match (self, speaker) {
            (Self::Sv2(connection), Speaker::Sv2(upstream)) => Ok(connection.queue(upstream.frames())?),
            (Self::Sv1(plain), Speaker::Sv1(upstream)) => plain.queue(upstream.output()),
            (Self::Sv2(_), Speaker::Sv1(_)) | (Self::Sv1(_), Speaker::Sv2(_)) => Err(LinkError::Dismissed),
        }
    }

    /// Writes, and reads if that is wanted, until something has come or gone out; nothing is lost when this is given up half-way.
    pub(super) async fn io(&mut self, intake: Intake) -> Result<(), LinkError> {
        match self {
            Self::Sv2(connection) => {
                connection.io(intake).await?;
            }
            Self::Sv1(plain) => poll_fn(|cx| plain.poll_io(cx, intake)).await.map_err(LinkError::Broken)?,
        }
        Ok(())
    }

    /// Gives the protocol one message of those that have come; whether there was one. What it makes of it is to be taken before the next: a job
    /// for a group is work for each of its channels, and a single read may hold a hundred of them.
    pub(super) fn read_one(&mut self, speaker: &mut Speaker) -> Result<bool, LinkError> {
        match (self, speaker) {
            (Self::Sv2(connection), Speaker::Sv2(upstream)) => {
                let frame = connection.next_frame(|header| upstream.frame_limit(header))?;
                let Some(frame) = frame else { return Ok(false) };
                upstream.handle_frame(frame, Clock.monotonic())?;
            }
            (Self::Sv1(plain), Speaker::Sv1(upstream)) => {
                let Some(line) = plain.lines.next_line()? else { return Ok(false) };
                upstream.handle_line(line, Clock.monotonic())?;
            }
            (Self::Sv2(_), Speaker::Sv1(_)) | (Self::Sv1(_), Speaker::Sv2(_)) => {
                return Err(LinkError::Dismissed);
            }
        }
        Ok(true)
    }

    /// Ends it in order, for as long as that may take.
    pub(super) async fn close(self, patience: Duration) {
        match self {
            Self::Sv2(connection) => {
                connection.close(patience).await;
            }
            Self::Sv1(mut plain) => {
                let rest = plain.output.split_off(plain.written);
                let farewell = async {
                    plain.stream.write_all(&rest).await?;
                    plain.stream.shutdown().await
                };
                // Whether the pool has read the last of it or not, there is nobody left to tell.
                let _ = timeout(patience, farewell).await;
            }
        }
    }
}

impl Plain {
    const fn new(stream: TcpStream) -> Self {
        Self { stream, lines: LineReader::new(LINE_MAX), output: Vec::new(), written: 0 }
    }

    fn queue(&mut self, more: &mut Vec<u8>) -> Result<(), LinkError> {
        if self.output.len() - self.written + more.len() > PLAIN_OUTBOX_BYTES {
            return Err(LinkError::Deaf);
        }
        self.output.drain(..self.written);
        self.written = 0;
        self.output.append(more);
        Ok(())
    }

    /// Writes what is there and reads what comes, if that is wanted; ready when bytes have come.
    fn poll_io(&mut self, cx: &mut Context<'_>, intake: Intake) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error));
        }
        if intake == Intake::Paused {
            return Poll::Pending;
        }
        let mut space = [const { MaybeUninit::uninit() }; READ_MAX];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.lines.push(buffer.filled());
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.output.get(self.written..).filter(|bytes| !bytes.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        (self.output, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

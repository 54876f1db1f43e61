//! Connections over an in-memory pipe whose calls are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::UnixTime;
use tokio::io::{DuplexStream, duplex};
use tokio::time::timeout;

use super::*;
use crate::handshake::{HANDSHAKE_PATIENCE, HandshakeLane, initiate};
use crate::{HandshakeError, OsRng};

const LIMIT: usize = 1_000;
const SECOND: Duration = Duration::from_secs(1);

/// A stream that counts the calls that moved bytes.
struct Counted {
    inner: DuplexStream,
    calls: Arc<Calls>,
}

#[derive(Default)]
struct Calls {
    reads: AtomicUsize,
    writes: AtomicUsize,
}

impl Calls {
    /// Reads and writes since the last time this was asked.
    fn take(&self) -> (usize, usize) {
        (self.reads.swap(0, Relaxed), self.writes.swap(0, Relaxed))
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.calls.reads.fetch_add(usize::from(read.is_ready()), Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.calls.writes.fetch_add(usize::from(written.is_ready()), Relaxed);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn identity() -> (Arc<Identity>, AuthorityPublicKey) {
    let authority = AuthorityKeyPair::generate(&mut OsRng);
    let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
    let identity = Identity::new(&authority, StaticKeyPair::generate(&mut OsRng), from, until);
    (Arc::new(identity.unwrap()), authority.public_key())
}

/// A server's and a client's end of a pipe that holds `capacity` bytes each way.
async fn pair(
    capacity: usize,
    limits: OutboxLimits,
) -> (Connection<Counted>, Connection<DuplexStream>, Arc<Calls>) {
    let (near, far) = duplex(capacity);
    let calls = Arc::new(Calls::default());
    let (identity, authority) = identity();
    let lane = HandshakeLane::start(1).unwrap();
    let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
    let stream = Counted { inner: near, calls: Arc::clone(&calls) };
    let (server, client) = tokio::join!(
        lane.respond(stream, identity, deadline, limits),
        initiate(far, Some(authority), deadline, OutboxLimits::default())
    );
    calls.take();
    (server.unwrap(), client.unwrap(), calls)
}

fn frames(count: usize, payload: &[u8]) -> FrameQueue {
    let mut queue = FrameQueue::default();
    for _ in 0..count {
        queue.push(0, true, 0x1b, payload).unwrap();
    }
    queue
}

/// Takes all whole frames and returns their number.
fn drain<S: AsyncRead + AsyncWrite + Unpin>(connection: &mut Connection<S>) -> usize {
    let mut count = 0;
    while connection.next_frame(|_| LIMIT).unwrap().is_some() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn many_frames_cost_one_read_and_their_answers_one_write() {
    let (mut server, mut client, calls) = pair(64 * 1024, OutboxLimits::default()).await;
    client.queue(&mut frames(150, &[7; 57])).unwrap();
    client.flush().await.unwrap();
    assert!(matches!(server.io(Intake::Open).await, Ok(Io::Read(_))));
    assert_eq!(drain(&mut server), 150);
    assert_eq!(calls.take(), (1, 0));
    for _ in 0..20 {
        server.queue(&mut frames(5, &[8; 24])).unwrap();
    }
    // Nothing comes: the call writes and then waits until it is cancelled.
    assert!(timeout(Duration::from_millis(50), server.io(Intake::Open)).await.is_err());
    assert_eq!(calls.take(), (0, 1));
    assert_eq!(server.unwritten(), 0);
    client.read().await.unwrap();
    assert_eq!(drain(&mut client), 100);
}

#[tokio::test]
async fn cancelled_waits_lose_nothing() {
    let (mut server, mut client, _) = pair(100, OutboxLimits::default()).await;
    let echo = tokio::spawn(async move {
        let mut echoed = 0;
        while echoed < 50 {
            let waited = timeout(Duration::from_micros(50), server.io(Intake::Open)).await;
            if let Ok(done) = waited {
                done.unwrap();
            }
            let count = drain(&mut server);
            server.queue(&mut frames(count, &[9; 33])).unwrap();
            echoed += count;
        }
        server.flush().await.unwrap();
        server
    });
    client.queue(&mut frames(50, &[9; 33])).unwrap();
    let mut answers = 0;
    while answers < 50 {
        let waited = timeout(Duration::from_micros(70), client.io(Intake::Open)).await;
        if let Ok(done) = waited {
            done.unwrap();
        }
        answers += drain(&mut client);
    }
    drop(echo.await.unwrap());
    assert!(matches!(client.read().await, Err(IoError::Closed)));
}

#[tokio::test]
async fn paused_intake_leaves_bytes_where_they_are() {
    let (mut server, mut client, calls) = pair(1_000, OutboxLimits::default()).await;
    client.queue(&mut frames(3, &[1; 10])).unwrap();
    client.flush().await.unwrap();
    server.queue(&mut frames(1, &[2; 10])).unwrap();
    assert_eq!(server.io(Intake::Paused).await.unwrap(), Io::Written);
    assert!(timeout(Duration::from_millis(50), server.io(Intake::Paused)).await.is_err());
    assert_eq!(calls.take(), (0, 1));
    assert!(matches!(server.io(Intake::Open).await, Ok(Io::Read(_))));
    assert_eq!(drain(&mut server), 3);
}

/// With 256 channels of its own each, a new tip is more than an outbox holds: jobs, targets and the tip, for every channel.
#[tokio::test]
async fn a_peer_that_reads_is_not_dropped_for_how_much_there_is_to_say_at_once() {
    let limits = OutboxLimits { bytes: 2_000, age: 30 * SECOND };
    let (mut server, mut client, _) = pair(500, limits).await;
    server.queue(&mut frames(7, &[3; 100])).unwrap();
    assert!(!server.is_congested());
    server.queue(&mut frames(100, &[4; 100])).unwrap();
    assert!(server.is_congested() && server.unwritten() > 10_000);
    let refused = server.queue(&mut frames(1, &[5; 100]));
    assert!(matches!(refused, Err(QueueError::Overflow { limit: 2_000, .. })), "{refused:?}");
    let reading = async {
        let mut heard = 0;
        while heard < 107 {
            client.read().await.unwrap();
            heard += drain(&mut client);
        }
    };
    let (written, ()) = tokio::join!(server.flush(), reading);
    written.unwrap();
    server.queue(&mut frames(100, &[6; 100])).unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_overflows_or_gets_old() {
    let limits = OutboxLimits { bytes: 2_000, age: 30 * SECOND };
    let (mut server, mut client, _) = pair(500, limits).await;
    tokio::time::pause();
    server.queue(&mut frames(14, &[3; 100])).unwrap();
    assert!(timeout(SECOND, server.io(Intake::Open)).await.is_err());
    assert!(server.unwritten() > 1_000 && server.is_congested());
    let refused = server.queue(&mut frames(10, &[3; 100]));
    assert!(matches!(refused, Err(QueueError::Overflow { limit: 2_000, .. })), "{refused:?}");
    let start = Clock.monotonic();
    let gone = timeout(60 * SECOND, server.io(Intake::Paused)).await.expect("it waits for ever");
    assert!(matches!(gone, Err(IoError::Deaf)), "{gone:?}");
    assert!((28 * SECOND..=31 * SECOND).contains(&(Clock.monotonic() - start)));
    // Reading makes it a good peer again.
    let reading = async { while client.read().await.is_ok() {} };
    tokio::select! {
        written = server.flush() => written.unwrap(),
        () = reading => panic!("the server closed the connection"),
    }
    assert_eq!(server.unwritten(), 0);
    assert!(timeout(100 * SECOND, server.io(Intake::Open)).await.is_err(), "no deadline is left");
}

#[tokio::test]
async fn a_claim_of_sixteen_mebibytes_costs_nothing() {
    let (mut server, client, _) = pair(1_000, OutboxLimits::default()).await;
    let Connection { mut stream, mut sealer, .. } = client;
    let payload = vec![0; (1 << 24) - 1];
    let mut sealed = Vec::new();
    sealer.seal(Frame::new(0, false, 0, &payload).unwrap(), &mut sealed).unwrap();
    stream.write_all(&sealed[..500]).await.unwrap();
    server.read().await.unwrap();
    assert!(matches!(server.next_frame(|_| LIMIT), Err(OpenError::TooLong { limit: LIMIT, .. })));
    assert!(server.received.capacity() < 2 * READ_MAX);
    assert!(matches!(server.next_frame(|_| LIMIT), Err(OpenError::Failed)), "and it stays refused");
}

#[tokio::test]
async fn idle_connections_hold_no_buffers() {
    let (mut server, mut client, _) = pair(64 * 1024, OutboxLimits::default()).await;
    for _ in 0..3 {
        client.queue(&mut frames(150, &[7; 57])).unwrap();
        client.flush().await.unwrap();
        server.io(Intake::Open).await.unwrap();
        let count = drain(&mut server);
        server.queue(&mut frames(count, &[7; 57])).unwrap();
    }
    assert!(timeout(Duration::from_millis(20), server.io(Intake::Open)).await.is_err());
    assert_eq!(server.received.capacity(), 0);
    assert!(server.outbox.is_empty());
    assert!(size_of::<Connection>() < 512, "{}", size_of::<Connection>());
}

#[tokio::test]
async fn closing_delivers_what_was_queued_and_waits_for_the_peer() {
    let (mut server, mut client, _) = pair(300, OutboxLimits::default()).await;
    server.queue(&mut frames(20, &[4; 57])).unwrap();
    client.queue(&mut frames(2, &[5; 57])).unwrap();
    client.flush().await.unwrap();
    let closing = tokio::spawn(server.close(5 * SECOND));
    let mut answers = 0;
    while client.read().await.is_ok() {
        answers += drain(&mut client);
    }
    assert_eq!(answers, 20);
    assert!(!closing.is_finished(), "it waits for the peer to close");
    drop(client);
    closing.await.unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_for_ever() {
    let (mut server, client, _) = pair(300, OutboxLimits::default()).await;
    tokio::time::pause();
    server.queue(&mut frames(20, &[4; 57])).unwrap();
    let start = Clock.monotonic();
    server.close(5 * SECOND).await;
    assert!(Clock.monotonic() - start < 6 * SECOND);
    drop(client);
}

#[tokio::test]
async fn who_never_stops_sending_is_read_no_more_once_it_is_left() {
    let (server, mut client, _) = pair(READ_MAX, OutboxLimits::default()).await;
    tokio::time::pause();
    let closing = tokio::spawn(server.close(5 * SECOND));
    let mut sent = 0;
    loop {
        client.queue(&mut frames(100, &[5; 57])).unwrap();
        if client.flush().await.is_err() {
            break;
        }
        sent += 100 * sealed_frame_len(57);
        assert!(sent < 2 * DISCARD_MAX, "it takes in whatever comes");
    }
    closing.await.unwrap();
    assert!(sent > DISCARD_MAX / 2, "what was under way is taken in");
}

#[tokio::test(start_paused = true)]
async fn act_1_has_an_absolute_deadline() {
    let (near, mut far) = duplex(1_000);
    let lane = HandshakeLane::start(1).unwrap();
    let start = Clock.monotonic();
    let answer = lane.respond(near, identity().0, start + HANDSHAKE_PATIENCE, OutboxLimits::default());
    let dribble = async {
        for _ in 0..60 {
            tokio::time::sleep(SECOND / 5).await;
            if far.write_all(&[1]).await.is_err() {
                break;
            }
        }
    };
    let (answer, ()) = tokio::join!(answer, dribble);
    assert!(matches!(answer, Err(HandshakeError::Late)), "{answer:?}");
}

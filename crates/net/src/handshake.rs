//! The Noise handshake over a socket: the server's side in a lane of its own, the client's side in place.

use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::{io, thread};

use adit_transport::{ACT1_LEN, ACT2_LEN, AuthorityPublicKey, Identity, Initiator, Responder, Transport};
use adit_units::Monotonic;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::connection::{Connection, OutboxLimits};
use crate::{Clock, OsRng};

/// How long a peer has for the whole handshake, from the moment it was accepted; sending one byte at a time gains nothing.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How much the lane's thread steps back behind those that serve established sessions (Unix "nice" value).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Answers that are given out together when many wait. Each wakes a thread that goes before this one, so that one by one they would cost two
/// changes of threads each; eight take less than a millisecond.
const ANSWERS_AT_ONCE: usize = 8;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer took longer than it may.
    #[error("handshake was not finished in time")]
    Late,
    /// The socket failed, or the peer closed it.
    #[error("connection broke during the handshake: {0}")]
    Broken(#[from] io::Error),
    /// What the peer sent does not make a session, or its certificate is not what we trust.
    #[error(transparent)]
    Refused(#[from] adit_transport::HandshakeError),
    /// More handshakes wait for the lane than it queues.
    #[error("too many handshakes are waiting; try again later")]
    Crowded,
    /// The lane's thread is gone, which happens when the program ends.
    #[error("the server is going down")]
    LaneClosed,
}

/// A thread that computes the server's side of handshakes, one after another.
///
/// A handshake costs a stranger 64 random bytes and the server some hundred microseconds of computing. Done here, a flood of them
/// can use up one thread that the system schedules behind all others, and never delays a share of an established session.
/// Cloning gives another handle; the thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct HandshakeLane {
    queue: SyncSender<Work>,
}

/// One handshake to compute.
struct Work {
    act1: [u8; ACT1_LEN],
    identity: Arc<Identity>,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<([u8; ACT2_LEN], Transport), adit_transport::HandshakeError>;

impl HandshakeLane {
    /// Starts the lane; at most `waiting` handshakes queue for it.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(waiting: usize) -> io::Result<Self> {
        let (queue, work) = sync_channel(waiting.max(1));
        thread::Builder::new().name("handshakes".into()).spawn(move || run(&work))?;
        Ok(Self { queue })
    }

    /// Answers a client's handshake, presenting `identity`.
    ///
    /// The peer has until `deadline`, which is absolute; nothing is computed for a peer that is gone by the time its turn comes.
    ///
    /// # Errors
    ///
    /// If the peer is late, leaves or sends what is no handshake, or if the lane is full.
    pub async fn respond<S>(
        &self,
        mut stream: S,
        identity: Arc<Identity>,
        deadline: Monotonic,
        limits: OutboxLimits,
    ) -> Result<Connection<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let exchange = async {
            let mut act1 = [0; ACT1_LEN];
            stream.read_exact(&mut act1).await?;
            let (act2, transport) = self.compute(act1, identity).await?;
            stream.write_all(&act2).await?;
            stream.flush().await?;
            Ok::<_, HandshakeError>(transport)
        };
        match timeout_at(Clock.instant(deadline), exchange).await {
            Ok(transport) => Ok(Connection::new(stream, transport?, limits)),
            Err(_) => Err(HandshakeError::Late),
        }
    }

    async fn compute(
        &self,
        act1: [u8; ACT1_LEN],
        identity: Arc<Identity>,
    ) -> Result<([u8; ACT2_LEN], Transport), HandshakeError> {
        let (answer, computed) = oneshot::channel();
        self.queue.try_send(Work { act1, identity, answer }).map_err(|error| match error {
            TrySendError::Full(_) => HandshakeError::Crowded,
            TrySendError::Disconnected(_) => HandshakeError::LaneClosed,
        })?;
        Ok(computed.await.map_err(|_| HandshakeError::LaneClosed)??)
    }
}

fn run(queue: &Receiver<Work>) {
    step_back();
    let mut computed = Vec::with_capacity(ANSWERS_AT_ONCE);
    while let Ok(work) = queue.recv() {
        let mut next = Some(work);
        while let Some(Work { act1, identity, answer }) = next {
            if !answer.is_closed() {
                computed.push((answer, Responder::new(identity, &mut OsRng).accept(&act1)));
            }
            next = if computed.len() < ANSWERS_AT_ONCE { queue.try_recv().ok() } else { None };
        }
        for (answer, computed) in computed.drain(..) {
            // The peer may have left meanwhile; then nobody wants the answer.
            let _ = answer.send(computed);
        }
    }
}

/// Lets the threads of established sessions go first.
fn step_back() {
    // Elsewhere priorities belong to processes; there the lane is only one thread among several.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "handshake lane keeps its priority");
    }
}

/// Shakes hands as a client; `authority` is who must have signed the server's certificate, `None` takes any server.
///
/// # Errors
///
/// If the server is late, leaves, or is not the one that is trusted.
pub async fn initiate<S>(
    mut stream: S,
    authority: Option<AuthorityPublicKey>,
    deadline: Monotonic,
    limits: OutboxLimits,
) -> Result<Connection<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        let initiator = Initiator::new(authority, &mut OsRng);
        stream.write_all(&initiator.act1()).await?;
        stream.flush().await?;
        let mut act2 = [0; ACT2_LEN];
        stream.read_exact(&mut act2).await?;
        Ok::<_, HandshakeError>(initiator.finish(&act2, Clock.unix())?)
    };
    match timeout_at(Clock.instant(deadline), exchange).await {
        Ok(transport) => Ok(Connection::new(stream, transport?, limits)),
        Err(_) => Err(HandshakeError::Late),
    }
}

#[cfg(test)]
mod tests {
    use adit_transport::{AuthorityKeyPair, StaticKeyPair};
    use adit_units::UnixTime;

    use super::*;

    fn identity(authority: &AuthorityKeyPair) -> Arc<Identity> {
        let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
        Arc::new(Identity::new(authority, StaticKeyPair::generate(&mut OsRng), from, until).unwrap())
    }

    #[tokio::test]
    async fn a_full_lane_turns_the_newest_away_and_a_closed_one_everybody() {
        let (queue, work) = sync_channel(1);
        let lane = HandshakeLane { queue };
        let identity = identity(&AuthorityKeyPair::generate(&mut OsRng));
        let first = lane.compute([1; ACT1_LEN], Arc::clone(&identity));
        tokio::pin!(first);
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut first).await.is_err());
        let second = lane.compute([2; ACT1_LEN], Arc::clone(&identity)).await;
        assert!(matches!(second, Err(HandshakeError::Crowded)));
        drop(work);
        assert!(matches!(first.await, Err(HandshakeError::LaneClosed)));
        assert!(matches!(lane.compute([3; ACT1_LEN], identity).await, Err(HandshakeError::LaneClosed)));
    }

    #[tokio::test]
    async fn nothing_is_computed_for_a_peer_that_left() {
        let (queue, work) = sync_channel(1);
        let lane = HandshakeLane { queue };
        let identity = identity(&AuthorityKeyPair::generate(&mut OsRng));
        {
            let gone = lane.compute([1; ACT1_LEN], identity);
            assert!(tokio::time::timeout(Duration::from_millis(10), gone).await.is_err());
        }
        let left = work.recv().unwrap();
        assert!(left.answer.is_closed());
    }

    #[test]
    fn of_a_crowd_everybody_is_answered_who_is_still_there() {
        let crowd = 2 * ANSWERS_AT_ONCE + 3;
        let (queue, work) = sync_channel(crowd);
        let identity = identity(&AuthorityKeyPair::generate(&mut OsRng));
        let mut answers: Vec<_> = (0..crowd)
            .map(|_| {
                let (answer, computed) = oneshot::channel();
                let identity = Arc::clone(&identity);
                queue.try_send(Work { act1: [1; ACT1_LEN], identity, answer }).unwrap();
                computed
            })
            .collect();
        drop((answers.remove(4), queue));
        run(&work);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().unwrap().is_ok()));
    }

    #[tokio::test]
    async fn another_authority_is_not_trusted() {
        let (near, far) = tokio::io::duplex(1_000);
        let lane = HandshakeLane::start(1).unwrap();
        let (ours, theirs) = (AuthorityKeyPair::generate(&mut OsRng), AuthorityKeyPair::generate(&mut OsRng));
        let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
        let limits = OutboxLimits::default();
        let (_server, client) = tokio::join!(
            lane.respond(near, identity(&theirs), deadline, limits),
            initiate(far, Some(ours.public_key()), deadline, limits)
        );
        assert!(matches!(client, Err(HandshakeError::Refused(_))), "{client:?}");
    }
}

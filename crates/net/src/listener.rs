//! Accepting peers: a bound socket, admission, and patience when the system runs out of descriptors.

use core::convert::Infallible;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinError;
use tokio::time::sleep;

use crate::admission::{Admission, Permit, Place, Refused};
use crate::{Clock, Limits, socket};
use adit_units::Monotonic;

/// Connections the kernel completes and holds for us while newcomers wait for a place; the system may hold fewer.
const BACKLOG: i32 = 4_096;

/// How often the operator is told at most of each limit that peers run into.
const REFUSAL_WARN_INTERVAL: Duration = Duration::from_secs(60);

/// First pause after the system could not give a descriptor or memory for a new connection.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest such pause; they double up to it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// An address that is ours, on which nobody is served yet.
///
/// Where the address was taken with [`Self::new`], whoever connects is refused at once and can go elsewhere. Where a supervisor
/// handed over a socket that listens, which it keeps open itself over a restart, whoever connects waits in the kernel's queue until
/// somebody [listens](Self::listen) or [turns him away](Self::turn_away).
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    address: SocketAddr,
    is_handed_over: bool,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    is_handed_over: bool,
    /// Whether those who connect have their options from the beginning.
    prepares: bool,
    /// Whether peers come through a proxy that says later where from.
    is_behind_proxy: bool,
    admission: Admission,
    told: Told,
    /// The next pause; [`BACKOFF_MIN`] while all is well.
    backoff: Duration,
}

/// A peer that was admitted.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket, options set.
    pub stream: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// When it came; deadlines of the handshake count from here.
    pub at: Monotonic,
    /// Its right to be here; keep it for as long as the connection lives.
    pub permit: Permit,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {cause}; check that the address is this machine's and that no other program has the port"
)]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said; not told a second time as the source of the error.
    pub cause: io::Error,
}

impl Bound {
    /// Takes the address; port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// If the system does not give the address.
    pub fn new(address: SocketAddr) -> Result<Self, BindError> {
        let socket = bind(address).map_err(|cause| BindError { address, cause })?;
        let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
        Ok(Self { socket, address: bound.unwrap_or(address), is_handed_over: false })
    }

    /// Takes over a socket that listens already, as a supervisor hands it over.
    ///
    /// # Errors
    ///
    /// If the socket does not listen on an address of the internet.
    pub fn handed_over(socket: std::net::TcpListener) -> io::Result<Self> {
        if !SockRef::from(&socket).is_listener()? {
            return Err(io::Error::other("the socket does not listen"));
        }
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: socket.into(), address, is_handed_over: true })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If another program has begun to listen there before.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn listen(self, limits: Limits) -> Result<Listener, BindError> {
        self.listen_with(Admission::new(limits))
    }

    /// Begins to listen, and counts peers together with those that were admitted before.
    ///
    /// # Errors
    ///
    /// If another program has begun to listen there before.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn listen_with(self, admission: Admission) -> Result<Listener, BindError> {
        let Self { address, .. } = self;
        self.into_listener(admission).map_err(|cause| BindError { address, cause })
    }

    fn into_listener(self, admission: Admission) -> io::Result<Listener> {
        let Self { socket, address, is_handed_over } = self;
        // Whoever has connected to a socket that was handed over did so before it could be given options.
        let prepares = socket::ARE_INHERITED && !is_handed_over;
        if prepares {
            socket::prepare(&SockRef::from(&socket))?;
        }
        if !is_handed_over {
            socket.listen(BACKLOG)?;
        }
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr().unwrap_or(address);
        Ok(Listener {
            socket,
            address,
            is_handed_over,
            prepares,
            is_behind_proxy: false,
            admission,
            told: Told::default(),
            backoff: BACKOFF_MIN,
        })
    }

    /// Closes the connection of whoever comes, so that he goes elsewhere; never returns. Cancel safe.
    ///
    /// Only a socket that was handed over has anybody to turn away.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub async fn turn_away(&self) -> Infallible {
        if self.is_handed_over {
            let listener = self.socket.try_clone().and_then(|socket| TcpListener::from_std(socket.into()));
            match listener {
                Ok(listener) => return turn_all_away(&listener).await,
                Err(error) => tracing::error!(%error, "whoever connects waits in vain"),
            }
        }
        core::future::pending().await
    }
}

async fn turn_all_away(listener: &TcpListener) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((_, peer)) => tracing::debug!(%peer, "turned away"),
            Err(error) if is_of_one_peer(&error) => {}
            Err(_) => sleep(BACKOFF_MAX).await,
        }
    }
}

impl Listener {
    /// Takes the address and listens on it; port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// If the system does not give the address.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn bind(address: SocketAddr, limits: Limits) -> Result<Self, BindError> {
        Bound::new(address)?.listen(limits)
    }

    /// Peers come through a proxy from now on. Each counts for no address until it is known where it comes from, and
    /// [`Permit::count_for`] is told.
    #[must_use]
    pub fn behind_proxy(mut self) -> Self {
        self.is_behind_proxy = true;
        self
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and keeps the address; what that means for whoever connects, [`Bound`] says. Who is connected stays.
    ///
    /// # Errors
    ///
    /// If another program takes the address in the moment in which it is free.
    pub fn close(self) -> Result<Bound, BindError> {
        let Self { socket, address, is_handed_over, .. } = self;
        if is_handed_over {
            let socket = socket.into_std().map_err(|cause| BindError { address, cause })?;
            return Ok(Bound { socket: socket.into(), address, is_handed_over });
        }
        drop(socket);
        Bound::new(address)
    }

    /// The counts of who is connected.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Waits for the next peer that may come in. Cancel safe.
    ///
    /// Peers beyond the limits are closed on the way. When the system is out of descriptors or memory, accepting pauses for
    /// [`BACKOFF_MIN`] and up to [`BACKOFF_MAX`] instead of spinning; whoever connects meanwhile waits in the kernel's queue.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            let place = self.place().await;
            let (stream, peer) = self.next_stream().await;
            let admitted = if self.is_behind_proxy {
                self.admission.admit_through_proxy(peer.ip(), place)
            } else {
                self.admission.admit(peer.ip(), place)
            };
            let permit = match admitted {
                Ok(permit) => permit,
                Err(reason) => {
                    self.told.refused(peer, reason, &self.admission);
                    continue;
                }
            };
            let prepared = if self.prepares { Ok(()) } else { socket::prepare(&SockRef::from(&stream)) };
            match prepared {
                Ok(()) => return Accepted { stream, peer, at: Clock.monotonic(), permit },
                // The peer is gone already: some systems refuse options on a socket that was reset.
                Err(error) => tracing::debug!(%peer, %error, "socket options refused"),
            }
        }
    }

    async fn place(&mut self) -> Place {
        if let Some(place) = self.admission.free_place() {
            return place;
        }
        self.told.crowded(&self.admission);
        self.admission.place().await
    }

    async fn next_stream(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok(accepted) => {
                    self.recovered();
                    return accepted;
                }
                Err(error) if is_of_one_peer(&error) => tracing::debug!(%error, "accept failed"),
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    async fn back_off(&mut self, error: &io::Error) {
        if self.backoff == BACKOFF_MIN {
            tracing::warn!(%error, "accepting pauses");
        }
        let pause = self.backoff;
        self.backoff = (pause * 2).min(BACKOFF_MAX);
        sleep(pause).await;
    }

    fn recovered(&mut self) {
        if self.backoff != BACKOFF_MIN {
            self.backoff = BACKOFF_MIN;
            tracing::info!("accepting goes on");
        }
    }
}

/// Tells the operator of a connection whose task has panicked, which costs that connection and no other.
pub fn note_panic(ended: Result<(), JoinError>) {
    if let Err(panic) = ended {
        tracing::error!(%panic, "connection failed by a fault of ours");
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Otherwise a restart would wait for the last connections of the process before it to time out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether an error of `accept` says something about that one peer, so that the next call may well succeed.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

/// When the operator was last told of each limit.
#[derive(Debug, Default)]
struct Told {
    refused: [Option<Monotonic>; Refused::ALL.len()],
    crowded: Option<Monotonic>,
}

impl Told {
    /// Tells that a peer was turned away.
    fn refused(&mut self, peer: SocketAddr, reason: Refused, admission: &Admission) {
        let due = self.refused.get_mut(reason as usize).is_some_and(is_due);
        if !due {
            return tracing::debug!(%peer, %reason, "connection refused");
        }
        let limits = admission.limits();
        let limit = match reason {
            Refused::Full => limits.connections,
            Refused::AddressFull => limits.connections_per_address,
            Refused::AddressNewcomers => limits.newcomers_per_address,
        };
        let count = |(of, count): (Refused, u64)| if of == reason { count } else { 0 };
        let refused: u64 = admission.refused().into_iter().map(count).sum();
        tracing::warn!(%peer, limit, refused, %reason, "connections are refused");
    }

    /// Tells that nobody is let in until somebody who is there has been set up or has left.
    fn crowded(&mut self, admission: &Admission) {
        if is_due(&mut self.crowded) {
            let limit = admission.limits().newcomers;
            tracing::warn!(limit, "connections wait: too many have not been set up yet");
        }
    }
}

/// Whether it is time to tell it again; notes that it is told now.
fn is_due(told: &mut Option<Monotonic>) -> bool {
    let now = Clock.monotonic();
    let is_due = told.is_none_or(|told| now - told >= REFUSAL_WARN_INTERVAL);
    if is_due {
        *told = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = Listener::bind(loopback(), Limits::default()).unwrap();
        let error = Listener::bind(first.address(), Limits::default()).unwrap_err();
        assert!(error.to_string().contains(&first.address().to_string()), "{error}");
        assert!(error.to_string().contains(&error.cause.to_string()), "{error}");
        assert!(core::error::Error::source(&error).is_none(), "what the system said was told twice");
    }

    #[tokio::test]
    async fn whoever_comes_before_we_listen_is_refused() {
        let bound = Bound::new(loopback()).unwrap();
        let address = bound.address();
        assert!(TcpStream::connect(address).await.is_err());
        let mut listener = bound.listen(Limits::default()).unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        assert_eq!(listener.accept().await.peer, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_door_that_closes_refuses_strangers_and_still_counts_who_is_inside() {
        let limits = Limits { connections: 1, ..Limits::default() };
        let mut listener = Listener::bind(loopback(), limits).unwrap();
        let (address, admission) = (listener.address(), listener.admission().clone());
        let client = TcpStream::connect(address).await.unwrap();
        let inside = listener.accept().await;
        let bound = listener.close().unwrap();
        assert_eq!(bound.address(), address);
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
        let mut listener = bound.listen_with(admission).unwrap();
        let _stranger = TcpStream::connect(address).await.unwrap();
        let nobody = timeout(Duration::from_millis(200), listener.accept()).await;
        assert!(nobody.is_err(), "the house is full");
        drop((client, inside));
        let _third = TcpStream::connect(address).await.unwrap();
        timeout(Duration::from_secs(5), listener.accept()).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_comes_to_a_socket_that_was_handed_over_waits_and_is_served() {
        let supervisor = std::net::TcpListener::bind(loopback()).unwrap();
        let address = supervisor.local_addr().unwrap();
        let early = TcpStream::connect(address).await.unwrap();
        let bound = Bound::handed_over(supervisor.try_clone().unwrap()).unwrap();
        assert_eq!(bound.address(), address);
        let mut listener = bound.listen(Limits::default()).unwrap();
        assert_eq!(listener.accept().await.peer, early.local_addr().unwrap());

        // Between two processes, too, nobody is refused.
        drop(listener);
        let between = TcpStream::connect(address).await.unwrap();
        let bound = Bound::handed_over(supervisor.try_clone().unwrap()).unwrap();
        let mut listener = bound.listen(Limits::default()).unwrap();
        assert_eq!(listener.accept().await.peer, between.local_addr().unwrap());
    }

    /// One that came to a socket before it was handed over has none from that.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn all_peers_have_their_options_whoever_made_the_listening_socket() {
        let supervisor = std::net::TcpListener::bind(loopback()).unwrap();
        let _early = TcpStream::connect(supervisor.local_addr().unwrap()).await.unwrap();
        let handed_over = Bound::handed_over(supervisor).unwrap();
        let bound = Bound::new(loopback()).unwrap();
        for (bound, inherits) in [(handed_over, false), (bound, true)] {
            let mut listener = bound.listen(Limits::default()).unwrap();
            let _peer = TcpStream::connect(listener.address()).await.unwrap();
            assert_eq!(SockRef::from(&listener.socket).tcp_nodelay().unwrap(), inherits);
            let accepted = listener.accept().await;
            let given = SockRef::from(&accepted.stream);
            let ours = TcpStream::connect(listener.address()).await.unwrap();
            socket::prepare(&SockRef::from(&ours)).unwrap();
            let options = |socket: &SockRef<'_>| {
                let keepalive = (socket.keepalive().unwrap(), socket.tcp_keepalive_time().unwrap());
                let probes =
                    (socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap());
                let limits = (socket.tcp_user_timeout().unwrap(), socket.tcp_notsent_lowat().unwrap());
                (socket.tcp_nodelay().unwrap(), keepalive, probes, limits)
            };
            assert_eq!(options(&given), options(&SockRef::from(&ours)));
        }
    }

    #[tokio::test]
    async fn a_closed_door_that_was_handed_over_turns_strangers_away() {
        let supervisor = std::net::TcpListener::bind(loopback()).unwrap();
        let address = supervisor.local_addr().unwrap();
        let listener = Bound::handed_over(supervisor).unwrap().listen(Limits::default()).unwrap();
        let bound = listener.close().unwrap();
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let told = async { stranger.read(&mut byte).await };
        let told = tokio::select! {
            never = bound.turn_away() => match never {},
            told = timeout(Duration::from_secs(5), told) => told.unwrap(),
        };
        assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
        let mut listener = bound.listen(Limits::default()).unwrap();
        let served = TcpStream::connect(address).await.unwrap();
        assert_eq!(listener.accept().await.peer, served.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_socket_that_does_not_listen_is_not_taken_over() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        assert!(Bound::handed_over(socket.into()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_told_at_most_once_a_minute() {
        let mut told = None;
        assert_eq!([is_due(&mut told), is_due(&mut told)], [true, false]);
        sleep(REFUSAL_WARN_INTERVAL - Duration::from_secs(1)).await;
        assert!(!is_due(&mut told));
        sleep(Duration::from_secs(2)).await;
        assert!(is_due(&mut told));
    }

    #[tokio::test]
    async fn a_peer_beyond_the_limits_is_closed_and_nobody_else() {
        let limits = Limits { connections: 2, ..Limits::default() };
        let mut listener = Listener::bind(loopback(), limits).unwrap();
        let address = listener.address();
        let _a = TcpStream::connect(address).await.unwrap();
        let _b = TcpStream::connect(address).await.unwrap();
        let first = listener.accept().await;
        let second = listener.accept().await;
        assert!(first.stream.nodelay().unwrap() && second.stream.nodelay().unwrap());
        let mut refused = TcpStream::connect(address).await.unwrap();
        let nobody = timeout(Duration::from_millis(200), listener.accept()).await;
        assert!(nobody.is_err(), "the third was refused");
        let mut byte = [0];
        assert!(matches!(refused.read(&mut byte).await, Ok(0) | Err(_)), "and told by closing");
        drop(first);
        let _c = TcpStream::connect(address).await.unwrap();
        let third = timeout(Duration::from_secs(5), listener.accept()).await.unwrap();
        assert_eq!(listener.admission().connections(), 2);
        drop((second, third));
    }
}

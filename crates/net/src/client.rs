//! Connecting to a server by name.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use adit_transport::AuthorityPublicKey;
use socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{timeout, timeout_at};

use crate::connection::{Connection, OutboxLimits};
use crate::handshake::{HandshakeError, initiate};
use crate::{Clock, socket};

/// How long finding and reaching a server may take, and then as long again the handshake.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long an address of a server is tried alone before the next one is tried beside it (RFC 8305 section 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("cannot find {address}: {source}; write it as host:port")]
    Unknown {
        /// What was asked for.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// What was asked for.
        address: String,
        /// What the system said of the address that failed last.
        source: io::Error,
    },
    /// The server is not on this machine and there is no key to know it by.
    #[error(
        "{address} is not on this machine, and without its authority key anyone on the way could pose as it; give the key"
    )]
    Unauthenticated {
        /// What was asked for.
        address: String,
    },
    /// It answers, but not as it should.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Connects to `address` (`host:port`) and shakes hands with the server that `authority` vouches for.
///
/// Without an authority only servers on this machine are spoken to, because nothing else would tell the right one from an impostor.
///
/// # Errors
///
/// If the server cannot be found, reached or trusted within [`CONNECT_PATIENCE`] for each of the two halves.
pub async fn connect(
    address: &str,
    authority: Option<AuthorityPublicKey>,
) -> Result<Connection, ConnectError> {
    let candidates = resolve(address).await?;
    if authority.is_none() && !candidates.iter().all(|candidate| candidate.ip().is_loopback()) {
        return Err(ConnectError::Unauthenticated { address: address.to_owned() });
    }
    reach(address, &candidates, authority).await
}

/// Connects to `address` (`host:port`) and takes whoever answers for the server; for those who asked for exactly that.
///
/// # Errors
///
/// As [`connect`].
pub async fn connect_unauthenticated(address: &str) -> Result<Connection, ConnectError> {
    let candidates = resolve(address).await?;
    reach(address, &candidates, None).await
}

/// Connects to `address` (`host:port`) in plain text, for protocols that know no encryption: nothing tells the server from an impostor.
///
/// # Errors
///
/// If the server cannot be found or reached within [`CONNECT_PATIENCE`] for each of the two.
pub async fn connect_plain(address: &str) -> Result<TcpStream, ConnectError> {
    let candidates = resolve(address).await?;
    dial(address, &candidates).await
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, ConnectError> {
    let deadline = Clock.monotonic() + CONNECT_PATIENCE;
    let found = match timeout_at(Clock.instant(deadline), lookup_host(address)).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    found.map_err(|source| ConnectError::Unknown { address: address.to_owned(), source })
}

async fn reach(
    address: &str,
    candidates: &[SocketAddr],
    authority: Option<AuthorityPublicKey>,
) -> Result<Connection, ConnectError> {
    let stream = dial(address, candidates).await?;
    let deadline = Clock.monotonic() + CONNECT_PATIENCE;
    Ok(initiate(stream, authority, deadline, OutboxLimits::default()).await?)
}

async fn dial(address: &str, candidates: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let deadline = Clock.monotonic() + CONNECT_PATIENCE;
    let reached = match timeout_at(Clock.instant(deadline), first(candidates, TcpStream::connect)).await {
        Ok(reached) => reached,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let stream = reached.map_err(unreachable)?;
    socket::prepare(&SockRef::from(&stream)).map_err(unreachable)?;
    Ok(stream)
}

/// Whoever of the candidates is reached first. One that does not answer holds up the others for no longer than [`HEAD_START`], and is waited
/// for beside them.
///
/// # Errors
///
/// Why the one that failed last cannot be reached, when none can.
async fn first<T, F>(candidates: &[SocketAddr], reach: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    let mut attempts = Vec::new();
    for candidate in by_turns(candidates) {
        attempts.push(Box::pin(reach(candidate)));
        match timeout(HEAD_START, next_ended(&mut attempts)).await {
            Ok(Ok(reached)) => return Ok(reached),
            Ok(Err(error)) => failed = error,
            Err(_) => {}
        }
    }
    while !attempts.is_empty() {
        match next_ended(&mut attempts).await {
            Ok(reached) => return Ok(reached),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Waits until one of these has ended, and takes it out. Cancel safe.
async fn next_ended<F: Future>(attempts: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        let ended = attempts.iter_mut().enumerate().find_map(|(place, attempt)| {
            if let Poll::Ready(output) = attempt.as_mut().poll(cx) { Some((place, output)) } else { None }
        });
        let Some((place, output)) = ended else { return Poll::Pending };
        drop(attempts.swap_remove(place));
        Poll::Ready(output)
    })
    .await
}

/// The two families by turns, beginning with the one that the resolver prefers, each in its order: it is often one whole family that leads
/// nowhere.
fn by_turns(candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_preferred = |candidate: &&SocketAddr| {
        candidates.first().is_some_and(|first| first.is_ipv6() == candidate.is_ipv6())
    };
    let (preferred, others): (Vec<_>, Vec<_>) = candidates.iter().partition(is_preferred);
    let turns = 0..preferred.len().max(others.len());
    turns.flat_map(|turn| [preferred.get(turn), others.get(turn)]).flatten().copied().copied().collect()
}

#[cfg(test)]
mod tests {
    use core::future::pending;
    use std::sync::Mutex;

    use super::*;

    /// Who is reached, and what was tried after how many milliseconds. An address answers after the time that is given for it, and is there or
    /// not; without one it never answers.
    async fn tries(
        candidates: &[&'static str],
        answer: impl Fn(&str) -> Option<(u64, bool)>,
    ) -> (Option<String>, Vec<(u64, &'static str)>) {
        let (began, log) = (Clock.monotonic(), Mutex::new(Vec::new()));
        let addresses: Vec<SocketAddr> = candidates.iter().map(|text| text.parse().unwrap()).collect();
        let reach = |address: SocketAddr| {
            let name = candidates.iter().copied().find(|text| text.parse() == Ok(address)).unwrap();
            // Timers go by whole milliseconds of a clock of their own.
            let passed = ((Clock.monotonic() - began).as_millis() + 5) / 10 * 10;
            log.lock().unwrap().push((u64::try_from(passed).unwrap(), name));
            let answer = answer(name);
            async move {
                let Some((millis, is_there)) = answer else { return pending().await };
                tokio::time::sleep(Duration::from_millis(millis)).await;
                if is_there { Ok(name.to_owned()) } else { Err(io::Error::other(name)) }
            }
        };
        let reached = timeout(CONNECT_PATIENCE, first(&addresses, reach)).await;
        let reached = reached.ok().map(|reached| reached.unwrap_or_else(|error| format!("no {error}")));
        (reached, log.into_inner().unwrap())
    }

    const DEAD: &str = "192.0.2.1:1";
    const GONE: &str = "192.0.2.2:1";
    const LIVE: &str = "192.0.2.3:1";

    #[tokio::test(start_paused = true)]
    async fn a_server_was_never_reached_behind_an_address_that_leads_nowhere() {
        let answer = |name: &str| (name == LIVE).then_some((100, true));
        let (reached, tried) = tries(&[DEAD, LIVE], answer).await;
        assert_eq!((reached.as_deref(), tried), (Some(LIVE), vec![(0, DEAD), (250, LIVE)]));
        let slow = |name: &str| Some((if name == LIVE { 400 } else { 4_000 }, true));
        let (reached, tried) = tries(&[LIVE, DEAD, GONE], slow).await;
        assert_eq!(reached.as_deref(), Some(LIVE), "the first is not given up for the next");
        assert_eq!(tried, [(0, LIVE), (250, DEAD)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_holds_up_nobody_and_is_told_if_it_is_the_last() {
        let answer = |name: &str| Some((if name == DEAD { 500 } else { 0 }, name == LIVE));
        let (reached, tried) = tries(&[GONE, LIVE], answer).await;
        assert_eq!((reached.as_deref(), tried), (Some(LIVE), vec![(0, GONE), (0, LIVE)]));
        let (reached, tried) = tries(&[DEAD, GONE], answer).await;
        assert_eq!(reached, Some(format!("no {DEAD}")), "it failed last");
        assert_eq!(tried, [(0, DEAD), (250, GONE)]);
        let (reached, _) = tries(&[], answer).await;
        assert_eq!(reached.as_deref(), Some("no the name has no address"));
    }

    #[test]
    fn the_families_are_tried_by_turns() {
        let order = |texts: &[&str]| {
            let candidates: Vec<SocketAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            by_turns(&candidates).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        let (one, two, three) = ("[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1");
        assert_eq!(order(&[one, two, three, DEAD]), [one, DEAD, two, three]);
        assert_eq!(order(&[DEAD, GONE, one]), [DEAD, one, GONE]);
        assert!(order(&[]).is_empty());
    }

    #[tokio::test]
    async fn a_server_elsewhere_needs_a_key() {
        // An address for documentation: were it tried, nobody would answer.
        let refused = connect("192.0.2.1:34254", None).await;
        assert!(matches!(refused, Err(ConnectError::Unauthenticated { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn errors_name_the_address() {
        let unknown = connect("no port here", None).await.unwrap_err();
        assert!(matches!(unknown, ConnectError::Unknown { .. }), "{unknown}");
        assert!(unknown.to_string().contains("no port here"));
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let unreachable = connect(&free.to_string(), None).await.unwrap_err();
        assert!(matches!(unreachable, ConnectError::Unreachable { .. }), "{unreachable}");
        assert!(unreachable.to_string().contains(&free.to_string()));
    }
}

//! From an accepted socket to a machine's connection: what a proxy says first, who may come at all, and TLS.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::sync::Mutex;

use adit_net::{Accepted, Clock, Permit, Refused};
use adit_units::Monotonic;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Hall;
use super::registry::lock;
use super::tls::Tls;
use crate::proxy::{self, Parsed};

/// How long a proxy may take to say where a connection comes from.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a machine may take for the handshake of TLS.
const TLS_PATIENCE: Duration = Duration::from_secs(10);

/// How often the operator is told of a connection that is turned away: there are those who knock at every door.
const OBJECTION_INTERVAL: Duration = Duration::from_secs(60);

/// Connections that were turned away.
#[derive(Debug, Default)]
pub(super) struct Objections(Mutex<(Option<Monotonic>, u64)>);

impl Objections {
    /// There is one more. If the operator is to be told of it: how many there were since he was told last.
    fn note(&self, now: Monotonic) -> Option<u64> {
        let (told, count) = &mut *lock(&self.0);
        *count += 1;
        if told.is_some_and(|told| now < told + OBJECTION_INTERVAL) {
            return None;
        }
        *told = Some(now);
        Some(core::mem::take(count))
    }
}

/// A machine that may be served.
pub(super) struct Newcomer<S> {
    pub(super) stream: S,
    /// Where it comes from, as far as is known.
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Objection {
    #[error(
        "machines from public addresses such as {0} are turned away; set translator.allow_public to serve them"
    )]
    Public(IpAddr),
    #[error(
        "a connection did not begin with a header of the PROXY protocol; let the proxy send one, or set translator.proxy_protocol to \
         false"
    )]
    NoHeader,
    #[error("of {0}, as a proxy says, no more connections are served: {1}")]
    Refused(IpAddr, Refused),
    #[error("a proxy has not said in time where a connection comes from")]
    LateHeader,
    #[error("it closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("a machine did not come to terms over TLS: {0}")]
    NoTls(io::Error),
    #[error("a machine did not finish the handshake of TLS in time")]
    LateTls,
}

/// What decides who is served.
#[derive(Clone, Copy, Debug)]
struct Rules {
    allows_public: bool,
    expects_proxy: bool,
}

/// Serves plain text, to those who may come.
pub(super) async fn admit(hall: &Hall, accepted: Accepted) -> Option<Newcomer<TcpStream>> {
    let Accepted { mut stream, peer: from, mut permit, .. } = accepted;
    let config = &hall.config;
    let rules = Rules { allows_public: config.allows_public, expects_proxy: config.expects_proxy };
    let origin = origin(rules, &mut stream, from).await;
    match origin.and_then(|peer| count(rules, &mut permit, peer)) {
        Ok(peer) => Some(Newcomer { stream, peer, permit }),
        Err(objection) => turn_away(hall, from, &objection),
    }
}

/// Serves TLS, to those who may come.
pub(super) async fn admit_over_tls(
    hall: &Hall,
    tls: &Tls,
    accepted: Accepted,
) -> Option<Newcomer<TlsStream<TcpStream>>> {
    let Newcomer { stream, peer, permit } = admit(hall, accepted).await?;
    let handshake = Box::pin(TlsAcceptor::from(tls.config()).accept(stream));
    match timeout(TLS_PATIENCE, handshake).await {
        Ok(Ok(stream)) => Some(Newcomer { stream, peer, permit }),
        Ok(Err(error)) => turn_away(hall, peer, &Objection::NoTls(error)),
        Err(_) => turn_away(hall, peer, &Objection::LateTls),
    }
}

fn turn_away<T>(hall: &Hall, peer: SocketAddr, objection: &Objection) -> Option<T> {
    match objection {
        // Whoever looks whether there is anybody does no more.
        Objection::Closed | Objection::Broken(_) => tracing::debug!(%peer, "{objection}"),
        Objection::Public(_)
        | Objection::NoHeader
        | Objection::Refused(..)
        | Objection::LateHeader
        | Objection::NoTls(_)
        | Objection::LateTls => match hall.objections.note(Clock.monotonic()) {
            Some(times) => tracing::warn!(%peer, times, "{objection}"),
            None => tracing::debug!(%peer, "{objection}"),
        },
    }
    None
}

/// Where a connection comes from that the system says comes from `from`.
async fn origin(rules: Rules, stream: &mut TcpStream, from: SocketAddr) -> Result<SocketAddr, Objection> {
    // A stranger could say that he is anybody.
    judge(rules, from.ip())?;
    if !rules.expects_proxy {
        return Ok(from);
    }
    let header = timeout(HEADER_PATIENCE, Box::pin(read_header(stream)));
    let source = header.await.map_err(|_| Objection::LateHeader)??;
    let peer = source.unwrap_or(from);
    judge(rules, peer.ip())?;
    Ok(peer)
}

/// What comes through a proxy counts for the address that it names.
fn count(rules: Rules, permit: &mut Permit, peer: SocketAddr) -> Result<SocketAddr, Objection> {
    if rules.expects_proxy {
        permit.count_for(peer.ip()).map_err(|reason| Objection::Refused(peer.ip(), reason))?;
    }
    Ok(peer)
}

fn judge(rules: Rules, address: IpAddr) -> Result<(), Objection> {
    if rules.allows_public || is_private(address) { Ok(()) } else { Err(Objection::Public(address)) }
}

/// Whether an address is of this machine or of a network of one's own. Those that providers share out among customers (100.64.0.0/10) are not.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// Takes the header of the PROXY protocol from a connection, and not a byte of what follows.
async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Objection> {
    let mut bytes = vec![0; proxy::V2_MAX];
    let mut held = 0;
    loop {
        let count = stream.peek(bytes.get_mut(held..).unwrap_or_default()).await?;
        if count == 0 {
            return Err(Objection::Closed);
        }
        let seen = held + count;
        let (source, end) = match proxy::parse(bytes.get(..seen).unwrap_or_default()) {
            Parsed::NeedsMore => (None, seen),
            Parsed::Header { source, length } => (Some(source), length),
            Parsed::Malformed => return Err(Objection::NoHeader),
        };
        // What was looked at is still in the socket; the part of it that is the header's is taken out.
        stream.read_exact(bytes.get_mut(held..end).unwrap_or_default()).await?;
        if let Some(source) = source {
            return Ok(source);
        }
        held = end;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const CAREFUL: Rules = Rules { allows_public: false, expects_proxy: true };

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What is made of a connection from `from` that begins with `first`.
    async fn heard(rules: Rules, from: &str, first: &[u8]) -> Result<SocketAddr, Objection> {
        let (mut client, mut server) = pair().await;
        client.write_all(first).await.unwrap();
        client.shutdown().await.unwrap();
        origin(rules, &mut server, address(from)).await
    }

    #[test]
    fn networks_of_ones_own_are_known() {
        for private in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "169.254.1.1", "::1", "fd00::1", "fe80::1"] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        assert!(is_private("::ffff:10.0.0.1".parse().unwrap()));
        for public in ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7", "100.64.0.1", "0.0.0.0"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_header_tells_the_origin_and_leaves_the_rest() {
        let (mut client, mut server) = pair().await;
        let served = tokio::spawn(async move {
            let peer = origin(CAREFUL, &mut server, address("10.0.0.1:9")).await.unwrap();
            let mut rest = String::new();
            server.read_to_string(&mut rest).await.unwrap();
            (peer, rest)
        });
        // It comes in pieces, the last of which has more in it.
        for piece in ["P", "ROXY TCP4 192.168.7.1", " 10.0.0.9 5", "6324 3333\r", "\n{\"id\":1}\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client.shutdown().await.unwrap();
        assert_eq!(served.await.unwrap(), (address("192.168.7.1:56324"), "{\"id\":1}\n".to_owned()));
    }

    /// A port scanner filled the log.
    #[test]
    fn each_connection_that_was_turned_away_was_told_of() {
        let objections = Objections::default();
        let at = |secs: u64| Monotonic::from_micros(secs * 1_000_000);
        let told: Vec<_> = (0..150).map(|second| objections.note(at(second))).collect();
        let when: Vec<_> = told.iter().enumerate().filter_map(|(at, told)| Some((at, (*told)?))).collect();
        assert_eq!(when, [(0, 1), (60, 60), (120, 60)]);
    }

    #[tokio::test]
    async fn who_is_public_is_judged_by_what_is_believed() {
        let public = b"PROXY TCP4 203.0.113.7 10.0.0.9 5 6\r\n";
        let private = b"PROXY TCP4 10.0.0.7 10.0.0.9 5 6\r\n";
        let unknown = b"PROXY UNKNOWN\r\n";
        let open = Rules { allows_public: true, ..CAREFUL };
        assert_eq!(heard(open, "10.0.0.1:9", public).await.unwrap(), address("203.0.113.7:5"));
        assert_eq!(heard(open, "203.0.113.1:9", private).await.unwrap(), address("10.0.0.7:5"));
        assert_eq!(heard(CAREFUL, "10.0.0.1:9", private).await.unwrap(), address("10.0.0.7:5"));
        assert_eq!(heard(CAREFUL, "10.0.0.1:9", unknown).await.unwrap(), address("10.0.0.1:9"));
        // Neither whom a proxy names, nor one who names himself.
        for (from, header) in
            [("10.0.0.1:9", &public[..]), ("203.0.113.1:9", &b"PROXY TCP4 10.0.0.70 10.0.0.9 5 6\r\n"[..])]
        {
            let refused = heard(CAREFUL, from, header).await;
            assert!(matches!(refused, Err(Objection::Public(_))), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_header_is_not_served() {
        let line = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
        assert!(matches!(heard(CAREFUL, "10.0.0.1:9", line).await, Err(Objection::NoHeader)));
        assert!(matches!(heard(CAREFUL, "10.0.0.1:9", b"").await, Err(Objection::Closed)));
        assert!(matches!(heard(CAREFUL, "10.0.0.1:9", b"PROXY TCP4").await, Err(Objection::Closed)));
        let trusting = Rules { expects_proxy: false, ..CAREFUL };
        assert_eq!(heard(trusting, "10.0.0.1:9", line).await.unwrap(), address("10.0.0.1:9"));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_header_for_ever() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"PROXY TCP4 ").await.unwrap();
        let late = origin(CAREFUL, &mut server, address("10.0.0.1:9")).await;
        assert!(matches!(late, Err(Objection::LateHeader)), "{late:?}");
    }
}

//! Connecting to a server by name.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use adit_transport::AuthorityPublicKey;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout_at;

use crate::connection::{Connection, OutboxLimits};
use crate::handshake::{HandshakeError, initiate};
use crate::{Clock, socket};

/// How long finding and reaching a server may take, and then as long again the handshake.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

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
        /// What the system said of the last address tried.
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
    let reached = match timeout_at(Clock.instant(deadline), TcpStream::connect(candidates)).await {
        Ok(reached) => reached,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let stream = reached.map_err(unreachable)?;
    socket::prepare(&stream).map_err(unreachable)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

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

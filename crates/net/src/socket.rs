//! The options every TCP socket of ours is given.

use core::time::Duration;
use std::io;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that has said nothing for this long is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long it has for an answer before it is asked again, and at last given up.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// How often it is asked.
const KEEPALIVE_PROBES: u32 = 4;

/// How long data may be on the way without the peer's kernel confirming it, after which the connection is dead.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNCONFIRMED_MAX: Duration = Duration::from_secs(60);

/// Most bytes the kernel queues before they are on the way; the rest waits in the outbox, where it is bounded and has an age.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_MAX: u32 = 16 * 1024;

/// Whether a connection has the options of the socket that accepted it. Thousands who come at once are spared seven calls each.
pub(crate) const ARE_INHERITED: bool = cfg!(target_os = "linux");

/// Prepares a connected socket, or one that is about to listen: no delay of small writes, dead peers noticed, little queued out of sight.
pub(crate) fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        socket.set_tcp_user_timeout(Some(UNCONFIRMED_MAX))?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    }
    Ok(())
}

/// About how many bytes of a peer that are not read the kernel keeps, where [`keep_little_unread`] was asked for.
///
/// Left alone, it takes up to six million of them from whoever is not being read, for each connection. This is a thousand shares, and
/// four thousand a second from the other side of the world.
const UNREAD_MAX: usize = 128 * 1024;

/// Has the kernel take little from a peer while it is not read, and so wait the peer itself, who is not read because it has had enough or does
/// not read either.
///
/// # Errors
///
/// If the system does not allow it; the socket is as it was.
pub fn keep_little_unread(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_recv_buffer_size(UNREAD_MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_is_not_read_leaves_no_megabytes_with_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        SockRef::from(&peer).set_send_buffer_size(4_096).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&SockRef::from(&stream)).unwrap();
        keep_little_unread(&stream).unwrap();
        let (mut taken, piece) = (0, [7; 5_000]);
        while let Ok(sent) = timeout(Duration::from_millis(300), peer.write(&piece)).await {
            taken += sent.unwrap();
            assert!(taken < 8 * UNREAD_MAX, "it takes whatever comes");
        }
        assert!(taken >= UNREAD_MAX / 2, "{taken} bytes are less than a busy line needs");
    }
}

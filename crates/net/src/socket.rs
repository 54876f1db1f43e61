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

/// Prepares a connected socket: no delay of small writes, dead peers noticed, little queued out of sight.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
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

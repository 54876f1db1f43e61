//! What a supervisor such as systemd hands over and is told: the listening socket, and how far the program is.
//!
//! Both protocols are a few environment variables (sd_listen_fds(3), sd_notify(3)); without them nothing happens.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::{env, io};

use adit_net::Clock;
use listenfd::ListenFd;

/// What the supervisor gave this process.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    /// Where miners connect, listening already.
    socket: Option<TcpListener>,
    /// Where it wants to be told.
    notify: Option<OsString>,
}

impl Supervisor {
    /// Takes what was handed over; to be called before there is a second thread, because the variables are taken away.
    ///
    /// # Errors
    ///
    /// If what was handed over is not one listening TCP socket.
    pub(crate) fn take() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        if handed.len() > 1 {
            let error = format!("the supervisor hands over {} sockets; this program takes one", handed.len());
            return Err(io::Error::other(error));
        }
        Ok(Self { socket: handed.take_tcp_listener(0)?, notify: env::var_os("NOTIFY_SOCKET") })
    }

    /// The socket, if there is one; the second time there is none.
    pub(crate) fn socket(&mut self) -> Option<TcpListener> {
        self.socket.take()
    }

    /// Says that miners are or will be served.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the config is read anew; [`Self::ready`] says that this is over.
    pub(crate) fn reloading(&self) {
        // The supervisor tells this reload from earlier ones by the time.
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", Clock.since_boot().as_micros()));
    }

    /// Says that the end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        let Some(path) = &self.notify else { return };
        if let Err(error) = send(path.as_bytes(), state) {
            tracing::warn!(%error, state, "the supervisor cannot be told");
        }
    }
}

/// Sends a datagram to a path, or where it begins with `@`, to a name outside the file system.
fn send(to: &[u8], state: &str) -> io::Result<()> {
    let address = match to.split_first() {
        Some((b'@', name)) => abstract_address(name)?,
        Some(_) | None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(to))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::other("this system has no abstract sockets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_supervisor_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor { socket: None, notify: Some(path.into_os_string()) };
        supervisor.ready();
        supervisor.reloading();
        supervisor.stopping();
        assert_eq!(hears(&socket), "READY=1");
        let reloading = hears(&socket);
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it says since when");
        assert!(micros.parse::<u64>().is_ok_and(|micros| micros > 0), "{reloading}");
        assert_eq!(hears(&socket), "STOPPING=1");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_supervisor_outside_the_file_system_is_told() {
        let name = format!("adit-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&abstract_address(name.as_bytes()).unwrap()).unwrap();
        Supervisor { socket: None, notify: Some(format!("@{name}").into()) }.ready();
        assert_eq!(hears(&socket), "READY=1");
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        let mut none = Supervisor::default();
        none.ready();
        assert!(none.socket().is_none());
        Supervisor { socket: None, notify: Some("/nobody/is/here".into()) }.ready();
    }
}

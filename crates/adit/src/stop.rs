//! The signals that a program is steered with.

use core::convert::Infallible;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for Ctrl-C and for a supervisor's request to stop, from the moment it is made.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Starts to listen; a signal that comes before anyone waits is kept.
    ///
    /// # Errors
    ///
    /// If the system does not let the program listen.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal and gives its name. Cancel safe.
    pub(crate) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Listens for the request to read the config anew (SIGHUP), from the moment it is made.
pub(crate) struct ReloadSignal(Signal);

impl ReloadSignal {
    /// Starts to listen; a signal that comes before anyone waits is kept.
    ///
    /// # Errors
    ///
    /// If the system does not let the program listen.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the signal. Cancel safe.
    pub(crate) async fn received(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime is ending.
            std::future::pending().await
        }
    }

    /// Tells of each request that there is nothing to read anew; for commands that use their config as they found it. Cancel safe.
    pub(crate) async fn decline(&mut self) -> Infallible {
        loop {
            self.received().await;
            tracing::warn!("nothing is read anew; restart to use another config or key");
        }
    }
}

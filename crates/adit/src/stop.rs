//! The signals that ask a program to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Waits until the user presses Ctrl-C or a supervisor asks the program to stop; gives the signal's name.
///
/// # Errors
///
/// If the system does not let the program listen for signals.
pub(crate) async fn stop_requested() -> std::io::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

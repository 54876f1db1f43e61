//! Logs to standard error, filtered by `ADIT_LOG`.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging; `quiet` is for commands whose own output would drown in it and shows warnings only.
///
/// `ADIT_LOG` decides when it is set, in the form `warn` or `info,adit_pool=debug`.
pub(crate) fn start(quiet: bool) {
    let default = if quiet { LevelFilter::WARN } else { LevelFilter::INFO };
    let filter =
        EnvFilter::builder().with_default_directive(default.into()).with_env_var("ADIT_LOG").from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

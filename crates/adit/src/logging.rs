//! Logs to standard error, filtered by `ADIT_LOG` or the config.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::Formatter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full};
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, fmt as to_writer};

/// What the filter sits on.
type Below = Formatter<DefaultFields, Format<Full>, fn() -> io::Stderr>;

/// How much is logged, known to be understood: `warn`, or by crate as in `info,adit_pool=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevels(String);

/// What was written says nothing about levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not understood; use error, warn, info, debug or trace, or by crate as in info,adit_pool=debug"
)]
pub(crate) struct LogLevelsError {
    text: String,
}

impl FromStr for LogLevels {
    type Err = LogLevelsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A lone word that is no level would be taken for the name of a crate that logs everything.
        let is_known = |part: &str| match part.trim().split_once('=') {
            Some((_, level)) => level.parse::<LevelFilter>().is_ok(),
            None => part.trim().parse::<LevelFilter>().is_ok(),
        };
        let is_known = text.split(',').all(is_known) && EnvFilter::builder().parse(text).is_ok();
        is_known.then(|| Self(text.to_owned())).ok_or_else(|| LogLevelsError { text: text.to_owned() })
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says how much is logged from now on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logging {
    /// None where the config has no say.
    filter: Option<Handle<EnvFilter, Below>>,
}

impl Logging {
    /// Logs as much as the config says, or at INFO where it says nothing; without effect while `ADIT_LOG` is set.
    pub(crate) fn set(&self, levels: Option<&LogLevels>) {
        let Some(filter) = &self.filter else { return };
        let levels = levels.map_or("info", |levels| &levels.0);
        let new = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(levels);
        if let Err(error) = filter.reload(new) {
            tracing::error!(%error, "the log goes on as it was");
        }
    }
}

/// Starts logging; `quiet` is for commands whose own output would drown in it and shows warnings only.
///
/// `ADIT_LOG` decides when it is set, in the form `warn` or `info,adit_pool=debug`.
pub(crate) fn start(quiet: bool) -> Logging {
    const VARIABLE: &str = "ADIT_LOG";
    let default = if quiet { LevelFilter::WARN } else { LevelFilter::INFO };
    let filter =
        EnvFilter::builder().with_default_directive(default.into()).with_env_var(VARIABLE).from_env_lossy();
    let subscriber = to_writer()
        .with_env_filter(filter)
        .with_writer(io::stderr as fn() -> io::Stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter_reloading();
    let filter = subscriber.reload_handle();
    subscriber.init();
    let is_settled = quiet || std::env::var_os(VARIABLE).is_some();
    Logging { filter: (!is_settled).then_some(filter) }
}

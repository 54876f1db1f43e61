//! `adit translator`: lets SV1 machines work for Stratum V2 pools, until it is told to stop.

pub(crate) mod tui;

use std::fs::OpenOptions;
use std::future::pending;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_dashboard::{Server, ServerConfig, TranslatorNumbers, TranslatorPages};
use adit_net::{Bound, Rest, raise_descriptor_limit};
use adit_translator::Status;
use adit_translator::server::{Doors, Numbers, Tls, Translator};
use anyhow::Context as _;
use tokio::sync::watch;

use crate::cli::TranslatorArgs;
use crate::config::{self, Mistakes, TlsSettings, TranslatorSettings};
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};

/// The config file that is read where nothing is said.
const DEFAULT_CONFIG: &str = "adit.toml";

/// The variable of the environment that names another.
const CONFIG_VARIABLE: &str = "ADIT_CONFIG";

/// Where logs go while the terminal shows the live table.
const LOG_FILE: &str = "adit-translator.log";

/// Runs the translator, in a thread that rests by that, or in several.
///
/// # Errors
///
/// If the config is wrong, or an address cannot be listened on. An upstream that cannot be had is no error: it is tried until it can.
pub(crate) async fn run(
    args: &TranslatorArgs,
    logging: &Logging,
    rest: Option<Arc<Rest>>,
) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let TranslatorSettings { log, listen, tls, api, api_hosts, rests, mut role } = settings(args)?;
    logging.set(log.as_ref());
    role.rest = rest.filter(|_| rests);
    role.limits = role.limits.within_descriptors(raise_descriptor_limit());
    let (upstreams, rests) = (role.upstreams.len(), role.rest.is_some());
    let plain = Bound::new(listen).context("cannot start the translator")?;
    let tls = tls.map(encrypted).transpose().context("cannot start the translator")?;
    let translator = Translator::start(role, Doors { plain, tls }).context("cannot start the translator")?;
    let api = api.map(|listen| ServerConfig { listen, hosts: api_hosts });
    let api = api.map(|config| serve(&translator, &config)).transpose()?;
    let address = api.as_ref().map(Server::address);
    tracing::info!(address = %translator.address(), tls = ?translator.tls_address(), api = ?address, upstreams, rests,
        "translator started: point SV1 machines at this address");
    // Nobody follows the numbers where nobody sees them.
    let status = args.tui.then(|| translator.status());
    tokio::select! {
        signal = signals.received() => {
            tracing::info!(signal, "stopping: passing on the last shares; once more ends at once");
        }
        never = reload.decline() => match never {},
        shown = show(status) => shown.context("cannot show the live table")?,
    }
    tokio::select! {
        () = translator.shutdown() => tracing::info!("translator stopped"),
        signal = signals.received() => anyhow::bail!("ended at once by {signal}; the last shares may not have been passed on"),
    }
    if let Some(api) = api {
        api.shutdown().await;
    }
    Ok(())
}

/// The address for machines that speak TLS, and what they are shown.
fn encrypted(settings: TlsSettings) -> anyhow::Result<(Bound, Tls)> {
    let TlsSettings { listen, certificate, key } = settings;
    let tls = Tls::read(&certificate, &key)?;
    Ok((Bound::new(listen)?, tls))
}

/// Shows the live table until the operator has seen enough; without one, nothing for ever.
async fn show(status: Option<watch::Receiver<Arc<Status>>>) -> io::Result<()> {
    match status {
        Some(status) => tui::run(status, pending()).await,
        None => pending().await,
    }
}

/// The numbers for pages.
struct Asked(Numbers);

impl TranslatorNumbers for Asked {
    fn latest(&self) -> Arc<Status> {
        self.0.status()
    }
}

/// Serves the translator's numbers.
fn serve(translator: &Translator, config: &ServerConfig) -> anyhow::Result<Server> {
    let pages = Arc::new(TranslatorPages::new(Asked(translator.numbers())));
    Server::start(config, pages).with_context(|| {
        let listen = config.listen;
        format!("cannot serve the translator's numbers at {listen}; choose another translator.api, or off")
    })
}

/// What the file says, or the command line.
fn settings(args: &TranslatorArgs) -> Result<TranslatorSettings, Mistakes> {
    if args.pool.is_empty() {
        let named = args.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        return config::load_translator(named.as_deref().unwrap_or_else(|| Path::new(DEFAULT_CONFIG)));
    }
    let given = [
        ("translator.listen", args.listen.clone()),
        ("translator.mode", args.mode.clone()),
        ("translator.api", args.api.clone()),
    ];
    let keys: Vec<_> = given.into_iter().filter_map(|(path, value)| Some((path, value?))).collect();
    config::translator_of(&args.pool, args.user.as_deref().unwrap_or_default(), &keys)
}

/// Sends what goes to standard error into a file, where it would tear the live table otherwise.
///
/// # Errors
///
/// If the file cannot be written.
pub(crate) fn spare_terminal(args: &TranslatorArgs) -> anyhow::Result<()> {
    if !args.tui || !io::stderr().is_terminal() {
        return Ok(());
    }
    let file = OpenOptions::new().create(true).append(true).open(LOG_FILE);
    let file = file.with_context(|| format!("cannot write logs to {LOG_FILE}"))?;
    rustix::stdio::dup2_stderr(file).with_context(|| format!("cannot send logs to {LOG_FILE}"))
}

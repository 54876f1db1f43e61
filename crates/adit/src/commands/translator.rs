//! `adit translator`: lets SV1 machines work for Stratum V2 pools, until it is told to stop.

use std::path::Path;

use adit_net::{Bound, raise_descriptor_limit};
use adit_translator::server::Translator;
use anyhow::Context as _;

use crate::cli::TranslatorArgs;
use crate::config::{self, Mistakes, TranslatorSettings};
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};

/// The config file that is read where nothing is said.
const DEFAULT_CONFIG: &str = "adit.toml";

/// Runs the translator.
///
/// # Errors
///
/// If the config is wrong, or the address cannot be listened on. An upstream that cannot be had is none: it is tried until it can.
pub(crate) async fn run(args: &TranslatorArgs, logging: &Logging) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let TranslatorSettings { log, listen, api: _, mut role } = settings(args)?;
    logging.set(log.as_ref());
    role.limits = role.limits.within_descriptors(raise_descriptor_limit());
    let upstreams = role.upstreams.len();
    let bound = Bound::new(listen).context("cannot start the translator")?;
    let translator = Translator::start(role, bound).context("cannot start the translator")?;
    tracing::info!(address = %translator.address(), upstreams, "translator started: point SV1 machines at this address");
    let signal = tokio::select! {
        signal = signals.received() => signal,
        never = reload.decline() => match never {},
    };
    tracing::info!(signal, "stopping: passing on the last shares; once more ends at once");
    tokio::select! {
        () = translator.shutdown() => tracing::info!("translator stopped"),
        signal = signals.received() => anyhow::bail!("ended at once by {signal}; the last shares may not have been passed on"),
    }
    Ok(())
}

/// What the file says, or the command line.
fn settings(args: &TranslatorArgs) -> Result<TranslatorSettings, Mistakes> {
    if args.pool.is_empty() {
        let file = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
        return config::load_translator(file);
    }
    let given = [
        ("translator.listen", args.listen.clone()),
        ("translator.mode", args.mode.clone()),
        ("translator.api", args.api.clone()),
    ];
    let keys: Vec<_> = given.into_iter().filter_map(|(path, value)| Some((path, value?))).collect();
    config::translator_of(&args.pool, args.user.as_deref().unwrap_or_default(), &keys)
}

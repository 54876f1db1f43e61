//! `adit template-provider`: serves a node's templates until it is told to stop.

use std::sync::Arc;

use adit_net::Clock;
use adit_node::Node;
use adit_node::tdp::{ProviderConfig, TemplateProvider};
use anyhow::{Context as _, bail};

use super::keys;
use crate::cli::ConfigArgs;
use crate::config;
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};

/// Runs the template provider.
///
/// # Errors
///
/// If the config is wrong, something it names cannot be used, or a found block could not be handed to the node.
pub(crate) async fn run(args: &ConfigArgs, logging: &Logging) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let config = config::load_provider(&args.config)?;
    logging.set(config.log.as_ref());
    let identity = keys::read_identity(&config.server_key)?;
    if let Some(complaint) = keys::open_to_others(&config.server_key)? {
        bail!("{complaint}");
    }
    identity.verify(Clock.unix()).context("clients would refuse this server; see `adit keys rotate`")?;
    let authority = identity.authority();

    let node = Node::several(config.nodes.iter().map(Node::open).collect(), || Clock.now());
    let provider =
        ProviderConfig { empty_templates: config.empty_templates, ..ProviderConfig::new(config.listen) };
    let start = TemplateProvider::start(provider, node, Arc::new(identity));
    let provider = tokio::select! {
        biased;
        signal = signals.received() => {
            tracing::info!(signal, "stopped before the node gave a template");
            return Ok(());
        }
        started = start => started.context("cannot start the template provider")?,
    };
    tracing::info!(network = %config.network, listen = %provider.address(), %authority, "template provider started");
    let signal = tokio::select! {
        signal = signals.received() => signal,
        never = reload.decline() => match never {},
    };
    tracing::info!(signal, "stopping");
    if !provider.shutdown().await {
        bail!("the node has not answered for every found block in time; see the log for their hashes");
    }
    tracing::info!("template provider stopped");
    Ok(())
}

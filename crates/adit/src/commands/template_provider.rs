//! `adit template-provider`: serves a node's templates until it is told to stop.

use core::pin::Pin;
use std::sync::Arc;

use adit_channel::UserIdentity;
use adit_ledger::SavedBlock;
use adit_net::Clock;
use adit_node::Node;
use adit_node::tdp::{BlockDesk, ProviderConfig, TemplateProvider};
use adit_pool::server::FoundBlocks;
use adit_share::Block;
use adit_transport::Identity;
use anyhow::{Context as _, bail};
use bitcoin::hashes::Hash as _;

use super::pool::{end_with_blocks, open_blocks, usable_identity};
use crate::cli::ConfigArgs;
use crate::config::{self, ProviderSettings};
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};

/// Runs the template provider.
///
/// # Errors
///
/// If the config is wrong or something it names cannot be used.
pub(crate) async fn run(args: &ConfigArgs, logging: &Logging) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let config = config::load_provider(&args.config)?;
    logging.set(config.log.as_ref());
    let node = Node::several(config.nodes.iter().map(Node::open).collect(), || Clock.now());
    // Blocks first: whatever keeps the provider from starting, those of an earlier run are on their way.
    let blocks = open_blocks(&config.data_dir, node.clone()).await?;
    let outcome = match usable_identity(&config.server_key) {
        Ok(identity) => serve(&config, node, &blocks, identity, (&mut signals, &mut reload)).await,
        Err(error) => Err(error),
    };
    end_with_blocks(&blocks, outcome, ("template provider", &mut signals)).await
}

/// Serves clients until it is told to stop.
async fn serve(
    config: &ProviderSettings,
    node: Node,
    blocks: &FoundBlocks,
    identity: Arc<Identity>,
    (signals, reload): (&mut StopSignals, &mut ReloadSignal),
) -> anyhow::Result<()> {
    let authority = identity.authority();
    let provider =
        ProviderConfig { empty_templates: config.empty_templates, ..ProviderConfig::new(config.listen) };
    let start = TemplateProvider::start_with(provider, node, identity, Arc::new(Desk(blocks.clone())));
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
        bail!("a block of a client was not taken in time; see the log for its hash");
    }
    Ok(())
}

/// Hands blocks of clients to where those of a pool go: to the nodes, on disk, and followed until their fate is known.
struct Desk(FoundBlocks);

impl BlockDesk for Desk {
    fn take(&self, block: Block) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let (hash, height) = (block.hash.to_byte_array(), block.height);
            let saved = SavedBlock { hash, height, bytes: block.to_bytes() };
            // The protocol does not tell who of a client's miners it was.
            let nobody = UserIdentity::from_wire(b"").expect("no name has no bad character");
            // A client's coinbase is the client's.
            self.0.forward(saved, nobody, None).await;
        })
    }
}

#[cfg(test)]
mod tests;

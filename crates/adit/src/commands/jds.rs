//! `adit jds`: a job declarator server on a host of its own, until it is told to stop.

use std::sync::Arc;

use adit_channel::TokenKey;
use adit_job_declarator::server::{DeclaredTemplates, Jds, JdsConfig, JdsParts, JdsServerConfig};
use adit_net::Clock;
use adit_node::Node;
use adit_pool::server::FoundBlocks;
use adit_transport::Identity;
use anyhow::Context as _;

use super::keys;
use super::pool::{end_with_blocks, open_blocks, usable_identity};
use crate::cli::ConfigArgs;
use crate::config::{self, DeclaratorConfig, DeclaratorSettings};
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};

/// Runs the server.
///
/// # Errors
///
/// If the config is wrong or something it names cannot be used.
pub(crate) async fn run(args: &ConfigArgs, logging: &Logging) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let config = config::load_declarator(&args.config)?;
    logging.set(config.log.as_ref());
    let node = Node::several(config.nodes.iter().map(Node::open).collect(), || Clock.now());
    // Blocks first: whatever keeps the server from starting, those of an earlier run are on their way.
    let blocks = open_blocks(&config.data_dir, node.clone()).await?;
    let outcome = match open(&config, node, blocks.clone()) {
        Ok(jds) => {
            serve(jds, &mut signals, &mut reload).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    end_with_blocks(&blocks, outcome, ("job declarator server", &mut signals)).await
}

/// Reads the keys, and starts a server that stands alone.
fn open(config: &DeclaratorConfig, node: Node, blocks: FoundBlocks) -> anyhow::Result<Jds> {
    let key = Arc::new(keys::read_token_key(&config.declarator.token_key)?);
    let identity = usable_identity(&config.declarator.server_key)?;
    let jds =
        start(&config.declarator, Foundation { key, node, blocks, identity }, DeclaredTemplates::default())?;
    tracing::info!(network = %config.network, "it answers for the pool that has the same token key");
    Ok(jds)
}

/// Serves clients until it is told to stop.
async fn serve(jds: Jds, signals: &mut StopSignals, reload: &mut ReloadSignal) {
    let signal = tokio::select! {
        signal = signals.received() => signal,
        never = reload.decline() => match never {},
    };
    tracing::info!(signal, "stopping: seeing to the last blocks; once more ends at once");
    jds.shutdown().await;
}

/// What a server stands on.
pub(super) struct Foundation {
    pub(super) key: Arc<TokenKey>,
    pub(super) node: Node,
    pub(super) blocks: FoundBlocks,
    pub(super) identity: Arc<Identity>,
}

/// Starts a server, alone or in the process of a pool that looks into `declared`.
pub(super) fn start(
    settings: &DeclaratorSettings,
    on: Foundation,
    declared: DeclaredTemplates,
) -> anyhow::Result<Jds> {
    let Foundation { key, node, blocks, identity } = on;
    let authority = identity.authority();
    let rules = JdsConfig {
        coinbase_only: settings.coinbase_only,
        least_percent: settings.least_pool_percent,
        ..JdsConfig::new(settings.payout_address.script_pubkey())
    };
    let parts = JdsParts { rules, key, node, blocks, identity, declared };
    let jds = Jds::start(JdsServerConfig::new(settings.listen), parts)
        .context("cannot start the job declarator server")?;
    tracing::info!(address = %jds.address(), %authority, payout = %settings.payout_address, "job declarator server started");
    Ok(jds)
}

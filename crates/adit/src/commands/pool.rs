//! `adit pool`: runs the pool until it is told to stop or cannot go on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use adit_ledger::{BlockStore, LogConfig, Opened};
use adit_net::{Clock, raise_descriptor_limit};
use adit_node::Node;
use adit_pool::PoolConfig;
use adit_pool::server::{Parts, Server, ServerConfig};
use adit_transport::Identity;
use anyhow::{Context as _, bail};

use super::keys;
use crate::cli::ConfigArgs;
use crate::config;
use crate::stop::StopSignals;

/// Runs the pool.
///
/// # Errors
///
/// If the config is wrong, something it names cannot be used, or the pool cannot go on.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let signals = StopSignals::listen()?;
    let config = config::load(&args.config)?;
    let identity = keys::read_identity(&config.pool.server_key)?;
    if let Some(complaint) = keys::open_to_others(&config.pool.server_key)? {
        bail!("{complaint}");
    }
    identity.verify(Clock.unix()).context("miners would refuse this server; see `adit keys rotate`")?;
    tracing::debug!(files = raise_descriptor_limit(), "open files allowed");

    let node = Node::several(config.nodes.iter().map(Node::rpc).collect(), || Clock.now());
    let authority = identity.authority();
    let parts = open_data(&config.data_dir, config.pool.role, node, Arc::new(identity)).await?;
    let server =
        Server::start(ServerConfig::new(config.pool.listen), parts).context("cannot start the pool")?;
    tracing::info!(network = %config.network, listen = %server.address(), %authority, payout = %config.pool.payout_address, "pool started");
    serve(server, signals).await
}

/// Opens the share log and the found blocks, and puts a server's parts together.
pub(crate) async fn open_data(
    dir: &Path,
    pool: PoolConfig,
    node: Node,
    identity: Arc<Identity>,
) -> anyhow::Result<Parts<adit_ledger::ShareLog, adit_ledger::storage::Directory>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the data folder {}", dir.display()))?;
    let (shares, blocks) = (dir.join("shares"), dir.join("blocks"));
    let (config, now) = (LogConfig::new(pool.instance), Clock.unix());
    let opened = tokio::task::spawn_blocking(move || adit_ledger::open(&shares, config, now));
    let Opened { log, boot, outcome, .. } = opened.await?.context("cannot open the share log")?;
    let blocks = BlockStore::open(&blocks).context("cannot open the store of found blocks")?;
    Ok(Parts { pool, boot, node, log, outcome, blocks, identity })
}

/// Waits for the end, and brings it about in order.
async fn serve(server: Server, mut signals: StopSignals) -> anyhow::Result<()> {
    let failure = tokio::select! {
        signal = signals.received() => {
            tracing::info!(signal, "stopping: acknowledging the last shares");
            None
        }
        failure = server.failed() => Some(failure),
    };
    let drained = server.shutdown().await;
    tracing::info!(cut_off = drained.cut_off, "pool stopped");
    if let Some(failure) = failure {
        return Err(failure).context("the pool cannot go on");
    }
    match drained.log {
        Some(Ok(())) => Ok(()),
        Some(Err(failure)) => Err(failure).context("the last shares may not be on disk"),
        None => bail!("the share log was not closed in time; the last shares are still being written"),
    }
}

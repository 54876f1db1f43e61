//! `adit pool`: runs the pool until it is told to stop or cannot go on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use adit_ledger::{BlockStore, LogConfig, Opened, SavedBlock};
use adit_net::{Clock, raise_descriptor_limit};
use adit_node::Node;
use adit_pool::PoolConfig;
use adit_pool::server::{FoundBlocks, Parts, Server, ServerConfig};
use adit_transport::Identity;
use anyhow::{Context as _, bail};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex as _;

use super::keys;
use crate::cli::ConfigArgs;
use crate::config::{self, Config};
use crate::stop::StopSignals;

/// How long the node has to answer for blocks of an earlier run when the pool cannot start.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the pool.
///
/// # Errors
///
/// If the config is wrong, something it names cannot be used, or the pool cannot go on.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
    let config = config::load(&args.config)?;
    let node = Node::several(config.nodes.iter().map(Node::rpc).collect(), || Clock.now());
    // Blocks first: whatever keeps the pool from starting, those of an earlier run are on their way.
    let blocks = open_blocks(&config.data_dir, node.clone()).await?;
    let outcome = match start(config, node, blocks.clone()).await {
        Ok(server) => serve(server, &mut signals).await,
        Err(error) => {
            see_blocks_out(&blocks, &mut signals).await;
            Err(error)
        }
    };
    rescue(&blocks, &mut io::stderr());
    outcome
}

/// Opens the store of found blocks and begins to hand over those of earlier runs.
pub(crate) async fn open_blocks(dir: &Path, node: Node) -> anyhow::Result<FoundBlocks> {
    make_folder(dir)?;
    let blocks = dir.join("blocks");
    let opened = tokio::task::spawn_blocking(move || BlockStore::open(&blocks));
    let store = opened.await?.context("cannot open the store of found blocks")?;
    FoundBlocks::open(node, store).context("cannot look through the store of found blocks")
}

fn make_folder(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the data folder {}", dir.display()))
}

/// Opens the share log, and puts a server's parts together.
pub(crate) async fn open_data(
    dir: &Path,
    pool: PoolConfig,
    node: Node,
    blocks: FoundBlocks,
    identity: Arc<Identity>,
) -> anyhow::Result<Parts<adit_ledger::ShareLog>> {
    let shares = dir.join("shares");
    let (config, now) = (LogConfig::new(pool.instance), Clock.unix());
    let opened = tokio::task::spawn_blocking(move || adit_ledger::open(&shares, config, now));
    let Opened { log, boot, outcome, .. } = opened.await?.context("cannot open the share log")?;
    Ok(Parts { pool, boot, node, log, outcome, blocks, identity })
}

/// Starts the server.
async fn start(config: Config, node: Node, blocks: FoundBlocks) -> anyhow::Result<Server> {
    let identity = keys::read_identity(&config.pool.server_key)?;
    if let Some(complaint) = keys::open_to_others(&config.pool.server_key)? {
        bail!("{complaint}");
    }
    identity.verify(Clock.unix()).context("miners would refuse this server; see `adit keys rotate`")?;
    tracing::debug!(files = raise_descriptor_limit(), "open files allowed");

    let authority = identity.authority();
    let templates = node.templates();
    let parts = open_data(&config.data_dir, config.pool.role, node, blocks, Arc::new(identity)).await?;
    let server =
        Server::start(ServerConfig::new(config.pool.listen), parts).context("cannot start the pool")?;
    tracing::info!(network = %config.network, address = %server.address(), %authority, payout = %config.pool.payout_address, "pool started");
    if templates.borrow().is_none() {
        tracing::info!("waiting for the node's first template; until then nobody listens for miners");
    }
    Ok(server)
}

/// Waits for the end, and brings it about in order, unless it is asked for once more.
async fn serve(server: Server, signals: &mut StopSignals) -> anyhow::Result<()> {
    let failure = tokio::select! {
        signal = signals.received() => {
            tracing::info!(signal, "stopping: acknowledging the last shares; once more ends at once");
            None
        }
        failure = server.failed() => Some(failure),
    };
    let drained = tokio::select! {
        drained = server.shutdown() => drained,
        signal = signals.received() => bail!("ended at once by {signal}; the last shares may not be on disk"),
    };
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

/// Gives the node time to answer for the blocks that are on their way, although the pool cannot start.
async fn see_blocks_out(blocks: &FoundBlocks, signals: &mut StopSignals) {
    if blocks.answered(Duration::ZERO).await {
        return;
    }
    tracing::info!("the pool cannot start; waiting for the node to answer for blocks of an earlier run");
    tokio::select! {
        answered = blocks.answered(ANSWER_PATIENCE) => if !answered {
            tracing::warn!("no answer from the node; the blocks go out again at the next start");
        },
        signal = signals.received() => tracing::info!(signal, "not waiting any longer"),
    }
}

/// Writes out blocks that would be lost with this process, so that a person can hand them over with `submitblock`.
fn rescue(blocks: &FoundBlocks, out: &mut impl io::Write) {
    for SavedBlock { hash, height, bytes } in blocks.only_copies() {
        let hash = BlockHash::from_byte_array(hash);
        tracing::error!(%hash, height = height.0, "this block is neither on disk nor with a node; hand it over with submitblock");
        // There is nobody left to tell if this fails too.
        let _ = writeln!(out, "block {hash} {}", bytes.to_lower_hex_string());
    }
}

#[cfg(test)]
mod tests;

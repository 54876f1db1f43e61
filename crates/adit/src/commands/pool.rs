//! `adit pool`: runs the pool until it is told to stop or cannot go on.

mod reload;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use adit_dashboard::{PoolPages, WatchedNode};
use adit_job_declarator::server::{DeclaredTemplates, Jds};
use adit_ledger::{BlockStore, LogConfig, Opened, SavedBlock};
use adit_net::{Bound, Clock, raise_descriptor_limit};
use adit_node::{Node, NodeConfig};
use adit_pool::server::{Failure, FoundBlocks, Parts, Server, ServerConfig};
use adit_pool::{CustomJobs, PoolConfig};
use adit_transport::Identity;
use anyhow::{Context as _, bail};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex as _;

use self::reload::Reloader;
use super::jds::{self, Foundation};
use super::keys;
use crate::cli::ConfigArgs;
use crate::config::{self, Config};
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};
use crate::supervisor::Supervisor;

/// How long the node has to answer for blocks of an earlier run when the pool cannot start.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the pool.
///
/// # Errors
///
/// If the config is wrong, something it names cannot be used, or the pool cannot go on.
pub(crate) async fn run(
    args: &ConfigArgs,
    mut supervisor: Supervisor,
    logging: &Logging,
) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let (config, values) = config::load_with_values(&args.config)?;
    logging.set(config.log.as_ref());
    let mut reloader = Reloader::new(&args.config, &config, values, logging.clone());
    let nodes: Vec<Node> = config.nodes.iter().map(Node::open).collect();
    let named = config.nodes.iter().map(NodeConfig::name).zip(&nodes);
    let watched = named.map(|(name, node)| WatchedNode::new(name, node)).collect();
    let hosts = config.pool.api_hosts.clone();
    let api = config.pool.api.map(|listen| adit_dashboard::ServerConfig { listen, hosts });
    let node = Node::several(nodes, || Clock.now());
    // Blocks first: whatever keeps the pool from starting, those of an earlier run are on their way.
    let blocks = open_blocks(&config.data_dir, node.clone()).await?;
    let outcome = match start(config, node, blocks.clone(), supervisor.socket()).await {
        Ok((server, declarator, custom_jobs)) => {
            reloader.custom_jobs = custom_jobs;
            let api = api.and_then(|config| serve(&server, watched, &config));
            supervisor.ready();
            let failure = watch(&server, &mut signals, async || {
                reload.received().await;
                supervisor.reloading();
                reloader.reload(&server, declarator.as_ref());
                supervisor.ready();
            });
            let failure = failure.await;
            supervisor.stopping();
            if let Some(declarator) = declarator {
                declarator.shutdown().await;
            }
            let ended = end(server, failure, &mut signals).await;
            if let Some(api) = api {
                api.shutdown().await;
            }
            ended
        }
        Err(error) => {
            see_blocks_out(&blocks, &mut signals).await;
            Err(error)
        }
    };
    rescue(&blocks, &mut io::stderr());
    outcome
}

/// Serves the pool's numbers. A pool that nobody can look at still earns, so what is wrong here ends nothing.
fn serve(
    server: &Server,
    nodes: Vec<WatchedNode>,
    config: &adit_dashboard::ServerConfig,
) -> Option<adit_dashboard::Server> {
    let pages = Arc::new(PoolPages::new(server.handle(), nodes));
    match adit_dashboard::Server::start(config, pages) {
        Ok(api) => {
            tracing::info!(api = %api.address(), "the pool's numbers are served here");
            Some(api)
        }
        Err(error) => {
            tracing::error!(%error, "the pool's numbers are served nowhere, and it runs all the same; choose another pool.api, or off");
            None
        }
    }
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
    Ok(Parts { pool, boot, node, log, outcome, blocks, identity, relay: None, declared: None })
}

/// Reads what miners are shown, and refuses what they would refuse, and a secret that is none.
pub(super) fn usable_identity(file: &Path) -> anyhow::Result<Arc<Identity>> {
    let identity = keys::read_identity(file)?;
    if let Some(complaint) = keys::open_to_others(file)? {
        bail!("{complaint}");
    }
    identity.verify(Clock.unix()).context("miners would refuse this server; see `adit keys rotate`")?;
    Ok(Arc::new(identity))
}

/// Starts the server, on the supervisor's socket if there is one.
async fn start(
    config: Config,
    node: Node,
    blocks: FoundBlocks,
    socket: Option<TcpListener>,
) -> anyhow::Result<(Server, Option<Jds>, Option<CustomJobs>)> {
    let identity = usable_identity(&config.pool.server_key)?;
    let custom_jobs = custom_jobs(&config)?;
    tracing::debug!(files = raise_descriptor_limit(), "open files allowed");
    let authority = identity.authority();
    let templates = node.templates();
    let role = PoolConfig { custom_jobs: custom_jobs.clone(), ..config.pool.role };
    let declared = DeclaredTemplates::default();
    let declarator = match (&config.declarator, &custom_jobs) {
        (Some(settings), Some(custom)) => {
            let (key, node, blocks) = (Arc::clone(&custom.key), node.clone(), blocks.clone());
            let identity = usable_identity(&settings.server_key)?;
            Some(jds::start(settings, Foundation { key, node, blocks, identity }, declared.clone())?)
        }
        _ => None,
    };
    let parts = open_data(&config.data_dir, role, node, blocks, identity).await?;
    let parts = Parts { declared: Some(Arc::new(declared)), ..parts };
    let is_handed_over = socket.is_some();
    let bound = match socket {
        Some(socket) => Bound::handed_over(socket).context("cannot use the supervisor's socket")?,
        None => Bound::new(config.pool.listen).context("cannot start the pool")?,
    };
    let server_config = ServerConfig { limits: config.pool.limits, ..ServerConfig::new(config.pool.listen) };
    let server = Server::start_on(bound, server_config, parts).context("cannot start the pool")?;
    tracing::info!(network = %config.network, address = %server.address(), %authority, payout = %config.pool.payout_address, "pool started");
    match (templates.borrow().is_some(), is_handed_over) {
        (true, _) => {}
        (false, false) => {
            tracing::info!("waiting for the node's first template; until then nobody listens for miners");
        }
        (false, true) => {
            tracing::info!(
                "waiting for the node's first template; until then miners wait with us for a moment"
            );
        }
    }
    Ok((server, declarator, custom_jobs))
}

/// How miners may make jobs of their own: as the job declarator server in this process says, or one elsewhere with which the pool shares a
/// secret.
fn custom_jobs(config: &Config) -> anyhow::Result<Option<CustomJobs>> {
    let file = config.declarator.as_ref().map(|declarator| &declarator.token_key);
    let Some(file) = file.or(config.pool.token_key.as_ref()) else { return Ok(None) };
    Ok(Some(CustomJobs {
        key: Arc::new(keys::read_token_key(file)?),
        accepts_undeclared: config.declarator.as_ref().is_none_or(|declarator| declarator.coinbase_only),
        least_pool_percent: config.least_pool_percent,
    }))
}

/// Waits for the end, whose reason it gives if it is a failure, and meanwhile does again and again what `reload` does.
async fn watch(server: &Server, signals: &mut StopSignals, mut reload: impl AsyncFnMut()) -> Option<Failure> {
    loop {
        tokio::select! {
            signal = signals.received() => {
                tracing::info!(signal, "stopping: acknowledging the last shares; once more ends at once");
                return None;
            }
            failure = server.failed() => return Some(failure),
            () = reload() => {}
        }
    }
}

/// Brings the end about in order, unless it is asked for once more.
async fn end(server: Server, failure: Option<Failure>, signals: &mut StopSignals) -> anyhow::Result<()> {
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

/// Sees the blocks out of a program that leaves them to itself and has come to its end or failed, unless another signal cuts that short.
pub(super) async fn end_with_blocks(
    blocks: &FoundBlocks,
    outcome: anyhow::Result<()>,
    (role, signals): (&'static str, &mut StopSignals),
) -> anyhow::Result<()> {
    if outcome.is_err() {
        see_blocks_out(blocks, signals).await;
    } else {
        tokio::select! {
            () = blocks.close() => tracing::info!("{role} stopped"),
            signal = signals.received() => tracing::warn!(signal, "ended at once"),
        }
    }
    rescue(blocks, &mut io::stderr());
    outcome
}

/// Gives the node time to answer for the blocks that are on their way, although the program cannot go on.
pub(super) async fn see_blocks_out(blocks: &FoundBlocks, signals: &mut StopSignals) {
    if blocks.answered(Duration::ZERO).await {
        return;
    }
    tracing::info!("waiting for the node to answer for found blocks");
    tokio::select! {
        answered = blocks.answered(ANSWER_PATIENCE) => if !answered {
            tracing::warn!("no answer from the node; the blocks go out again at the next start");
        },
        signal = signals.received() => tracing::info!(signal, "not waiting any longer"),
    }
}

/// Writes out blocks that would be lost with this process, so that a person can hand them over with `submitblock`.
pub(super) fn rescue(blocks: &FoundBlocks, out: &mut impl io::Write) {
    for SavedBlock { hash, height, bytes } in blocks.only_copies() {
        let hash = BlockHash::from_byte_array(hash);
        tracing::error!(%hash, height = height.0, "this block is neither on disk nor with a node; hand it over with submitblock");
        // There is nobody left to tell if this fails too.
        let _ = writeln!(out, "block {hash} {}", bytes.to_lower_hex_string());
    }
}

#[cfg(test)]
mod tests;

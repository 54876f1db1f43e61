//! `adit pool`: runs the pool until it is told to stop or cannot go on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use adit_ledger::{BlockStore, LogConfig, Opened};
use adit_net::{Clock, raise_descriptor_limit};
use adit_node::{Health, Node};
use adit_pool::PoolConfig;
use adit_pool::server::{BlockOutcome, Event, Parts, Server, ServerConfig};
use adit_transport::Identity;
use anyhow::{Context as _, bail};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::keys;
use crate::cli::ConfigArgs;
use crate::config;
use crate::stop::stop_requested;

/// Runs the pool.
///
/// # Errors
///
/// If the config is wrong, something it names cannot be used, or the pool cannot go on.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = config::load(&args.config)?;
    let identity = keys::read_identity(&config.pool.server_key)?;
    if let Some(complaint) = keys::open_to_others(&config.pool.server_key)? {
        bail!("{complaint}");
    }
    identity.verify(Clock.unix()).context("miners would refuse this server; see `adit keys rotate`")?;
    tracing::debug!(files = raise_descriptor_limit(), "open files allowed");

    let node = Node::rpc(&config.node);
    tokio::spawn(report_health(node.health()));
    let authority = identity.authority();
    let parts = open_data(&config.data_dir, config.pool.role, node, Arc::new(identity)).await?;
    let server =
        Server::start(ServerConfig::new(config.pool.listen), parts).context("cannot start the pool")?;
    tokio::spawn(report_events(server.events()));
    tracing::info!(listen = %server.address(), %authority, payout = %config.pool.payout_address, "pool started");
    serve(server).await
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
    let Opened { log, boot, recovered, outcome } = opened.await?.context("cannot open the share log")?;
    tracing::info!(boot, ?recovered, "share log opened");
    let blocks = BlockStore::open(&blocks).context("cannot open the store of found blocks")?;
    Ok(Parts { pool, boot, node, log, outcome, blocks, identity })
}

/// Waits for the end, and brings it about in order.
async fn serve(server: Server) -> anyhow::Result<()> {
    let failure = tokio::select! {
        signal = stop_requested() => {
            tracing::info!(signal = signal?, "stopping: acknowledging the last shares");
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

/// Logs when the node goes away and when it comes back.
async fn report_health(mut health: watch::Receiver<Health>) {
    let mut was_up = None;
    while health.changed().await.is_ok() {
        match &*health.borrow_and_update() {
            Health::Starting => {}
            Health::Up if was_up == Some(true) => {}
            Health::Up => {
                tracing::info!("the node gives templates");
                was_up = Some(true);
            }
            Health::Down(error) => {
                tracing::warn!(%error, "the node gives no templates");
                was_up = Some(false);
            }
        }
    }
}

/// Logs blocks, which are what an operator looks for in a log.
async fn report_events(mut events: broadcast::Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::BlockSettled { hash, height, outcome: BlockOutcome::Accepted }) => {
                tracing::info!(%hash, %height, "block accepted");
            }
            Ok(Event::BlockSettled { hash, height, outcome }) => {
                tracing::warn!(%hash, %height, ?outcome, "block lost");
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events missed"),
            Err(RecvError::Closed) => return,
        }
    }
}

//! `adit demo`: a pool, a test chain and a miner in this process, with a live view of what they do.

use std::sync::Arc;
use std::time::Duration;

use adit_miner::{Miner, MinerConfig, MinerHandle, Url};
use adit_net::{Clock, OsRng};
use adit_node::{DevnetConfig, Node};
use adit_pool::PoolConfig;
use adit_pool::server::{BlockOutcome, Event, Server, ServerConfig};
use adit_transport::AuthorityKeyPair;
use adit_units::ShareRate;
use anyhow::{Context as _, anyhow, bail};
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{Network, ScriptBuf};
use rand_core::Rng as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, interval, sleep_until};

use super::{keys, miner, pool};
use crate::cli::DemoArgs;
use crate::stop::StopSignals;
use crate::view::{REFRESH, View};

/// How often the demo's miner is meant to submit, so that something is to be seen.
const SHARES_PER_MINUTE: u32 = 60;

/// The miner's name at the pool.
const USER: &str = "demo.miner";

/// Everything that the demo runs.
struct Demo {
    server: Server,
    miner: MinerHandle,
    /// The share log and found blocks of this run; removed with it.
    data: tempfile::TempDir,
}

/// Runs the demo until enough blocks were accepted, or until it is told to stop.
///
/// # Errors
///
/// If something cannot be started, fails, or takes too long.
pub(crate) async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let mut view = View::new();
    let demo = start(args, &mut view).await?;
    let outcome = watch(&demo, args, &mut view).await;
    let metrics = demo.server.metrics();
    let Demo { server, miner, data } = demo;
    miner.stop().await;
    let drained = server.shutdown().await;
    let recorded = adit_ledger::read(&data.path().join("shares"))?.count();
    // The log is read when all has ended, so it may hold a share more than was counted a moment before.
    view.event(&format!("{} blocks accepted, {recorded} shares in the share log", metrics.blocks_accepted));
    outcome?;
    drained.log.unwrap_or(Ok(())).context("the share log failed")
}

/// Starts the chain, the pool and the miner.
async fn start(args: &DemoArgs, view: &mut View) -> anyhow::Result<Demo> {
    let data = tempfile::tempdir().context("cannot make a folder for the demo's data")?;
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let node = Node::devnet(&DevnetConfig::new(seed), || Clock.now());

    // The test chain's coins are worth nothing, so anyone may spend them.
    let payout = ScriptBuf::builder().push_opcode(OP_PUSHNUM_1).into_script();
    let mut config = PoolConfig::new(0, payout);
    config.network = Network::Regtest;
    config.vardiff.rate = ShareRate::from_shares_per_minute(SHARES_PER_MINUTE);

    let identity = Arc::new(keys::certify(&AuthorityKeyPair::generate(&mut OsRng), 365)?);
    let authority = identity.authority();
    let blocks = pool::open_blocks(data.path(), node.clone()).await?;
    let parts = pool::open_data(data.path(), config, node, blocks, identity).await?;
    let server = Server::start(ServerConfig::new(args.listen), parts).context("cannot start the pool")?;
    let address = server.address();
    view.event(&format!("pool    stratum2+tcp://{address}/{authority}"));

    let url = Url::new(address.ip().to_string(), address.port(), Some(authority))?;
    let mut config = MinerConfig::new(url, USER);
    config.threads = miner::threads(args.threads)?;
    let miner = Miner::start(config)?;
    view.event(&format!("miner   {USER}, on this machine's processor"));
    if let Some(blocks) = args.blocks {
        view.event(&format!("until   {blocks} blocks are accepted"));
    }
    Ok(Demo { server, miner, data })
}

/// Shows what happens until the demo is over.
async fn watch(demo: &Demo, args: &DemoArgs, view: &mut View) -> anyhow::Result<()> {
    let Demo { server, miner, .. } = demo;
    let mut signals = StopSignals::listen()?;
    let mut events = server.events();
    let mut ticks = interval(REFRESH);
    let deadline = Clock.instant(Clock.monotonic() + Duration::from_secs(args.timeout));
    loop {
        // The counter, because a reader that lags may miss an event.
        let accepted = server.metrics().blocks_accepted;
        if args.blocks.is_some_and(|blocks| accepted >= blocks) && events.is_empty() {
            return Ok(());
        }
        tokio::select! {
            _ = signals.received() => {
                return match args.blocks {
                    Some(blocks) => Err(anyhow!("stopped after {accepted} of {blocks} blocks")),
                    None => Ok(()),
                };
            }
            failure = server.failed() => return Err(failure).context("the pool cannot go on"),
            failure = miner.failure() => return Err(failure).context("the miner has given up"),
            () = until(deadline, args.blocks) => {
                bail!("{accepted} blocks were accepted within {} s; {}", args.timeout, status(demo));
            }
            _ = ticks.tick() => view.status(&status(demo)),
            event = events.recv() => {
                if let Some(line) = describe(event)? {
                    view.event(&line);
                }
            }
        }
    }
}

/// Waits for the deadline, which only a demo with a goal has.
async fn until(deadline: Instant, goal: Option<u64>) {
    match goal {
        Some(_) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The line that is kept current.
fn status(demo: &Demo) -> String {
    let (pool, miner) = (demo.server.metrics(), demo.miner.stats());
    let refused: u64 = pool.rejected.iter().map(|(_, count)| count).sum();
    let height = pool.height.map_or_else(|| "none".to_owned(), |height| height.to_string());
    format!(
        "height {height}  miner {}  pool {}  shares {} accepted {refused} refused  blocks {}",
        miner.hashrate, pool.hashrate, pool.accepted, pool.blocks_accepted
    )
}

/// What to print about an event, if anything.
fn describe(event: Result<Event, RecvError>) -> anyhow::Result<Option<String>> {
    Ok(match event {
        Ok(Event::BlockFound { hash, height, user, .. }) => {
            Some(format!("block   {height} found by {user}: {hash}"))
        }
        Ok(Event::BlockSettled { height, outcome: BlockOutcome::Accepted, .. }) => {
            Some(format!("block   {height} accepted by the node"))
        }
        Ok(Event::BlockSettled { height, outcome, .. }) => {
            Some(format!("block   {height} lost: {outcome:?}"))
        }
        Ok(_) | Err(RecvError::Lagged(_)) => None,
        Err(RecvError::Closed) => bail!("the pool has gone"),
    })
}

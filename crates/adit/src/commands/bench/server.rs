//! The server that `adit bench` starts: a pool on a test chain, in a process of its own, that takes orders on standard input.

pub(super) mod declarator;
mod reference;

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_net::{Clock, Limits, OsRng, raise_descriptor_limit};
use adit_node::{Auth, DevnetConfig, Node, Pace, RpcConfig, Submitted};
use adit_pool::PoolConfig;
use adit_pool::server::{Server, ServerConfig};
use adit_share::{Block, Template};
use adit_testkit::mining;
use adit_transport::AuthorityKeyPair;
use adit_units::{Target, Work};
use anyhow::{Context as _, anyhow};
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{Network, ScriptBuf};
use rand_core::Rng as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::declarator::Foundation;
use self::reference::ReferencePool;
use crate::cli::BenchServerArgs;
use crate::commands::{keys, pool};

/// Hashes for a block that is made on order; a moment's work.
const EASY_BLOCK: Work = Work::from_hashes(1 << 18);

/// Hashes for a block that no run finds by chance.
const HARD_BLOCK: Work = Work::from_hashes(1 << 60);

/// Transactions in the first template, so that the merkle path has the ten hashes of a middling block.
const TRANSACTIONS: usize = 1_000;

/// A refresh that no run lives to see.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often the server is tried until it listens.
const TRY: Duration = Duration::from_millis(10);

/// Days that the certificate of a server holds: more than any run lasts, and enough for nobody to be warned of its end.
const CERTIFICATE_DAYS: u32 = 60;

/// Serves until standard input ends. Prints the pool's URL first, with the process that it is if that is another one, then `solved` to
/// each `solve`, and `accepted` or why not to each `submit`.
///
/// # Errors
///
/// If the pool cannot be started, or its log fails.
pub(crate) async fn serve(args: &BenchServerArgs) -> anyhow::Result<()> {
    let chain = chain(args);
    let (node, orders) = nodes(args, &chain)?;
    let mut templates = orders.templates();
    templates.wait_for(Option::is_some).await?;
    let identity = Arc::new(keys::certify(&AuthorityKeyPair::generate(&mut OsRng), CERTIFICATE_DAYS)?);
    if let Some(program) = &args.sri {
        let pool = ReferencePool::start(program, args, node, identity).await?;
        println!("{} {}", pool.url(), pool.pid());
        take_orders(&orders, &templates).await?;
        return pool.stop().await;
    }
    let authority = identity.authority();
    let blocks = pool::open_blocks(&args.data_dir, node.clone()).await?;
    let declarator = match args.declarator {
        Some(listen) => {
            let (chain, identity) = (chain.clone(), Arc::clone(&identity));
            let on = Foundation { chain, blocks: blocks.clone(), identity };
            Some(declarator::start(listen, on, &args.data_dir).await?)
        }
        None => None,
    };
    let parts = pool::open_data(&args.data_dir, rules(args), node, blocks, identity).await?;
    let mut config = ServerConfig::new(([127, 0, 0, 1], 0).into());
    if args.refresh.is_some() {
        // A channel remembers so many shares of one job, and a saturated one needs the next job at once.
        config.refresh_spread = Duration::ZERO;
    }
    config.limits = limits(args);
    let server = Server::start(config, parts).context("cannot start the pool")?;
    listening(server.address()).await;
    println!("stratum2+tcp://{}/{authority}", server.address());
    take_orders(&orders, &templates).await?;
    if let Some(declarator) = declarator {
        declarator.shutdown().await;
    }
    let drained = server.shutdown().await;
    drained.log.unwrap_or(Ok(())).context("the share log failed")
}

/// The node that the pool follows, and the one that orders are carried out on.
///
/// With a test chain both are the same. A real node is spoken to a second time, so that its pool hears of a block as it would of one
/// that somebody else has found.
fn nodes(args: &BenchServerArgs, chain: &DevnetConfig) -> anyhow::Result<(Node, Node)> {
    let (Some(url), Some(cookie)) = (&args.node_url, &args.node_cookie) else {
        let node = Node::devnet(chain, || Clock.now());
        return Ok((node.clone(), node));
    };
    let mut config = RpcConfig::new(url, Auth::Cookie(cookie.clone()))?;
    // Blocks are made on order, so nobody may be at work on that chain.
    config.network = Some(Network::Regtest);
    Ok((Node::rpc(&config), Node::rpc(&config)))
}

/// Those of a real pool, or as many peers as the system has files for, all from one address and all newcomers at once.
fn limits(args: &BenchServerArgs) -> Limits {
    let most = usize::MAX;
    let all = Limits {
        connections: most,
        connections_per_address: most,
        newcomers: most,
        newcomers_per_address: most,
    };
    let limits = if args.guarded { Limits::default() } else { all };
    limits.within_descriptors(raise_descriptor_limit())
}

/// Waits until the server listens, which it does once there is work. Whoever started this process bounds the wait.
async fn listening(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        sleep(TRY).await;
    }
}

async fn take_orders(node: &Node, templates: &watch::Receiver<Option<Arc<Template>>>) -> anyhow::Result<()> {
    let mut solved = None;
    // Reading standard input blocks, so it has a thread of its own each time; orders are rare.
    while let Some(order) = spawn_blocking(|| io::stdin().lines().next()).await?.transpose()? {
        match order.as_str() {
            "solve" => {
                let template = templates.borrow().clone().ok_or_else(|| anyhow!("the chain has ended"))?;
                solved = Some(solve(template).await?);
                println!("solved");
            }
            "submit" => println!("{}", submit(node, solved.take()).await),
            other => println!("unknown order {other}"),
        }
    }
    Ok(())
}

/// A block of the template.
async fn solve(template: Arc<Template>) -> anyhow::Result<Block> {
    Ok(spawn_blocking(move || mining::mine(&template, anyone())).await?)
}

async fn submit(node: &Node, block: Option<Block>) -> &'static str {
    let Some(block) = block else { return "nothing solved" };
    match node.submit(&block).await {
        Submitted::Accepted => "accepted",
        _ => "refused",
    }
}

/// The test chain's coins are worth nothing, so anyone may spend them.
fn anyone() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(OP_PUSHNUM_1).into_script()
}

fn chain(args: &BenchServerArgs) -> DevnetConfig {
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let mut chain = DevnetConfig::new(seed);
    chain.pace = Pace::Fixed(if args.easy_blocks { EASY_BLOCK } else { HARD_BLOCK });
    chain.transactions = TRANSACTIONS;
    // A new transaction for each refresh, else the template would be the same and miners would not hear of it.
    let refresh = args.refresh.map(Duration::from_millis);
    chain.arrival = refresh.unwrap_or(Duration::ZERO);
    chain.refresh = refresh.unwrap_or(NEVER);
    chain
}

/// Every hash is a share for ever, so that shares cost their sender nothing.
fn rules(args: &BenchServerArgs) -> PoolConfig {
    let mut rules = PoolConfig { limits_shares: args.guarded, ..PoolConfig::new(0, anyone()) };
    rules.vardiff.easiest = Target::MAX;
    rules.vardiff.hardest = Target::MAX;
    rules
}

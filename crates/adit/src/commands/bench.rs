//! `adit bench`: loads a pool with connections and shares, and shows what that costs it.

mod child;
mod flood;
mod server;
mod sv1;

use core::fmt::Display;
use core::net::{Ipv4Addr, SocketAddr};
use core::num::NonZeroU32;
use core::time::Duration;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;

use adit_miner::{ChannelKind, Url};
use adit_net::raise_descriptor_limit;
use adit_testkit::flood::Kind;
use adit_testkit::load::{self, Flooding, OwnServer, Plan, Report, Shares, Subject, Watched};
use adit_units::Hashrate;
use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::process::Command;

pub(crate) use self::flood::flood;
use self::server::declarator::DECLARABLE;
pub(crate) use self::server::serve;
use crate::cli::{self, BenchArgs, BenchCommand, Rate};

/// Shares that wait for an answer in all, if the command line does not say how many.
const WINDOW_TOTAL: u32 = 16_384;

/// How often a server that is saturated by one connection has a new job on the same tip, in milliseconds; the more connections, the less
/// often. A channel remembers only so many shares of one job (the rest are refused as `too-many-shares`), and a saturated one
/// sends as many in an instant as a real one in a month.
const REFRESH_EACH: u64 = 25;

/// How often there is a new job at the least, in milliseconds, as from a real node.
const REFRESH_MAX: u64 = 30_000;

/// Shares that the reference implementation's pool gathers for one acknowledgement, as its sample configs have it.
const SRI_ACK_BATCH: u32 = 10;

/// How far attackers step back behind the generator.
const FLOOD_NICENESS: &str = "10";

/// Descriptors that the generator needs beside its connections.
const DESCRIPTORS_RESERVED: usize = 64;

/// Measures a pool and prints what came of it.
///
/// The generator has one thread, so that a server beside it keeps the other processors.
///
/// # Errors
///
/// If the pool cannot be started, reached or watched, or refuses the connections.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(BenchCommand::Sv1(args)) = &args.command {
        let report = runtime.block_on(sv1::measure(args))?;
        return show(args.json, report.is_clean(), &report);
    }
    let report = runtime.block_on(measure(args))?;
    show(args.json, report.is_clean(), &report)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Shown<'a, R> {
    /// Whether nothing went wrong that makes the numbers worthless.
    clean: bool,
    #[serde(flatten)]
    report: &'a R,
}

fn show<R: Serialize + Display>(as_json: bool, clean: bool, report: &R) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(&Shown { clean, report })?);
    } else {
        print!("{report}");
    }
    Ok(())
}

async fn measure(args: &BenchArgs) -> anyhow::Result<Report> {
    if args.flood.is_some() && args.rate == Rate::Max {
        bail!("acknowledgements beside a flood are those of paced shares; give --rate a number");
    }
    reserve_descriptors(args.connections, "connections")?;
    if let Some(url) = &args.url {
        let plan = plan(args, url)?;
        return Ok(load::run(&plan, Subject::Foreign(args.pid.map(Watched::new))).await?);
    }
    let folder = tempfile::tempdir().context("cannot make a folder for the server's data")?;
    let data_dir = args.data_dir.as_deref().unwrap_or_else(|| folder.path());
    let declarator = (args.flood == Some(Kind::Declarations)).then(free_address).transpose()?;
    let mut server = OwnServer::start(server_command(args, data_dir, declarator)?).await?;
    let mut plan = plan(args, server.url())?;
    if let (Some(flooding), Some(address)) = (&mut plan.flooding, declarator) {
        flooding.command = declaring(server.url(), address, &data_dir.join(DECLARABLE))?;
    }
    let report = load::run(&plan, Subject::Own(&mut server)).await;
    server.stop().await?;
    Ok(report?)
}

/// Sees to it that so many of those, as they are called, can be connected at once.
fn reserve_descriptors(wanted: u32, whom: &str) -> anyhow::Result<()> {
    let allowed = raise_descriptor_limit();
    if usize::try_from(wanted)? + DESCRIPTORS_RESERVED > allowed {
        bail!("{wanted} {whom} need more open files than the {allowed} that the system allows");
    }
    Ok(())
}

/// How to start a server for these arguments.
fn server_command(
    args: &BenchArgs,
    data_dir: &Path,
    declarator: Option<SocketAddr>,
) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program")?;
    // A foreign pool is a process of its own, and only that one is kept to the processor: the chain is not what is measured.
    let own_cpu = args.server_cpu.filter(|_| args.sri.is_none());
    let mut command = kept_to(own_cpu, &program);
    command.arg("bench-server").arg("--data-dir").arg(data_dir);
    if let Some(sri) = &args.sri {
        command.arg("--sri").arg(sri).arg("--ack-batch").arg(ack_batch(args).to_string());
        if let Some(cpu) = args.server_cpu {
            command.arg("--server-cpu").arg(cpu.to_string());
        }
    }
    if let (Some(url), Some(cookie)) = (&args.node_url, &args.node_cookie) {
        if args.rate != Rate::PerSecond(0) {
            bail!("every second share would be a block of that node's chain; load it with --rate 0");
        }
        command.arg("--node-url").arg(url).arg("--node-cookie").arg(cookie);
    }
    if args.tips > 0 {
        command.arg("--easy-blocks");
    }
    if args.flood.is_some() {
        command.arg("--guarded");
    }
    if let Some(address) = declarator {
        command.arg("--declarator").arg(address.to_string());
    }
    if args.rate == Rate::Max {
        let refresh = REFRESH_EACH.saturating_mul(args.connections.into()).min(REFRESH_MAX);
        command.arg("--refresh").arg(refresh.to_string());
    }
    Ok(command)
}

/// A flood by a process of its own, which takes no more of the generator's processor than that leaves over.
fn flooding(kind: Kind, url: &str) -> anyhow::Result<Flooding> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command: Vec<OsString> = ["nice", "-n", FLOOD_NICENESS].map(OsString::from).into();
    command.push(program.into());
    command.extend(["bench-flood", "--kind", kind.as_str(), "--url", url].map(OsString::from));
    Ok(Flooding { kind, command })
}

/// A flood of declarations, to the job declarator server at that address: it has the pool's key.
fn declaring(url: &str, address: SocketAddr, job: &Path) -> anyhow::Result<Vec<OsString>> {
    let (_, authority) = url.rsplit_once('/').context("the pool has told no key")?;
    let mut command = flooding(Kind::Declarations, &format!("stratum2+tcp://{address}/{authority}"))?.command;
    command.extend([OsString::from("--job"), job.into()]);
    Ok(command)
}

/// An address of this machine that nobody listens at.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// How to start a program on one processor, or on all.
fn kept_to(cpu: Option<u16>, program: &Path) -> Command {
    let Some(cpu) = cpu else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(cpu.to_string()).arg(program);
    command
}

/// How many shares of a channel the pool gathers for one acknowledgement.
fn ack_batch(args: &BenchArgs) -> u32 {
    let usual = if args.sri.is_some() { SRI_ACK_BATCH } else { 1 };
    args.ack_batch.unwrap_or(usual)
}

fn plan(args: &BenchArgs, url: &str) -> anyhow::Result<Plan> {
    let channels = args.connections.saturating_mul(args.channels).max(1);
    let window = args.window.unwrap_or(WINDOW_TOTAL / channels).clamp(16, 8_192);
    Ok(Plan {
        url: url.parse::<Url>()?,
        insecure: args.insecure,
        user: args.user.clone(),
        nominal_hashrate: Hashrate::from_hashes_per_second(args.hashrate),
        connections: usize::try_from(args.connections)?,
        channels: usize::try_from(args.channels)?,
        kind: match args.kind {
            cli::ChannelKind::Standard => ChannelKind::Standard,
            cli::ChannelKind::Extended => ChannelKind::Extended,
        },
        shares: match args.rate {
            Rate::Max => Shares::Saturated,
            Rate::PerSecond(rate) => NonZeroU32::new(rate).map_or(Shares::None, Shares::Paced),
        },
        window: usize::try_from(window)?,
        ack_batch: usize::try_from(ack_batch(args))?,
        duration: Duration::from_secs(args.seconds),
        tips: args.tips,
        late_acks: args.news.late_acks,
        awake: args.news.awake,
        reconnects: NonZeroU32::new(args.reconnects),
        generations: args.generations,
        flooding: args.flood.map(|kind| flooding(kind, url)).transpose()?,
    })
}

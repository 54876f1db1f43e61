//! `adit bench sv1`: a translator as a child process, between a scripted SV2 pool and many SV1 machines.

use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::time::Duration;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use adit_net::OsRng;
use adit_testkit::load::Watched;
use adit_testkit::load::sv1::{self, Plan, Report, Subject, Upstream};
use adit_transport::AuthorityKeyPair;
use anyhow::Context as _;
use tokio::process::Command;

use super::child::{self, Child};
use super::{free_address, reserve_descriptors};
use crate::cli::BenchSv1Args;
use crate::commands::keys;

/// Days that the certificate of the pool holds: more than any run lasts.
const CERTIFICATE_DAYS: u32 = 60;

/// Whom the translator's channels are for.
const USER: &str = "bench";

/// Shares a minute that a translator is to expect of a machine which sends none here, as in the reference implementation's samples.
const USUAL_RATE: u32 = 6;

/// The most that this program's translator may be told to expect. It matters little: machines ask for their difficulty.
const RATE_MAX: u32 = 600;

/// Measures a translator.
///
/// # Errors
///
/// If the translator cannot be started or does not give the machines work.
pub(super) async fn measure(args: &BenchSv1Args) -> anyhow::Result<Report> {
    reserve_descriptors(args.machines, "machines")?;
    let plan = Plan {
        machines: usize::try_from(args.machines)?,
        jobs: args.jobs,
        tips: args.tips,
        late_acks: args.news.late_acks,
        awake: args.news.awake,
        rate: NonZeroU32::new(args.rate),
        duration: Duration::from_secs(args.seconds),
        blocks: args.blocks,
        one_up_in: args.one_up_in,
    };
    let identity = keys::certify(&AuthorityKeyPair::generate(&mut OsRng), CERTIFICATE_DAYS)?;
    let upstream = Upstream::bind(Arc::new(identity)).await.context("cannot listen for the translator")?;
    let (folder, address) = (tempfile::tempdir()?, free_address()?);
    let command = command(args, &plan, &upstream, address, folder.path())?;
    let mut translator = Child::start("the translator", command, folder.path().join("translator.log"))?;
    let subject = Subject { address, watched: Watched::new(translator.pid()) };
    let report = sv1::run(&plan, upstream, subject).await;
    translator.check()?;
    let report = report.with_context(|| format!("the translator wrote: {}", translator.last_words()))?;
    translator.stop().await?;
    Ok(report)
}

/// How to start the translator, with its config in that folder.
fn command(
    args: &BenchSv1Args,
    plan: &Plan,
    upstream: &Upstream,
    address: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Command> {
    let config = folder.join("translator.toml");
    let mut command = match &args.translator {
        Some(program) => {
            fs::write(&config, reference_settings(args, plan, upstream, address))?;
            let mut command = child::command(args.server_cpu, program);
            command.env("RUST_LOG", "warn");
            command
        }
        None => {
            fs::write(&config, settings(args, upstream, address))?;
            let program = std::env::current_exe().context("cannot find this program")?;
            let mut command = child::command(args.server_cpu, &program);
            command.arg("translator").env("ADIT_LOG", "warn");
            command
        }
    };
    command.arg("--config").arg(&config);
    Ok(command)
}

/// Shares a minute of one machine, at least one.
fn shares_per_minute(args: &BenchSv1Args) -> u32 {
    let all = u64::from(args.rate) * 60;
    let each = u32::try_from(all.div_ceil(u64::from(args.machines))).unwrap_or(u32::MAX);
    if args.rate == 0 { USUAL_RATE } else { each }
}

/// The config of this program's translator, with all that it does by default. Machines ask for their difficulty by password.
fn settings(args: &BenchSv1Args, upstream: &Upstream, address: SocketAddr) -> String {
    let mode = if args.per_machine { "per-machine" } else { "aggregated" };
    let (pool, authority) = (upstream.address(), upstream.authority());
    let shares_per_minute = shares_per_minute(args).min(RATE_MAX);
    format!(
        r#"[translator]
listen = "{address}"
mode = "{mode}"
api = "127.0.0.1:0"
shares_per_minute = {shares_per_minute}

[[translator.devices]]
user_agent = "adit-bench"
least_difficulty = "0.000000000001"

[[upstreams]]
pool = "stratum2+tcp://{pool}/{authority}"
user = "{USER}"
"#
    )
}

/// The config of the reference implementation's translator: as in its samples, but for the difficulty of shares.
///
/// Where all shares are good enough for the pool, machines get the pool's difficulty. Elsewhere they get that of the hashrate which sends
/// shares of the wanted difficulty at just the rate at which they come, so that there is no reason to change it.
fn reference_settings(args: &BenchSv1Args, plan: &Plan, upstream: &Upstream, address: SocketAddr) -> String {
    let (pool, authority) = (upstream.address(), upstream.authority());
    let shares_per_minute = shares_per_minute(args);
    // It divides hashrate by shares, drops the fraction, and adds one.
    let hashes_per_minute = u64::from(shares_per_minute) * u64::from(2 * plan.share_hashes() - 1) / 2;
    let hashrate = format!("{}.{:03}", hashes_per_minute / 60, hashes_per_minute % 60 * 1_000 / 60);
    format!(
        r#"downstream_address = "{}"
downstream_port = {}
max_supported_version = 2
min_supported_version = 2
downstream_extranonce2_size = 8
verify_payout = false
aggregate_channels = {}
supported_extensions = [0x0002]

[downstream_difficulty_config]
min_individual_miner_hashrate = {hashrate}
shares_per_minute = {shares_per_minute}.0
enable_vardiff = {}
job_keepalive_interval_secs = 60

[[upstreams]]
address = "{}"
port = {}
authority_pubkey = "{authority}"
user_identity = "{USER}"
"#,
        address.ip(),
        address.port(),
        !args.per_machine,
        args.one_up_in > NonZeroU32::MIN,
        pool.ip(),
        pool.port(),
    )
}

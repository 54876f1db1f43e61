//! `adit miner`: mines with this machine's processor until it is told to stop.

use std::num::NonZeroUsize;

use adit_miner::{ChannelKind, Miner, MinerConfig, Stats, Url};
use adit_net::Clock;
use anyhow::{Context as _, bail};
use tokio::time::interval;

use crate::cli::{self, MinerArgs};
use crate::stop::StopSignals;
use crate::view::{REFRESH, View};

/// Mines.
///
/// # Errors
///
/// If the arguments cannot work, or the pool refuses this miner for good.
pub(crate) async fn run(args: &MinerArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
    let miner = Miner::start(config(args)?)?;
    let mut view = View::new();
    view.event(&format!("mining at {} for {}", args.url, args.user));
    let started = Clock.monotonic();
    let mut ticks = interval(REFRESH);
    let mut news = News::default();
    let failure = loop {
        tokio::select! {
            _ = signals.received() => break None,
            failure = miner.failure() => break Some(failure),
            _ = ticks.tick() => {
                let stats = miner.stats();
                news.tell(&stats, &mut view);
                let uptime = (Clock.monotonic() - started).as_secs();
                view.status(&format!("{}  up {uptime} s", describe(&stats)));
            }
        }
    };
    let stats = miner.stats();
    miner.stop().await;
    view.event(&describe(&stats));
    failure.map_or(Ok(()), |failure| Err(failure).context("the miner has given up"))
}

/// The miner's config from the arguments.
fn config(args: &MinerArgs) -> anyhow::Result<MinerConfig> {
    let url: Url = args.url.parse().with_context(|| format!("--url {}", args.url))?;
    if url.authority().is_none() && !args.insecure {
        bail!(
            "--url {} has no authority key, so anyone could pose as the pool; append /KEY as the pool publishes it, \
             or give --insecure",
            args.url
        );
    }
    let mut config = MinerConfig::new(url, args.user.clone());
    config.insecure = args.insecure;
    config.threads = threads(args.threads)?;
    config.channel = match args.channel {
        cli::ChannelKind::Standard => ChannelKind::Standard,
        cli::ChannelKind::Extended => ChannelKind::Extended,
    };
    Ok(config)
}

/// The number of threads, which cannot be none.
pub(crate) fn threads(threads: Option<usize>) -> anyhow::Result<Option<NonZeroUsize>> {
    threads
        .map(|threads| NonZeroUsize::new(threads).context("--threads 0 would not mine; use 1 or more"))
        .transpose()
}

/// One line about a miner.
fn describe(stats: &Stats) -> String {
    let mut line = format!("{}  accepted {}", stats.hashrate, stats.accepted);
    for (code, count) in stats.rejected.iter() {
        line += &format!("  {code} {count}");
    }
    if stats.blocks > 0 {
        line += &format!("  blocks {}", stats.blocks);
    }
    if !stats.connected {
        line += "  not connected";
    }
    line
}

/// What has been told already.
#[derive(Default)]
struct News {
    connections: u64,
    error: Option<String>,
}

impl News {
    /// Tells what is new about the connection.
    fn tell(&mut self, stats: &Stats, view: &mut View) {
        if stats.connections > self.connections {
            self.connections = stats.connections;
            self.error = None;
            view.event("connected, channel open");
        }
        if !stats.connected && stats.last_error != self.error {
            self.error.clone_from(&stats.last_error);
            if let Some(error) = &self.error {
                view.event(&format!("no connection: {error}; trying again"));
            }
        }
    }
}

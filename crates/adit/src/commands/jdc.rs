//! `adit jdc`: serves miners with jobs from their own node that a pool pays for, until it is told to stop.

use std::io;
use std::path::Path;

use adit_job_declarator::client::{Activity, Jdc, JdcConfig, JdcParts, UpstreamStatus};
use adit_net::Clock;
use adit_node::Node;
use adit_pool::server::{FoundBlocks, ServerConfig};
use adit_units::Hashrate;
use anyhow::Context as _;

use super::pool::{open_blocks, rescue, see_blocks_out, usable_identity};
use crate::cli::ConfigArgs;
use crate::config::{self, ClientConfig};
use crate::logging::Logging;
use crate::stop::{ReloadSignal, StopSignals};

/// Bytes of extranonce that a miner may roll: more than any machine needs between two jobs.
const ROLLABLE_LEN: usize = 8;

/// What pools are told at the start of how fast the miners are; what they really do is told ten seconds later.
const FIRST_GUESS: Hashrate = Hashrate::from_hashes_per_second(1_000_000_000_000);

/// Runs the client.
///
/// # Errors
///
/// If the config is wrong, something it names cannot be used, or the server for the miners cannot go on.
pub(crate) async fn run(args: &ConfigArgs, logging: &Logging) -> anyhow::Result<()> {
    let (mut signals, mut reload) = (StopSignals::listen()?, ReloadSignal::listen()?);
    let config = config::load_client(&args.config)?;
    logging.set(config.log.as_ref());
    let node = Node::several(config.nodes.iter().map(Node::open).collect(), || Clock.now());
    // Blocks first: whatever keeps the client from starting, those of an earlier run are on their way.
    let blocks = open_blocks(&config.data_dir, node.clone()).await?;
    let outcome = match start(config, node, blocks.clone()) {
        Ok(jdc) => serve(jdc, &mut signals, &mut reload).await,
        Err(error) => {
            see_blocks_out(&blocks, &mut signals).await;
            Err(error)
        }
    };
    rescue(&blocks, &mut io::stderr());
    outcome
}

/// Reads the key, numbers this start, and starts the client.
fn start(config: ClientConfig, node: Node, blocks: FoundBlocks) -> anyhow::Result<Jdc> {
    let identity = usable_identity(&config.server_key)?;
    let authority = identity.authority();
    let has_template = node.templates().borrow().is_some();
    let parts = JdcParts { boot: next_boot(&config.data_dir)?, node, blocks, identity };
    let listen = ServerConfig::new(config.listen);
    let (network, upstreams) = (config.network, config.upstreams.len());
    let jdc = Jdc::start(client(config), listen, parts).context("cannot start the job declarator client")?;
    tracing::info!(%network, address = %jdc.server().address(), %authority, upstreams, "job declarator client started");
    if !has_template {
        tracing::info!("waiting for the node's first template; until then nobody listens for miners");
    }
    Ok(jdc)
}

/// Serves miners until it is told to stop or cannot go on, and sees their shares and blocks out.
async fn serve(jdc: Jdc, signals: &mut StopSignals, reload: &mut ReloadSignal) -> anyhow::Result<()> {
    let mut activity = jdc.activity();
    let failure = loop {
        tokio::select! {
            signal = signals.received() => {
                tracing::info!(signal, "stopping: passing on the last shares; once more ends at once");
                break None;
            }
            never = reload.decline() => match never {},
            failure = jdc.server().failed() => break Some(failure),
            Ok(()) = activity.changed() => tell(&activity.borrow_and_update()),
        }
    };
    tokio::select! {
        drained = jdc.shutdown() => tracing::info!(cut_off = drained.cut_off, "job declarator client stopped"),
        signal = signals.received() => anyhow::bail!("ended at once by {signal}; the last shares may not have been passed on"),
    }
    match failure {
        Some(failure) => Err(failure).context("the server for miners cannot go on"),
        None => Ok(()),
    }
}

/// What the client goes by.
fn client(config: ClientConfig) -> JdcConfig {
    JdcConfig {
        upstreams: config.upstreams,
        solo: config.solo,
        rollable_len: ROLLABLE_LEN,
        nominal_hashrate: FIRST_GUESS,
        insecure: false,
    }
}

/// Numbers the starts of this client, because its jobs must differ from those of earlier runs.
fn next_boot(dir: &Path) -> anyhow::Result<u32> {
    let file = dir.join("starts");
    let before = match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse::<u32>().with_context(|| {
            let file = file.display();
            format!("{file} is not a number; write into it how often this client was started, or more, such as 1000")
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let now = before.wrapping_add(1);
    let fresh = dir.join("starts.new");
    std::fs::write(&fresh, format!("{now}\n"))
        .and_then(|()| std::fs::File::open(&fresh)?.sync_all())
        .and_then(|()| std::fs::rename(&fresh, &file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(now)
}

/// Tells those who look closely how it goes.
fn tell(activity: &Activity) {
    let Activity { upstream, jobs_accepted, shares_accepted, shares_refused, shares_lost, .. } = activity;
    let upstream = match upstream {
        UpstreamStatus::Using(upstream) => format!("upstream {upstream}"),
        UpstreamStatus::Solo => "solo".to_owned(),
        UpstreamStatus::Stranded => "looking for an upstream".to_owned(),
    };
    tracing::trace!(upstream, jobs_accepted, shares_accepted, shares_refused, shares_lost, "upstream");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_and_no_number_comes_twice() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(next_boot(folder.path()).unwrap(), 1);
        assert_eq!(next_boot(folder.path()).unwrap(), 2);
        std::fs::write(folder.path().join("starts"), "many").unwrap();
        let refused = next_boot(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("starts is not a number; write"), "{refused}");
    }
}

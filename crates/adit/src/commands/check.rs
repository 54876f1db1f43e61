//! `adit check`: reads a config, reports every mistake at once, tries the keys, the disk and the node.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use adit_net::Clock;
use adit_node::{Auth, NodeInfo, RpcConfig, probe};
use anyhow::bail;

use super::keys;
use crate::cli::ConfigArgs;
use crate::config::{self, Config};

/// Below this many days of validity left, the certificate is worth a warning.
const EXPIRY_WARNING_DAYS: u32 = 30;

const SECS_PER_DAY: u32 = 24 * 60 * 60;

/// What was found, counted and printed as it comes.
#[derive(Default)]
struct Report {
    failures: usize,
}

impl Report {
    fn good(&self, what: &str, text: &str) {
        println!("ok    {what:<8} {text}");
    }

    fn warn(&self, what: &str, text: &str) {
        println!("note  {what:<8} {text}");
    }

    fn bad(&mut self, what: &str, text: &str) {
        self.failures += 1;
        println!("FAIL  {what:<8} {text}");
    }
}

/// Checks everything and says what it found.
///
/// # Errors
///
/// If anything would keep the pool from running.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = config::load(&args.config)?;
    let mut report = Report::default();
    report.good("config", &format!("{} has no mistakes", args.config.display()));
    check_privacy(&args.config, &config, &report);
    check_keys(&config.pool.server_key, &mut report);
    check_data_dir(&config.data_dir, &mut report);
    check_listen(config.pool.listen, &mut report);
    check_nodes(&config, &mut report).await;
    match report.failures {
        0 => {
            println!();
            println!("ready: adit pool --config {}", args.config.display());
            Ok(())
        }
        1 => bail!("one check failed"),
        failures => bail!("{failures} checks failed"),
    }
}

/// The config, where it holds a password.
fn check_privacy(file: &Path, config: &Config, report: &Report) {
    let has_password = config.nodes.iter().any(|node| matches!(node.auth(), Auth::UserPass { .. }));
    if let (true, Ok(Some(complaint))) = (has_password, keys::open_to_others(file)) {
        report.warn("config", &format!("{complaint}, as it may hold the node's password"));
    }
}

/// The address for miners, unless a pool listens there already.
fn check_listen(address: SocketAddr, report: &mut Report) {
    match TcpListener::bind(address) {
        Ok(_) => report.good("listen", &format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            report.warn("listen", &format!("{address} is taken, which is right only while the pool runs"));
        }
        Err(error) => report.bad("listen", &format!("cannot listen at {address}: {error}")),
    }
}

/// The server key: readable, private, and certified for now.
fn check_keys(file: &Path, report: &mut Report) {
    let identity = match keys::read_identity(file) {
        Ok(identity) => identity,
        Err(error) => return report.bad("keys", &format!("{error:#}; `adit keys server` makes one")),
    };
    match keys::open_to_others(file) {
        Ok(None) => {}
        Ok(Some(complaint)) => report.bad("keys", &complaint),
        Err(error) => report.bad("keys", &format!("{error:#}")),
    }
    let now = Clock.unix();
    if let Err(error) = identity.verify(now) {
        return report
            .bad("keys", &format!("miners will refuse this server: {error}; see `adit keys rotate`"));
    }
    let days = identity.certificate().not_valid_after.saturating_sub(now.to_secs()) / SECS_PER_DAY;
    let text = format!("{} is certified for {days} more days", file.display());
    if days < EXPIRY_WARNING_DAYS {
        report.warn("keys", &format!("{text}; `adit keys rotate` renews it"));
    } else {
        report.good("keys", &text);
    }
    report.good("keys", &format!("miners pin {}", identity.authority()));
    let authority = file.with_file_name("authority.key");
    if authority.exists() {
        let text =
            format!("{} can be moved off this machine; only `adit keys` needs it", authority.display());
        report.warn("keys", &text);
    }
}

/// The data folder, or the place where it will be made.
fn check_data_dir(dir: &Path, report: &mut Report) {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    match existing {
        Some(found) if !found.is_dir() => {
            report.bad("disk", &format!("{} is not a folder; data_dir cannot be there", found.display()));
        }
        Some(found) => match tempfile::tempfile_in(found) {
            Ok(_) => report.good("disk", &format!("{} can be written", dir.display())),
            Err(error) => report.bad("disk", &format!("cannot write in {}: {error}", found.display())),
        },
        // A relative path in the current folder has no ancestor but the empty one.
        None => report.good("disk", &format!("{} will be made", dir.display())),
    }
    let shares = dir.join("shares");
    if shares.exists() {
        match adit_ledger::read(&shares) {
            Ok(_) => report.good("disk", &format!("{} is a share log", shares.display())),
            Err(error) => report.bad("disk", &error.to_string()),
        }
    }
}

/// Each node: reachable, on the right network, in sync, giving templates; and all of them on one height.
async fn check_nodes(config: &Config, report: &mut Report) {
    let mut highest: Option<(u32, String)> = None;
    for node in &config.nodes {
        let info = match probe(node).await {
            Ok(info) => info,
            Err(error) => {
                report.bad("node", &error.to_string());
                continue;
            }
        };
        describe_node(node, &info, report);
        let height = info.height.0;
        match &highest {
            Some((other, url)) if *other != height => {
                let text = format!("{} is at height {height}, {url} at {other}", node.url());
                report.warn("node", &text);
            }
            Some(_) | None => {}
        }
        if highest.as_ref().is_none_or(|(other, _)| *other < height) {
            highest = Some((height, node.url()));
        }
    }
}

fn describe_node(config: &RpcConfig, info: &NodeInfo, report: &mut Report) {
    let NodeInfo { network, height, user_agent, peers, .. } = info;
    let peers = peers.map_or_else(String::new, |peers| format!(", {peers} peers"));
    let text = format!("{user_agent} at {}, {network}, height {height}{peers}", config.url());
    report.good("node", &text);
    match &info.trouble {
        None => report.good("node", &format!("{} gives templates", config.url())),
        Some(error) => report.bad("node", &format!("{}: {error}", config.url())),
    }
}

//! `adit check`: reads a config, reports every mistake at once, tries the keys, the disk, the nodes and the upstreams.

mod translator;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use adit_net::Clock;
use adit_node::{Auth, IpcConfig, NodeConfig, NodeInfo};
use anyhow::bail;

use self::translator::check_translator;
use super::keys;
use crate::cli::ConfigArgs;
use crate::config::{self, ClientConfig, Config, DeclaratorConfig, Roles};

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

/// Checks everything that the config's roles need, and says what it found.
///
/// # Errors
///
/// If anything would keep one of them from running.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let Roles { pool, provider, declarator, client, translator } = config::load_roles(&args.config)?;
    let mut report = Report::default();
    report.good("config", &format!("{} has no mistakes", args.config.display()));
    // The file has one list of nodes for all.
    let nodes = [
        pool.as_ref().map(|pool| pool.nodes.as_slice()),
        provider.as_ref().map(|provider| provider.nodes.as_slice()),
        declarator.as_ref().map(|declarator| declarator.nodes.as_slice()),
        client.as_ref().map(|client| client.nodes.as_slice()),
    ];
    let nodes = nodes.into_iter().flatten().next().unwrap_or_default();
    check_privacy(&args.config, nodes, &report);
    if let Some(pool) = &pool {
        check_keys(&pool.pool.server_key, &mut report);
        check_data_dir(&pool.data_dir, &mut report);
        check_listen(pool.pool.listen, &mut report);
        if let Some(api) = pool.pool.api {
            check_listen(api, &mut report);
        }
    }
    if let Some(provider) = &provider {
        if pool.as_ref().is_none_or(|pool| pool.pool.server_key != provider.server_key) {
            check_keys(&provider.server_key, &mut report);
        }
        check_data_dir(&provider.data_dir, &mut report);
        check_listen(provider.listen, &mut report);
    }
    if let Some(translator) = &translator {
        check_translator(translator, &mut report).await;
    }
    check_declaration(pool.as_ref(), declarator.as_ref(), client.as_ref(), &mut report);
    // A translator needs none.
    if !nodes.is_empty() || translator.is_none() {
        check_nodes(nodes, &mut report).await;
    }
    match report.failures {
        0 => {
            println!();
            let commands = [
                (pool.is_some(), "pool"),
                (provider.is_some(), "template-provider"),
                (declarator.is_some(), "jds"),
                (client.is_some(), "jdc"),
                (translator.is_some(), "translator"),
            ];
            for (_, command) in commands.into_iter().filter(|(is_there, _)| *is_there) {
                println!("ready: adit {command} --config {}", args.config.display());
            }
            Ok(())
        }
        1 => bail!("one check failed"),
        failures => bail!("{failures} checks failed"),
    }
}

/// What the job declarator server and client need.
fn check_declaration(
    pool: Option<&Config>,
    declarator: Option<&DeclaratorConfig>,
    client: Option<&ClientConfig>,
    report: &mut Report,
) {
    let within = pool.and_then(|pool| pool.declarator.as_ref());
    if let Some(settings) = within.or_else(|| declarator.map(|config| &config.declarator)) {
        check_token_key(&settings.token_key, report);
        check_listen(settings.listen, report);
    } else if let Some(file) = pool.and_then(|pool| pool.pool.token_key.as_ref()) {
        check_token_key(file, report);
    }
    if let Some(declarator) = declarator {
        check_keys(&declarator.declarator.server_key, report);
        check_data_dir(&declarator.data_dir, report);
    }
    if let Some(client) = client {
        check_keys(&client.server_key, report);
        check_data_dir(&client.data_dir, report);
        check_listen(client.listen, report);
    }
}

/// The secret that tokens are sealed with.
fn check_token_key(file: &Path, report: &mut Report) {
    match keys::read_token_key(file) {
        Ok(_) => report.good("keys", &format!("{} is a token key", file.display())),
        Err(error) => report.bad("keys", &format!("{error:#}")),
    }
}

/// The config, where it holds a password.
fn check_privacy(file: &Path, nodes: &[NodeConfig], report: &Report) {
    let has_password = nodes.iter().any(|node| match node {
        NodeConfig::Rpc(node) => matches!(node.auth(), Auth::UserPass { .. }),
        NodeConfig::Ipc(node) => {
            node.rpc.as_ref().is_some_and(|rpc| matches!(rpc.auth(), Auth::UserPass { .. }))
        }
        NodeConfig::Tdp(_) => false,
    });
    if let (true, Ok(Some(complaint))) = (has_password, keys::open_to_others(file)) {
        report.warn("config", &format!("{complaint}, as it may hold the node's password"));
    }
}

/// The address for miners or clients, unless somebody listens there already.
fn check_listen(address: SocketAddr, report: &mut Report) {
    match TcpListener::bind(address) {
        Ok(_) => report.good("listen", &format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            report.warn("listen", &format!("{address} is taken, which is right only while the server runs"));
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
async fn check_nodes(nodes: &[NodeConfig], report: &mut Report) {
    let mut highest: Option<(u32, String)> = None;
    for node in nodes {
        let info = match node.probe().await {
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
                let text = format!("{} is at height {height}, {url} at {other}", node.name());
                report.warn("node", &text);
            }
            Some(_) | None => {}
        }
        if highest.as_ref().is_none_or(|(other, _)| *other < height) {
            highest = Some((height, node.name()));
        }
    }
    if !nodes.iter().any(NodeConfig::takes_any_block) {
        let text = "a template provider takes blocks of its own templates only, and none from before a restart; a node with \
                    RPC beside it takes all";
        report.warn("node", text);
    }
}

fn describe_node(config: &NodeConfig, info: &NodeInfo, report: &mut Report) {
    let NodeInfo { network, height, user_agent, peers, .. } = info;
    let peers = peers.map_or_else(String::new, |peers| format!(", {peers} peers"));
    let text = format!("{user_agent} at {}, {network}, height {height}{peers}", config.name());
    report.good("node", &text);
    // A node that does not tell its peers takes no JSON-RPC over its socket.
    if let (NodeConfig::Ipc(IpcConfig { rpc: None, .. }), None) = (config, info.peers) {
        let text = "over IPC this version takes blocks of its own templates only, and does not tell where a block is; configure its \
                    JSON-RPC beside the socket (url and cookie_file)";
        report.warn("node", text);
    }
    match &info.trouble {
        None => report.good("node", &format!("{} gives templates", config.name())),
        Some(error) => report.bad("node", &format!("{}: {error}", config.name())),
    }
}

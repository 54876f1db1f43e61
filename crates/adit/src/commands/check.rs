//! `adit check`: reads a config, reports every mistake at once, tries the keys, the disk, the nodes and the upstreams.

mod places;
mod translator;

use std::path::{Path, PathBuf};

use adit_net::Clock;
use adit_node::{Auth, IpcConfig, NodeConfig, NodeInfo};
use anyhow::bail;

use self::places::{check_folders, check_listeners};
use self::translator::check_translator;
use super::keys;
use crate::cli::ConfigArgs;
use crate::config::{self, Roles};

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
    let roles = config::load_roles(&args.config)?;
    let mut report = Report::default();
    report.good("config", &format!("{} has no mistakes", args.config.display()));
    let nodes = nodes(&roles);
    check_privacy(&args.config, nodes, &report);
    for file in server_keys(&roles) {
        check_keys(file, &mut report);
    }
    if let Some(file) = token_key(&roles) {
        check_token_key(file, &mut report);
    }
    check_folders(&roles, &mut report);
    check_listeners(&roles, &mut report);
    if let Some(translator) = &roles.translator {
        check_translator(translator, &mut report).await;
    }
    // A translator needs none.
    if !nodes.is_empty() || roles.translator.is_none() {
        check_nodes(nodes, &mut report).await;
    }
    match report.failures {
        0 => {
            println!();
            let Roles { pool, provider, declarator, client, translator } = &roles;
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

/// The nodes of all roles, of which the file has one list.
fn nodes(roles: &Roles) -> &[NodeConfig] {
    let Roles { pool, provider, declarator, client, translator: _ } = roles;
    let lists = [
        pool.as_ref().map(|pool| pool.nodes.as_slice()),
        provider.as_ref().map(|provider| provider.nodes.as_slice()),
        declarator.as_ref().map(|declarator| declarator.nodes.as_slice()),
        client.as_ref().map(|client| client.nodes.as_slice()),
    ];
    lists.into_iter().flatten().next().unwrap_or_default()
}

/// The files of all keys that a server of these roles is known by, each once.
fn server_keys(roles: &Roles) -> Vec<&Path> {
    let Roles { pool, provider, declarator, client, translator: _ } = roles;
    let files = [
        pool.as_ref().map(|pool| &pool.pool.server_key),
        pool.as_ref().and_then(|pool| pool.declarator.as_ref()).map(|within| &within.server_key),
        provider.as_ref().map(|provider| &provider.server_key),
        declarator.as_ref().map(|alone| &alone.declarator.server_key),
        client.as_ref().map(|client| &client.server_key),
    ];
    let mut distinct: Vec<&Path> = Vec::new();
    for file in files.into_iter().flatten() {
        if !distinct.contains(&file.as_path()) {
            distinct.push(file);
        }
    }
    distinct
}

/// The file of the secret that a pool and its job declarator server share, if there is one of them that knows the other.
fn token_key(roles: &Roles) -> Option<&Path> {
    let pool = roles.pool.as_ref();
    let within = pool.and_then(|pool| pool.declarator.as_ref());
    let alone = roles.declarator.as_ref().map(|config| &config.declarator);
    let declarator = within.or(alone).map(|declarator| &declarator.token_key);
    declarator.or_else(|| pool.and_then(|pool| pool.pool.token_key.as_ref())).map(PathBuf::as_path)
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

//! The config once it is known to be right.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use adit_net::Limits;
use adit_node::tdp::FIXED_COINBASE_WEIGHT;
use adit_node::{Auth, Password, RpcConfig};
use adit_pool::{EmptyJobs, PoolConfig, PoolConfigError, Successor};
use adit_units::ShareRate;
use bitcoin::address::NetworkUnchecked;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{Address, Network, ScriptBuf};

use super::mistake::Mistake;
use super::written::{Written, WrittenNode, WrittenPool, WrittenProvider};
use crate::logging::LogLevels;

/// How many blocks pass between two halvings on regtest.
const REGTEST_HALVING_INTERVAL: u32 = 150;

/// Everything that `adit pool` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The chain to mine on.
    pub(crate) network: Network,
    /// The folder of the share log and of found blocks.
    pub(crate) data_dir: PathBuf,
    /// How much is logged.
    pub(crate) log: Option<LogLevels>,
    /// The Bitcoin nodes, the most preferred first; at least one.
    pub(crate) nodes: Vec<RpcConfig>,
    /// The pool role.
    pub(crate) pool: PoolSettings,
}

/// The pool role's part.
#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    /// Where miners connect.
    pub(crate) listen: SocketAddr,
    /// The address that block rewards go to, known to be of the right network.
    pub(crate) payout_address: Address,
    /// What the role itself is told.
    pub(crate) role: PoolConfig,
    /// How many peers are served.
    pub(crate) limits: Limits,
    /// The file of the server's key and certificate.
    pub(crate) server_key: PathBuf,
}

/// Everything that `adit template-provider` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSettings {
    /// The chain to mine on.
    pub(crate) network: Network,
    /// How much is logged.
    pub(crate) log: Option<LogLevels>,
    /// The Bitcoin nodes, the most preferred first, told how much room clients need; at least one.
    pub(crate) nodes: Vec<RpcConfig>,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// The file of the server's key and certificate.
    pub(crate) server_key: PathBuf,
}

/// Most bytes that templates can be told to leave for coinbase outputs.
const MAX_COINBASE_BYTES: u32 = 100_000;

/// Checks everything; what is wrong is added to `mistakes`, and `None` means that something needed is missing.
pub(super) fn check(written: Written, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<Config> {
    let network = network(written.network, mistakes);
    let log = log(written.log, mistakes);
    let nodes = nodes(written.node, written.nodes, network, folder, mistakes);
    let pool = pool(written.pool, network, folder, mistakes);
    // A mistake there is one, whether this command needs it or not.
    provider(written.template_provider, folder, mistakes);
    let data_dir = folder.join(written.data_dir.unwrap_or_else(|| "adit-data".to_owned()));
    Some(Config { network: network?, data_dir, log, nodes: nodes?, pool: pool? })
}

/// Checks what a template provider needs, which may stand alone in a config without a pool.
pub(super) fn check_provider(
    written: Written,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<ProviderSettings> {
    let network = network(written.network, mistakes);
    let log = log(written.log, mistakes);
    let nodes = nodes(written.node, written.nodes, network, folder, mistakes);
    let (listen, server_key, coinbase_bytes) = provider(written.template_provider, folder, mistakes)?;
    let mut nodes = nodes?;
    for node in &mut nodes {
        node.coinbase.weight = FIXED_COINBASE_WEIGHT + 4 * u64::from(coinbase_bytes);
    }
    Some(ProviderSettings { network: network?, log, nodes, listen, server_key })
}

/// The table `[template_provider]`: where to listen, the key's file, and room for outputs in bytes.
fn provider(
    written: WrittenProvider,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<(SocketAddr, PathBuf, u32)> {
    const BYTES: &str = "template_provider.coinbase_bytes";
    let listen = listen("template_provider.listen", written.listen, "127.0.0.1:8442", mistakes);
    let server_key = folder.join(written.server_key.as_deref().unwrap_or("keys/server.key"));
    let bytes = written.coinbase_bytes.unwrap_or(1000);
    if bytes > MAX_COINBASE_BYTES {
        mistakes.push(Mistake::at(BYTES, format!("{bytes} is out of range; use 0 to {MAX_COINBASE_BYTES}")));
    }
    Some((listen?, server_key, bytes))
}

/// The chain by its name.
fn network(name: Option<String>, mistakes: &mut Vec<Mistake>) -> Option<Network> {
    let name = required("network", name, "mainnet, testnet4, signet or regtest", mistakes)?;
    let network = match name.as_str() {
        "mainnet" | "main" | "bitcoin" => Network::Bitcoin,
        "testnet4" => Network::Testnet4,
        "signet" => Network::Signet,
        "regtest" => Network::Regtest,
        _ => {
            let text = format!("no network is called {name:?}; use mainnet, testnet4, signet or regtest");
            mistakes.push(Mistake::at("network", text));
            return None;
        }
    };
    Some(network)
}

/// How much is logged.
fn log(text: Option<String>, mistakes: &mut Vec<Mistake>) -> Option<LogLevels> {
    LogLevels::from_str(&text?).map_err(|error| mistakes.push(Mistake::at("log", error.to_string()))).ok()
}

/// The table `[node]`, or the list `[[nodes]]`.
fn nodes(
    one: WrittenNode,
    several: Vec<WrittenNode>,
    network: Option<Network>,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<RpcConfig>> {
    if several.is_empty() {
        return node("node", one, network, folder, mistakes).map(|node| vec![node]);
    }
    if one != WrittenNode::default() {
        mistakes.push(Mistake::at("node", "give either [node] or a list of [[nodes]], not both"));
    }
    let mut nodes: Vec<Option<RpcConfig>> = Vec::new();
    for (index, written) in several.into_iter().enumerate() {
        let node = node(&format!("nodes.{index}"), written, network, folder, mistakes);
        let same = |known: &Option<RpcConfig>| match (known, &node) {
            (Some(known), Some(node)) => known.url() == node.url(),
            _ => false,
        };
        if let Some(first) = nodes.iter().position(same) {
            let text = format!("the same node as nodes.{first}; give each node once");
            mistakes.push(Mistake::at(format!("nodes.{index}.url"), text));
        }
        nodes.push(node);
    }
    nodes.into_iter().collect()
}

/// One node, whose keys are at `path`.
fn node(
    path: &str,
    written: WrittenNode,
    network: Option<Network>,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<RpcConfig> {
    let at = |key: &str| format!("{path}.{key}");
    let url =
        required(&at("url"), written.url, "the node's JSON-RPC, such as http://127.0.0.1:8332", mistakes);
    let auth = match (written.cookie_file, written.user, written.password) {
        (Some(file), None, None) => Ok(Auth::Cookie(folder.join(file))),
        (None, Some(user), Some(password)) => Ok(Auth::UserPass { user, password: Password::from(password) }),
        (None, None, None) => Err((
            "cookie_file",
            format!("missing; say how to log in: {path}.cookie_file, or {path}.user with {path}.password"),
        )),
        (Some(_), _, _) => {
            Err(("cookie_file", "give either a cookie file or a user with a password, not both".to_owned()))
        }
        (None, Some(_), None) => Err(("password", format!("missing; {path}.user needs it"))),
        (None, None, Some(_)) => Err(("user", format!("missing; {path}.password needs it"))),
    };
    // The address is looked at even where the login is missing, so that both are told at once.
    let shown = auth.clone().unwrap_or_else(|_| Auth::Cookie(PathBuf::new()));
    let config = url.and_then(|url| {
        RpcConfig::new(&url, shown)
            .map_err(|error| mistakes.push(Mistake::at(at("url"), error.to_string())))
            .ok()
    });
    if let Err((key, text)) = auth {
        mistakes.push(Mistake::at(at(key), text));
    }
    let mut config = config?;
    config.network = network;
    Some(config)
}

/// The table `[pool]`.
fn pool(
    written: WrittenPool,
    network: Option<Network>,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<PoolSettings> {
    let listen = listen("pool.listen", written.listen.clone(), "0.0.0.0:34254", mistakes);
    let payout_address = payout_address(written.payout_address.clone(), network, mistakes);
    let server_key = folder.join(written.server_key.as_deref().unwrap_or("keys/server.key"));
    // The other values are looked at even where the address is missing; any script does for that.
    let script = payout_address.as_ref().map_or_else(any_script, Address::script_pubkey);
    let mut role = role(&written, script, mistakes);
    if let (Some(role), Some(network)) = (&mut role, network) {
        role.network = network;
        if network == Network::Regtest {
            role.halving_interval = REGTEST_HALVING_INTERVAL;
        }
    }
    let limits = limits(&written, mistakes);
    Some(PoolSettings { listen: listen?, payout_address: payout_address?, role: role?, limits, server_key })
}

/// How many peers are served; one address gets a quarter unless it is said otherwise.
fn limits(written: &WrittenPool, mistakes: &mut Vec<Mistake>) -> Limits {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    if let Some(connections) = written.connections {
        if connections == 0 {
            mistakes.push(Mistake::at("pool.connections", "0 is out of range; use at least 1".to_owned()));
        }
        limits.connections = count(connections);
        limits.connections_per_address = (limits.connections / 4).max(1);
    }
    if let Some(connections) = written.connections_per_address {
        limits.connections_per_address = count(connections);
        if !(1..=limits.connections).contains(&limits.connections_per_address) {
            let text = format!("{connections} is out of range; use 1 to {}", limits.connections);
            mistakes.push(Mistake::at("pool.connections_per_address", text));
        }
    }
    limits
}

/// A script that anyone could spend, which stands in for one that is missing and is never used.
fn any_script() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(OP_PUSHNUM_1).into_script()
}

/// What the role itself is told; it knows best what it can run with.
fn role(written: &WrittenPool, payout_script: ScriptBuf, mistakes: &mut Vec<Mistake>) -> Option<PoolConfig> {
    let mut role = PoolConfig::new(written.instance.unwrap_or(0), payout_script);
    if let Some(signature) = &written.signature {
        role.signature.clone_from(signature);
    }
    if let Some(shares) = written.shares_per_minute {
        if !(1..=600).contains(&shares) {
            let text = format!("{shares} is out of range; use 1 to 600");
            mistakes.push(Mistake::at("pool.shares_per_minute", text));
        }
        role.vardiff.rate = ShareRate::from_shares_per_minute(shares);
    }
    role.empty_jobs = match written.empty_jobs.as_deref() {
        None | Some("until-template") => EmptyJobs::UntilTemplate,
        Some("never") => EmptyJobs::Never,
        Some(other) => {
            let text = format!("{other:?} is not known; use until-template or never");
            mistakes.push(Mistake::at("pool.empty_jobs", text));
            EmptyJobs::Never
        }
    };
    role.require_worker_names = written.require_worker_names.unwrap_or(false);
    role.solo = written.solo.unwrap_or(true);
    role.successor = written.successor.as_deref().and_then(|text| successor(text, mistakes));
    match role.check() {
        Ok(()) => Some(role),
        Err(error) => {
            let path = match error {
                PoolConfigError::SignatureTooLong { .. } | PoolConfigError::SignatureNotPrintable => {
                    "pool.signature"
                }
                PoolConfigError::PayoutScript => "pool.payout_address",
                PoolConfigError::Successor => "pool.successor",
                _ => "pool",
            };
            mistakes.push(Mistake::at(path, error.to_string()));
            None
        }
    }
}

/// The server that miners are sent to when this one stops.
fn successor(text: &str, mistakes: &mut Vec<Mistake>) -> Option<Successor> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts else {
        let text = format!("{text:?} is not HOST:PORT, such as pool2.example.org:34254");
        mistakes.push(Mistake::at("pool.successor", text));
        return None;
    };
    Some(Successor { host: host.trim_matches(['[', ']']).to_owned(), port })
}

/// The address to listen on.
fn listen(
    path: &str,
    text: Option<String>,
    default: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<SocketAddr> {
    let text = text.unwrap_or_else(|| default.to_owned());
    text.parse().map_or_else(
        |_| {
            let text = format!("{text:?} is not ADDRESS:PORT, such as {default} or [::]:34254");
            mistakes.push(Mistake::at(path, text));
            None
        },
        Some,
    )
}

/// The payout address, of the right network.
fn payout_address(
    text: Option<String>,
    network: Option<Network>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Address> {
    const PATH: &str = "pool.payout_address";
    let text = required(PATH, text, "the address that block rewards go to", mistakes)?;
    let address = match Address::<NetworkUnchecked>::from_str(&text) {
        Ok(address) => address,
        Err(error) => {
            mistakes.push(Mistake::at(PATH, format!("{text:?} is not a Bitcoin address: {error}")));
            return None;
        }
    };
    let network = network?;
    address.require_network(network).map_or_else(
        |_| {
            mistakes.push(Mistake::at(PATH, format!("{text} is not an address of {network}")));
            None
        },
        Some,
    )
}

/// The value of a key that must be there.
fn required<T>(path: &str, value: Option<T>, what: &str, mistakes: &mut Vec<Mistake>) -> Option<T> {
    if value.is_none() {
        mistakes.push(Mistake::at(path, format!("missing; give {what}")));
    }
    value
}

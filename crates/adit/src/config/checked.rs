//! The config once it is known to be right.

use std::mem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use adit_net::Limits;
use adit_node::NodeConfig;
use adit_node::tdp::FIXED_COINBASE_WEIGHT;
use adit_pool::{EmptyJobs, PoolConfig, PoolConfigError, Successor};
use adit_units::ShareRate;
use bitcoin::address::NetworkUnchecked;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{Address, Network, ScriptBuf};

use super::declaration::{self, ClientConfig, DeclaratorConfig, DeclaratorSettings};
use super::mistake::Mistake;
use super::node::{Surroundings, nodes};
use super::translator::{self, TranslatorSettings};
use super::written::{Written, WrittenPool, WrittenProvider, WrittenUpstream};
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
    pub(crate) nodes: Vec<NodeConfig>,
    /// The pool role.
    pub(crate) pool: PoolSettings,
    /// The job declarator server in the pool's process, if there is to be one.
    pub(crate) declarator: Option<DeclaratorSettings>,
    /// The least part that declared jobs must pay to the pool, in percent, wherever they are declared.
    pub(crate) least_pool_percent: u8,
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
    /// The file of the secret that a job declarator server elsewhere has, too.
    pub(crate) token_key: Option<PathBuf>,
    /// Where the pool's numbers are served over HTTP.
    pub(crate) api: Option<SocketAddr>,
    /// Names on the internet under which they may be asked for.
    pub(crate) api_hosts: Vec<String>,
}

/// Everything that `adit template-provider` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSettings {
    /// The chain to mine on.
    pub(crate) network: Network,
    /// Where found blocks are kept. Its own part of the data folder, so that a pool can be beside it.
    pub(crate) data_dir: PathBuf,
    /// How much is logged.
    pub(crate) log: Option<LogLevels>,
    /// The Bitcoin nodes, the most preferred first, told how much room clients need; at least one.
    pub(crate) nodes: Vec<NodeConfig>,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// Whether clients are told of a new block before the node has a template on it.
    pub(crate) empty_templates: bool,
    /// The file of the server's key and certificate.
    pub(crate) server_key: PathBuf,
}

/// Most bytes that templates can be told to leave for coinbase outputs.
const MAX_COINBASE_BYTES: u32 = 100_000;

/// Everything that a file says, whichever roles it is written for.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    /// What `adit pool` needs; there unless the file is for a template provider only.
    pub(crate) pool: Option<Config>,
    /// What `adit template-provider` needs, where the file has a table for it.
    pub(crate) provider: Option<ProviderSettings>,
    /// What `adit jds` needs, where the file has a table for it and none for a pool.
    pub(crate) declarator: Option<DeclaratorConfig>,
    /// What `adit jdc` needs, where the file has a table for it.
    pub(crate) client: Option<ClientConfig>,
    /// What `adit translator` needs, where the file has a table for it.
    pub(crate) translator: Option<TranslatorSettings>,
}

/// What every role needs, as far as it is right.
struct Common {
    network: Option<Network>,
    log: Option<LogLevels>,
    nodes: Option<Vec<NodeConfig>>,
}

impl Common {
    /// Takes its keys out of what is written.
    fn take(written: &mut Written, folder: &Path, mistakes: &mut Vec<Mistake>) -> Self {
        let network = network(written.network.take(), mistakes);
        let log = log(written.log.take(), mistakes);
        let (one, several) = (mem::take(&mut written.node), mem::take(&mut written.nodes));
        let nodes = nodes(one, several, Surroundings { network, folder }, mistakes);
        Self { network, log, nodes }
    }

    fn with_pool(self, written: Written, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<Config> {
        let pool = pool(written.pool.unwrap_or_default(), self.network, folder, mistakes);
        let data_dir = data_dir(written.data_dir, folder);
        let address = pool.as_ref().map(|pool| pool.payout_address.clone());
        // A table without an address to listen at is for `adit jds`, or just there because `adit init` writes all tables.
        let is_wanted = written.jds.as_ref().is_some_and(|jds| jds.listen.is_some());
        let around = (self.network, folder);
        let least_pool_percent = declaration::least_pool_percent(written.jds.as_ref(), mistakes);
        let declarator = written.jds.filter(|_| is_wanted && address.is_some());
        let declarator = declarator
            .and_then(|jds| declaration::declarator((jds, least_pool_percent), address, around, mistakes));
        let Self { network, log, nodes } = self;
        let (network, nodes, pool) = (network?, nodes?, pool?);
        Some(Config { network, data_dir, log, nodes, pool, declarator, least_pool_percent })
    }

    fn with_declarator(
        self,
        written: Written,
        folder: &Path,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<DeclaratorConfig> {
        // Where the pool has an address, jobs pay that; another mistake in its table is none of this server's.
        let address = written.pool.and_then(|pool| pool.payout_address);
        let mut jds = written.jds.unwrap_or_default();
        jds.payout_address = jds.payout_address.or(address);
        let percent = declaration::least_pool_percent(Some(&jds), mistakes);
        let declarator = declaration::declarator((jds, percent), None, (self.network, folder), mistakes);
        let data_dir = data_dir(written.data_dir, folder);
        let Self { network, log, nodes } = self;
        Some(DeclaratorConfig { network: network?, data_dir, log, nodes: nodes?, declarator: declarator? })
    }

    fn with_client(
        self,
        written: Written,
        folder: &Path,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<ClientConfig> {
        let client = declaration::client(written.jdc.unwrap_or_default(), (self.network, folder), mistakes);
        let upstreams = declaration::upstreams(written.upstream, written.upstreams, mistakes);
        let data_dir = data_dir(written.data_dir, folder);
        let Self { network, log, nodes } = self;
        let declaration::Client { listen, solo, server_key } = client?;
        let (network, nodes, upstreams) = (network?, nodes?, upstreams?);
        Some(ClientConfig { network, data_dir, log, nodes, listen, solo, upstreams, server_key })
    }

    fn with_provider(self, provider: Option<Provider>, data_dir: &Path) -> Option<ProviderSettings> {
        let Provider { listen, server_key, coinbase_bytes, empty_templates } = provider?;
        let Self { network, log, nodes } = self;
        let mut nodes = nodes?;
        for node in &mut nodes {
            node.coinbase().weight = FIXED_COINBASE_WEIGHT + 4 * u64::from(coinbase_bytes);
        }
        let data_dir = data_dir.join("template-provider");
        Some(ProviderSettings {
            network: network?,
            data_dir,
            log,
            nodes,
            listen,
            empty_templates,
            server_key,
        })
    }
}

/// Checks what a pool needs; what is wrong is added to `mistakes`, and `None` means that something needed is missing.
pub(super) fn check(mut written: Written, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<Config> {
    let common = Common::take(&mut written, folder, mistakes);
    // A mistake there is one, whether this command needs it or not.
    provider(written.template_provider.take(), folder, mistakes);
    common.with_pool(written, folder, mistakes)
}

/// Checks what a template provider needs, which may stand alone in a config without a pool.
pub(super) fn check_provider(
    mut written: Written,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<ProviderSettings> {
    let common = Common::take(&mut written, folder, mistakes);
    let data_dir = data_dir(written.data_dir, folder);
    common.with_provider(provider(written.template_provider, folder, mistakes), &data_dir)
}

/// Checks what a job declarator server needs, which may stand alone in a config without a pool.
pub(super) fn check_declarator(
    mut written: Written,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<DeclaratorConfig> {
    Common::take(&mut written, folder, mistakes).with_declarator(written, folder, mistakes)
}

/// Checks what a job declarator client needs, which may stand alone in a config without a pool.
pub(super) fn check_client(
    mut written: Written,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<ClientConfig> {
    Common::take(&mut written, folder, mistakes).with_client(written, folder, mistakes)
}

/// Checks what the roles need that a file is written for: a pool, unless there is a table for another role and none for a pool.
pub(super) fn check_roles(mut written: Written, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<Roles> {
    let has_upstream = written.upstream != WrittenUpstream::default() || !written.upstreams.is_empty();
    // Beside a pool a table without an upstream is there because `adit init` writes all tables.
    let translator = match written.translator.is_some() && (has_upstream || written.pool.is_none()) {
        true => Some(translator::check(written.translator(), folder, mistakes)?),
        false => None,
    };
    let is_for_provider = written.template_provider.is_some();
    let is_for_client = written.jdc.as_ref().is_some_and(|jdc| jdc.solo_address.is_some())
        || (has_upstream && translator.is_none());
    let is_for_declarator = written.jds.is_some() && written.pool.is_none();
    let is_for_other = is_for_provider || is_for_client || is_for_declarator || translator.is_some();
    let is_for_pool = written.pool.is_some() || !is_for_other;
    if !is_for_pool && !is_for_provider && !is_for_client && !is_for_declarator {
        // A translator needs no node, and its file names none.
        return Some(Roles { pool: None, provider: None, declarator: None, client: None, translator });
    }
    let common = Common::take(&mut written, folder, mistakes);
    let again = || Common { network: common.network, log: common.log.clone(), nodes: common.nodes.clone() };
    let provider = provider(written.template_provider.take(), folder, mistakes);
    let data = data_dir(written.data_dir.clone(), folder);
    let provider = if is_for_provider { Some(again().with_provider(provider, &data)?) } else { None };
    let client =
        if is_for_client { Some(again().with_client(written.client(), folder, mistakes)?) } else { None };
    if is_for_declarator {
        let declarator = Some(again().with_declarator(written, folder, mistakes)?);
        return Some(Roles { pool: None, provider, declarator, client, translator });
    }
    let pool = if is_for_pool { Some(common.with_pool(written, folder, mistakes)?) } else { None };
    Some(Roles { pool, provider, declarator: None, client, translator })
}

/// Where a role keeps what it must not lose.
fn data_dir(text: Option<String>, folder: &Path) -> PathBuf {
    folder.join(text.unwrap_or_else(|| "adit-data".to_owned()))
}

/// The table `[template_provider]`.
struct Provider {
    listen: SocketAddr,
    server_key: PathBuf,
    coinbase_bytes: u32,
    empty_templates: bool,
}

/// Checks the table `[template_provider]`.
fn provider(
    written: Option<WrittenProvider>,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<Provider> {
    const BYTES: &str = "template_provider.coinbase_bytes";
    let written = written.unwrap_or_default();
    let listen = listen("template_provider.listen", written.listen, "127.0.0.1:8442", mistakes);
    let server_key = folder.join(written.server_key.as_deref().unwrap_or("keys/server.key"));
    let coinbase_bytes = written.coinbase_bytes.unwrap_or(1000);
    if coinbase_bytes > MAX_COINBASE_BYTES {
        let text = format!("{coinbase_bytes} is out of range; use 0 to {MAX_COINBASE_BYTES}");
        mistakes.push(Mistake::at(BYTES, text));
    }
    let empty = written.empty_templates.as_deref();
    let empty_templates = empty_jobs("template_provider.empty_templates", empty, mistakes);
    let empty_templates = empty_templates == EmptyJobs::UntilTemplate;
    Some(Provider { listen: listen?, server_key, coinbase_bytes, empty_templates })
}

/// Whether to bridge the time until a template with an empty block.
fn empty_jobs(path: &str, text: Option<&str>, mistakes: &mut Vec<Mistake>) -> EmptyJobs {
    match text {
        None | Some("until-template") => EmptyJobs::UntilTemplate,
        Some("never") => EmptyJobs::Never,
        Some(other) => {
            let text = format!("{other:?} is not known; use until-template or never");
            mistakes.push(Mistake::at(path, text));
            EmptyJobs::Never
        }
    }
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
pub(super) fn log(text: Option<String>, mistakes: &mut Vec<Mistake>) -> Option<LogLevels> {
    LogLevels::from_str(&text?).map_err(|error| mistakes.push(Mistake::at("log", error.to_string()))).ok()
}

/// The table `[pool]`.
fn pool(
    written: WrittenPool,
    network: Option<Network>,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<PoolSettings> {
    let listen = listen("pool.listen", written.listen.clone(), "0.0.0.0:34254", mistakes);
    let what = ("pool.payout_address", "the address that block rewards go to");
    let payout_address = address(what, written.payout_address.clone(), network, mistakes);
    let token_key = written.token_key.as_deref().map(|file| folder.join(file));
    let server_key = folder.join(written.server_key.as_deref().unwrap_or("keys/server.key"));
    // The other values are looked at even where the address is missing; any script does for that.
    let script = payout_address.as_ref().map_or_else(any_script, Address::script_pubkey);
    let mut role = role(&written, script, mistakes);
    if let (Some(role), Some(network)) = (&mut role, network) {
        set_chain(role, network);
    }
    let limits = limits(&written, mistakes);
    let api = pool_api(written.api, listen, mistakes);
    let api_hosts = hosts("pool.api_hosts", written.api_hosts.unwrap_or_default(), mistakes);
    let (listen, payout_address, role) = (listen?, payout_address?, role?);
    Some(PoolSettings { listen, payout_address, role, limits, server_key, token_key, api, api_hosts })
}

/// Where the pool's numbers are served, if anywhere.
fn pool_api(
    text: Option<String>,
    miners: Option<SocketAddr>,
    mistakes: &mut Vec<Mistake>,
) -> Option<SocketAddr> {
    const API: &str = "pool.api";
    if text.as_deref() == Some("off") {
        return None;
    }
    let api = listen(API, text, "127.0.0.1:4080", mistakes)?;
    if miners.is_some_and(|miners| miners.port() == api.port() && api.port() != 0) {
        let text = format!("port {} is that of pool.listen; choose another one, or off", api.port());
        mistakes.push(Mistake::at(API, text));
    }
    Some(api)
}

/// Makes rules those of a chain.
pub(super) fn set_chain(role: &mut PoolConfig, network: Network) {
    role.network = network;
    if network == Network::Regtest {
        role.halving_interval = REGTEST_HALVING_INTERVAL;
    }
}

/// How many shares a minute a channel is meant to submit, where it is written.
pub(super) fn shares_per_minute(
    path: &str,
    written: Option<u32>,
    mistakes: &mut Vec<Mistake>,
) -> Option<ShareRate> {
    let shares = written?;
    if !(1..=600).contains(&shares) {
        mistakes.push(Mistake::at(path, format!("{shares} is out of range; use 1 to 600")));
    }
    Some(ShareRate::from_shares_per_minute(shares))
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
    if let Some(rate) = shares_per_minute("pool.shares_per_minute", written.shares_per_minute, mistakes) {
        role.vardiff.rate = rate;
    }
    role.empty_jobs = empty_jobs("pool.empty_jobs", written.empty_jobs.as_deref(), mistakes);
    if let Some(channels) = written.channels_per_connection {
        role.channels_per_connection = channels;
    }
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
                PoolConfigError::NoChannels => "pool.channels_per_connection",
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

/// Names of hosts, as browsers send them but for the port.
pub(super) fn hosts(path: &str, names: Vec<String>, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let is_name =
        |name: &&String| !name.is_empty() && !name.contains(|c: char| "/:@".contains(c) || c.is_whitespace());
    for name in names.iter().filter(|name| !is_name(name)) {
        let text = format!(
            "{name:?} is not the name of a host; write it without http:// and port, as in farm.example.org"
        );
        mistakes.push(Mistake::at(path, text));
    }
    names
}

/// The address to listen on.
pub(super) fn listen(
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

/// An address that has to be there, at a key, of the right network.
pub(super) fn address(
    (path, what): (&str, &str),
    text: Option<String>,
    network: Option<Network>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Address> {
    let text = required(path, text, what, mistakes)?;
    let address = match Address::<NetworkUnchecked>::from_str(&text) {
        Ok(address) => address,
        Err(error) => {
            mistakes.push(Mistake::at(path, format!("{text:?} is not a Bitcoin address: {error}")));
            return None;
        }
    };
    let network = network?;
    address.require_network(network).map_or_else(
        |_| {
            mistakes.push(Mistake::at(path, format!("{text} is not an address of {network}")));
            None
        },
        Some,
    )
}

/// The value of a key that must be there.
pub(super) fn required<T>(
    path: &str,
    value: Option<T>,
    what: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<T> {
    if value.is_none() {
        mistakes.push(Mistake::at(path, format!("missing; give {what}")));
    }
    value
}

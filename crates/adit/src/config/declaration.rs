//! Job declaration in the config: the server's part, the client's part, and the upstreams of a client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use adit_job_declarator::client::{Mode, UpstreamTarget};
use adit_net::Url;
use adit_node::NodeConfig;
use adit_pool::{PoolConfig, PoolConfigError};
use adit_units::Sats;
use bitcoin::{Address, Network};

use super::checked::{address, listen, required, set_chain, shares_per_minute};
use super::mistake::Mistake;
use super::node::is_this_machine;
use super::written::{WrittenClient, WrittenDeclarator, WrittenUpstream};
use crate::logging::LogLevels;

/// A fee gain that a job is worth unless the operator has another view, in satoshis.
const LEAST_FEE_GAIN: u64 = 1_000;

/// All of a block's value, in percent.
const ALL: u8 = 100;

/// What a job declarator server needs to know.
#[derive(Clone, Debug)]
pub(crate) struct DeclaratorSettings {
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// Who declared jobs must pay.
    pub(crate) payout_address: Address,
    /// The file of the secret that the pool has, too.
    pub(crate) token_key: PathBuf,
    /// The file of the server's key and certificate.
    pub(crate) server_key: PathBuf,
    /// Whether clients may keep their transactions to themselves.
    pub(crate) coinbase_only: bool,
    /// The least part that jobs must pay there, in percent.
    pub(crate) least_pool_percent: u8,
}

/// Everything that `adit jds` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct DeclaratorConfig {
    /// The chain.
    pub(crate) network: Network,
    /// The folder of found blocks.
    pub(crate) data_dir: PathBuf,
    /// How much is logged.
    pub(crate) log: Option<LogLevels>,
    /// The Bitcoin nodes, the most preferred first; at least one.
    pub(crate) nodes: Vec<NodeConfig>,
    /// The server.
    pub(crate) declarator: DeclaratorSettings,
}

/// Everything that `adit jdc` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    /// The chain.
    pub(crate) network: Network,
    /// The folder of found blocks.
    pub(crate) data_dir: PathBuf,
    /// How much is logged.
    pub(crate) log: Option<LogLevels>,
    /// The miner's own nodes, the most preferred first; at least one.
    pub(crate) nodes: Vec<NodeConfig>,
    /// Where miners connect.
    pub(crate) listen: SocketAddr,
    /// What miners go by while they work for themselves.
    pub(crate) solo: PoolConfig,
    /// The upstreams, the best first; at least one.
    pub(crate) upstreams: Vec<UpstreamTarget>,
    /// The file of the key and certificate that miners are shown.
    pub(crate) server_key: PathBuf,
}

/// The client's own part of the config.
pub(super) struct Client {
    pub(super) listen: SocketAddr,
    pub(super) solo: PoolConfig,
    pub(super) server_key: PathBuf,
}

/// The least part of a block's value that declared jobs must pay to the pool. The server and the pool hold jobs against it, each for itself,
/// so a pool reads it whether the server is in its process or elsewhere.
pub(super) fn least_pool_percent(written: Option<&WrittenDeclarator>, mistakes: &mut Vec<Mistake>) -> u8 {
    let percent = written.and_then(|jds| jds.least_pool_percent).unwrap_or(ALL);
    if !(1..=ALL).contains(&percent) {
        let text = format!("{percent} is out of range; use 1 to {ALL}");
        mistakes.push(Mistake::at("jds.least_pool_percent", text));
    }
    percent
}

/// The table `[jds]`; the payout address is the pool's where it has none of its own.
pub(super) fn declarator(
    (written, least_pool_percent): (WrittenDeclarator, u8),
    pool_address: Option<Address>,
    (network, folder): (Option<Network>, &Path),
    mistakes: &mut Vec<Mistake>,
) -> Option<DeclaratorSettings> {
    let listen = listen("jds.listen", written.listen, "0.0.0.0:34264", mistakes);
    let payout_address = match (written.payout_address, pool_address) {
        (None, Some(pool)) => Some(pool),
        (text, _) => address(
            ("jds.payout_address", "the address that declared jobs must pay"),
            text,
            network,
            mistakes,
        ),
    };
    Some(DeclaratorSettings {
        listen: listen?,
        payout_address: payout_address?,
        token_key: folder.join(written.token_key.as_deref().unwrap_or("keys/token.key")),
        server_key: folder.join(written.server_key.as_deref().unwrap_or("keys/server.key")),
        coinbase_only: written.coinbase_only.unwrap_or(true),
        least_pool_percent,
    })
}

/// The table `[jdc]`.
pub(super) fn client(
    written: WrittenClient,
    (network, folder): (Option<Network>, &Path),
    mistakes: &mut Vec<Mistake>,
) -> Option<Client> {
    let listen = listen("jdc.listen", written.listen, "0.0.0.0:34254", mistakes);
    let what = "the address that is paid while no upstream can be had";
    let address = address(("jdc.solo_address", what), written.solo_address, network, mistakes);
    let rate = shares_per_minute("jdc.shares_per_minute", written.shares_per_minute, mistakes);
    let mut solo = PoolConfig::new(0, address?.script_pubkey());
    set_chain(&mut solo, network?);
    if let Some(signature) = written.signature {
        solo.signature = signature;
    }
    if let Some(rate) = rate {
        solo.vardiff.rate = rate;
    }
    solo.least_fee_gain = Sats::from_sats(written.least_fee_gain.unwrap_or(LEAST_FEE_GAIN));
    if let Err(error) = solo.check() {
        let path = match error {
            PoolConfigError::SignatureTooLong { .. } | PoolConfigError::SignatureNotPrintable => {
                "jdc.signature"
            }
            PoolConfigError::PayoutScript => "jdc.solo_address",
            _ => "jdc",
        };
        mistakes.push(Mistake::at(path, error.to_string()));
        return None;
    }
    let server_key = folder.join(written.server_key.as_deref().unwrap_or("keys/server.key"));
    Some(Client { listen: listen?, solo, server_key })
}

/// The table `[upstream]`, or the list `[[upstreams]]`.
pub(super) fn upstreams(
    one: WrittenUpstream,
    several: Vec<WrittenUpstream>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<UpstreamTarget>> {
    each(one, several, mistakes, upstream)
}

/// Checks one upstream or each of several, which `check` is told the path of; nothing if one of them is wrong.
pub(super) fn each<T>(
    one: WrittenUpstream,
    several: Vec<WrittenUpstream>,
    mistakes: &mut Vec<Mistake>,
    check: fn(&str, WrittenUpstream, &mut Vec<Mistake>) -> Option<T>,
) -> Option<Vec<T>> {
    if several.is_empty() {
        return check("upstream", one, mistakes).map(|upstream| vec![upstream]);
    }
    if one != WrittenUpstream::default() {
        mistakes.push(Mistake::at("upstream", "give either [upstream] or a list of [[upstreams]], not both"));
    }
    let all = several.into_iter().enumerate();
    // Every mistake is wanted, so none of them ends the search.
    let all: Vec<_> =
        all.map(|(index, written)| check(&format!("upstreams.{index}"), written, mistakes)).collect();
    all.into_iter().collect()
}

/// One upstream, whose keys are at `path`.
fn upstream(path: &str, written: WrittenUpstream, mistakes: &mut Vec<Mistake>) -> Option<UpstreamTarget> {
    let at = |key: &str| format!("{path}.{key}");
    let pool = server(&at("pool"), written.pool, "the pool that pays", mistakes);
    let declarator = server(&at("jds"), written.jds, "its job declarator server", mistakes);
    let user = user(&at("user"), written.user, mistakes);
    let mode = match written.mode.as_deref() {
        None | Some("full-template") => Mode::FullTemplate,
        Some("coinbase-only") => Mode::CoinbaseOnly,
        Some(other) => {
            let text = format!("{other:?} is not known; use full-template or coinbase-only");
            mistakes.push(Mistake::at(at("mode"), text));
            return None;
        }
    };
    Some(UpstreamTarget { pool: pool?, declarator: declarator?, user: user?, mode })
}

/// Whom an upstream is to credit, as long as its message can carry it.
pub(super) fn user(path: &str, text: Option<String>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let user = required(path, text, "whom the pool is to credit", mistakes)?;
    if !(1..=255).contains(&user.len()) {
        mistakes.push(Mistake::at(path, "give 1 to 255 bytes".to_owned()));
    }
    Some(user)
}

/// A server that must be known by its key unless it is on this machine.
pub(super) fn server(
    path: &str,
    text: Option<String>,
    what: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<Url> {
    let text = required(path, text, what, mistakes)?;
    let url: Url = match text.parse() {
        Ok(url) => url,
        Err(error) => {
            mistakes.push(Mistake::at(path, format!("{error}")));
            return None;
        }
    };
    keyed(path, url, mistakes)
}

/// A server that is known by its key, unless it is on this machine.
pub(super) fn keyed(path: &str, url: Url, mistakes: &mut Vec<Mistake>) -> Option<Url> {
    if url.authority().is_none() && !is_this_machine(url.host()) {
        let text = "the key is missing, without which anyone on the way could pose as the server; write \
                    stratum2+tcp://host:port/KEY";
        mistakes.push(Mistake::at(path, text));
        return None;
    }
    Some(url)
}

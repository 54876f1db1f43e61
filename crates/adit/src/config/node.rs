//! The nodes of the config: how each is reached, and which of its keys belong together.

use std::path::{Path, PathBuf};

use adit_net::Url;
use adit_node::tdp::TdpConfig;
use adit_node::{Auth, IpcConfig, NodeConfig, Password, RpcConfig, Zmq};
use bitcoin::Network;

use super::checked::required;
use super::mistake::Mistake;
use super::written::WrittenNode;

/// What holds for all nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The chain, unless that is a mistake.
    pub(super) network: Option<Network>,
    /// The folder that paths are relative to.
    pub(super) folder: &'a Path,
}

/// The table `[node]`, or the list `[[nodes]]`.
pub(super) fn nodes(
    one: WrittenNode,
    several: Vec<WrittenNode>,
    around: Surroundings<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<NodeConfig>> {
    if several.is_empty() {
        return node("node", one, around, mistakes).map(|node| vec![node]);
    }
    if one != WrittenNode::default() {
        mistakes.push(Mistake::at("node", "give either [node] or a list of [[nodes]], not both"));
    }
    let mut nodes: Vec<Option<NodeConfig>> = Vec::new();
    for (index, written) in several.into_iter().enumerate() {
        let key = match (&written.tdp, &written.ipc) {
            (Some(_), _) => "tdp",
            (None, Some(_)) => "ipc",
            (None, None) => "url",
        };
        let node = node(&format!("nodes.{index}"), written, around, mistakes);
        let same = |known: &Option<NodeConfig>| match (known, &node) {
            (Some(known), Some(node)) => known.name() == node.name(),
            _ => false,
        };
        if let Some(first) = nodes.iter().position(same) {
            let text = format!("the same node as nodes.{first}; give each node once");
            mistakes.push(Mistake::at(format!("nodes.{index}.{key}"), text));
        }
        nodes.push(node);
    }
    nodes.into_iter().collect()
}

/// One node, whose keys are at `path`.
fn node(
    path: &str,
    written: WrittenNode,
    around: Surroundings<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<NodeConfig> {
    if written.tdp.is_some() {
        provider(path, written, around, mistakes).map(NodeConfig::Tdp)
    } else if let Some(file) = written.ipc.clone() {
        socket(path, &file, written, around, mistakes).map(NodeConfig::Ipc)
    } else {
        rpc(path, written, around, mistakes).map(NodeConfig::Rpc)
    }
}

/// A template provider, which has one key and no other.
fn provider(
    path: &str,
    written: WrittenNode,
    around: Surroundings<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<TdpConfig> {
    let WrittenNode { url, cookie_file, user, password, zmq_hashblock, ipc, tdp } = written;
    let at = |key: &str| format!("{path}.{key}");
    let others = [
        ("ipc", ipc),
        ("url", url),
        ("cookie_file", cookie_file),
        ("user", user),
        ("password", password),
        ("zmq_hashblock", zmq_hashblock),
    ];
    for (key, _) in others.into_iter().filter(|(_, value)| value.is_some()) {
        let text =
            format!("a template provider has only {path}.tdp; give a node with RPC a table of its own");
        mistakes.push(Mistake::at(at(key), text));
    }
    let url: Url = match tdp?.parse() {
        Ok(url) => url,
        Err(error) => {
            mistakes.push(Mistake::at(at("tdp"), error.to_string()));
            return None;
        }
    };
    if url.authority().is_none() && !is_this_machine(url.host()) {
        let text = "the key is missing, without which anyone on the way could pose as the provider; write \
                    stratum2+tcp://host:port/KEY";
        mistakes.push(Mistake::at(at("tdp"), text));
        return None;
    }
    Some(TdpConfig::new(url, around.network?))
}

/// A node that is spoken to over its socket at `file`, perhaps with its JSON-RPC beside it.
fn socket(
    path: &str,
    file: &str,
    written: WrittenNode,
    around: Surroundings<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<IpcConfig> {
    let mut config = IpcConfig::new(around.folder.join(file));
    config.network = around.network;
    let beside = WrittenNode { ipc: None, ..written };
    if beside != WrittenNode::default() {
        config.rpc = Some(rpc(path, beside, around, mistakes)?);
    }
    Some(config)
}

/// Whether a host's name is one of those of the machine that it is spoken on.
pub(super) fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<core::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A node that is spoken to over JSON-RPC.
fn rpc(
    path: &str,
    written: WrittenNode,
    around: Surroundings<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<RpcConfig> {
    let at = |key: &str| format!("{path}.{key}");
    let zmq_hashblock = zmq(&at("zmq_hashblock"), written.zmq_hashblock.as_deref(), mistakes);
    let what = "the node's JSON-RPC, such as http://127.0.0.1:8332, or its socket as ipc, or a template provider as tdp";
    let url = required(&at("url"), written.url.clone(), what, mistakes);
    let auth = auth(path, written, around.folder);
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
    (config.network, config.zmq_hashblock) = (around.network, zmq_hashblock);
    Some(config)
}

/// How the node lets us in, or the key that is wrong and why.
fn auth(path: &str, written: WrittenNode, folder: &Path) -> Result<Auth, (&'static str, String)> {
    match (written.cookie_file, written.user, written.password) {
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
    }
}

/// Where the node tells of new blocks.
fn zmq(path: &str, text: Option<&str>, mistakes: &mut Vec<Mistake>) -> Zmq {
    match text {
        None => Zmq::Discover,
        Some("off") => Zmq::Off,
        Some(text) => match text.parse() {
            Ok(address) => Zmq::At(address),
            Err(error) => {
                mistakes.push(Mistake::at(path, error.to_string()));
                Zmq::Off
            }
        },
    }
}

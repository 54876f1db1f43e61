//! What can be wrong with a node, in words that tell its operator what to do.

use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::Network;

use super::TemplateRefused;

/// Why a node cannot be used now. Each message says what happened and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Nobody answers at its address, or the connection broke.
    #[error(
        "no connection to the node at {url} ({reason}); check that it runs with server=1 and that this is its rpcport"
    )]
    Unreachable {
        /// The node's address.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// It took too long over an answer.
    #[error("the node at {url} has not answered {method} within {secs} s; it hangs or has too much to do")]
    Silent {
        /// The node's address.
        url: String,
        /// What it was asked.
        method: &'static str,
        /// How long it had, in seconds.
        secs: u64,
    },
    /// Its cookie file cannot be read.
    #[error(
        "cannot read the node's cookie {path} ({reason}); the node writes it when it starts, so check that it runs and that \
         this is its data folder, or configure a user and a password"
    )]
    Cookie {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not accept the cookie.
    #[error("the node at {url} refuses the cookie {path}; check that both belong to the same node")]
    WrongCookie {
        /// The node's address.
        url: String,
        /// The file.
        path: PathBuf,
    },
    /// It does not accept the password.
    #[error(
        "the node at {url} refuses user {user:?} with the configured password; compare rpcauth, or rpcuser and rpcpassword, in \
         its bitcoin.conf"
    )]
    WrongPassword {
        /// The node's address.
        url: String,
        /// The user.
        user: String,
    },
    /// It does not take calls from here.
    #[error(
        "the node at {url} does not let this machine or user make this call (HTTP 403); see rpcallowip and rpcwhitelist in its \
         bitcoin.conf"
    )]
    Forbidden {
        /// The node's address.
        url: String,
    },
    /// It has too many calls to answer.
    #[error(
        "the node at {url} has too many calls waiting; raise rpcthreads and rpcworkqueue in its bitcoin.conf"
    )]
    Busy {
        /// The node's address.
        url: String,
    },
    /// Something else answers there.
    #[error("what answers at {url} is not the RPC of a Bitcoin node ({reason}); check the port")]
    NotANode {
        /// The address.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// It refuses a call.
    #[error("the node refuses {method}: {message} (error {code})")]
    Fault {
        /// What it was asked.
        method: &'static str,
        /// The number of the error.
        code: i64,
        /// What it says.
        message: String,
    },
    /// It has not finished starting.
    #[error("the node is still starting ({0}); wait")]
    WarmingUp(String),
    /// It is downloading the chain.
    #[error(
        "the node is still downloading the chain (initial block download) and gives no templates until it is done; wait"
    )]
    Syncing,
    /// It has no peers.
    #[error("the node has no peers and gives no templates without; check its network connection")]
    NoPeers,
    /// It is on another network than configured.
    #[error(
        "the node is on the network {}, but {} is configured; use another node or change the configuration",
        .found.to_core_arg(), .expected.to_core_arg()
    )]
    WrongNetwork {
        /// The configured network.
        expected: Network,
        /// The node's.
        found: Network,
    },
    /// It is on a network that nobody here knows.
    #[error("the node is on an unknown network, {0:?}; use one of main, test, testnet4, signet and regtest")]
    UnknownNetwork(String),
    /// Its template is not good.
    #[error("the node's template is refused: {0}")]
    Template(#[from] TemplateRefused),
    /// Of several nodes, none can be used.
    #[error("none of the configured nodes gives templates; each says why: {0}")]
    NoSource(String),
    /// A block is known that no template stands on.
    #[error("a new block is known, but no node has given a template on it yet; wait")]
    Behind,
    /// It is a template provider, and gives no templates.
    #[error("the template provider at {url} gives no templates: {reason}")]
    Provider {
        /// Its address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody takes connections at its socket.
    #[error(
        "no connection to the node's socket {path} ({reason}); check that bitcoin-node runs with ipcbind=unix and that this is its \
         node.sock"
    )]
    SocketUnreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The system does not let us use its socket.
    #[error(
        "not allowed to use the node's socket {path}; run this program as the node's user, or let that user's group in to the \
         socket and the folders above it"
    )]
    SocketForbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The connection to its socket has ended.
    #[error(
        "the connection to the node at {url} has ended ({reason}); it is made again as soon as the node runs"
    )]
    Unplugged {
        /// The node's socket.
        url: String,
        /// What was said last.
        reason: String,
    },
    /// Its version cannot do that over IPC.
    #[error(
        "this version of the node does not offer {method} over IPC; configure the node's JSON-RPC beside its socket, or update \
         the node"
    )]
    Unsupported {
        /// What it was asked.
        method: &'static str,
    },
    /// It fails at a call over IPC.
    #[error("the node fails at {method}: {message}")]
    Exception {
        /// What it was asked.
        method: &'static str,
        /// What it says.
        message: String,
    },
    /// It is on a test network, and does not tell on which.
    #[error(
        "the node is on a test network and does not tell over IPC on which; configure the network, or update the node"
    )]
    SomeTestNetwork,
    /// It is on a test network, but should not be.
    #[error(
        "the node is on a test network, but {} is configured; use another node or change the configuration",
        .0.to_core_arg()
    )]
    TestNetwork(Network),
    /// As somebody else was told before.
    #[error("{0}")]
    Told(Arc<Self>),
    /// It was in this process and is no more.
    #[error("{0}")]
    Gone(String),
}

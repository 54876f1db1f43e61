//! Where the node's socket is, and how to use it.

use std::path::{Path, PathBuf};

use adit_units::Sats;
use bitcoin::Network;

use crate::{CoinbaseReserve, RpcConfig, Timing};

/// Fees must rise by this much before a template on the same tip is replaced, unless configured: about what a small transaction pays.
const FEE_RISE: Sats = Sats::from_sats(1_000);

/// Everything about one node that is spoken to over IPC.
#[derive(Clone, Debug)]
pub struct IpcConfig {
    path: PathBuf,
    /// The network that it must be on; `None` takes any that the node can tell.
    pub network: Option<Network>,
    /// Room for our coinbase.
    pub coinbase: CoinbaseReserve,
    /// Deadlines and intervals; a template on the same tip is replaced no sooner than `refresh` after the last one.
    pub timing: Timing,
    /// How much more a template on the same tip must pay to replace the last one.
    pub fee_rise: Sats,
    /// The same node's JSON-RPC, for what older versions cannot do over IPC: take a block as bytes, and tell where a block is.
    pub rpc: Option<RpcConfig>,
}

impl IpcConfig {
    /// The node whose socket is at `path`: `node.sock` in its data folder, or in that of its test network.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            network: None,
            coinbase: CoinbaseReserve::default(),
            timing: Timing::default(),
            fee_rise: FEE_RISE,
            rpc: None,
        }
    }

    /// The node's socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's address, for logs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

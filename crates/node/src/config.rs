//! How to reach a node, whichever kind it is.

#[cfg(feature = "ipc")]
use crate::ipc::{self, IpcConfig};
use crate::rpc::{self, CoinbaseReserve, RpcConfig};
use crate::tdp::{self, TdpConfig};
use crate::{NodeError, NodeInfo};

/// Everything about one node; [`crate::Node::open`] makes a handle of it.
#[derive(Clone, Debug)]
pub enum NodeConfig {
    /// One that is spoken to over JSON-RPC.
    Rpc(RpcConfig),
    /// One that is spoken to over its socket.
    #[cfg(feature = "ipc")]
    Ipc(IpcConfig),
    /// A template provider.
    Tdp(TdpConfig),
}

impl NodeConfig {
    /// The node's address, for logs.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Rpc(config) => config.url(),
            #[cfg(feature = "ipc")]
            Self::Ipc(config) => config.url(),
            Self::Tdp(config) => config.name(),
        }
    }

    /// Room that every block keeps for the coinbase.
    pub const fn coinbase(&mut self) -> &mut CoinbaseReserve {
        match self {
            Self::Rpc(config) => &mut config.coinbase,
            #[cfg(feature = "ipc")]
            Self::Ipc(config) => &mut config.coinbase,
            Self::Tdp(config) => &mut config.coinbase,
        }
    }

    /// Whether the node takes every block, and not only those of its own templates, as far as the way of speaking to it goes: a Bitcoin Core
    /// that is spoken to over its socket may be of a version that does not.
    #[must_use]
    pub const fn takes_any_block(&self) -> bool {
        match self {
            Self::Rpc(_) => true,
            #[cfg(feature = "ipc")]
            Self::Ipc(_) => true,
            Self::Tdp(_) => false,
        }
    }

    /// Asks the node what it is and whether its templates can be used; starts nothing that stays.
    ///
    /// # Errors
    ///
    /// When the node cannot be asked, or is on another network than configured.
    pub async fn probe(&self) -> Result<NodeInfo, NodeError> {
        match self {
            Self::Rpc(config) => rpc::probe(config).await,
            #[cfg(feature = "ipc")]
            Self::Ipc(config) => ipc::probe(config).await,
            Self::Tdp(config) => tdp::probe(config).await,
        }
    }
}

//! A real node, spoken to over JSON-RPC.

pub(crate) mod answer;
mod client;
mod config;
mod error;
mod follow;
mod mempool;
mod template;

pub(crate) use client::Client;
pub use config::{Auth, CoinbaseReserve, ConfigError, Password, RpcConfig, Timing};
pub use error::NodeError;
pub(crate) use follow::follow;
pub(crate) use template::halving_interval;
pub use template::{RpcTemplate, TemplateRefused, read_template};

use crate::NodeInfo;

/// Asks a node what it is and whether its templates can be used; starts nothing that stays.
///
/// # Errors
///
/// When the node cannot be asked, or is on another network than configured.
pub async fn probe(config: &RpcConfig) -> Result<NodeInfo, NodeError> {
    Client::new(config).probe().await
}

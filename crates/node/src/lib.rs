//! The only code that speaks to a Bitcoin node.
//!
//! A [`Node`] yields templates as they change and takes blocks. Behind it is a real node over JSON-RPC ([`Node::rpc`]) or over
//! Bitcoin Core's socket (`Node::ipc`, feature `ipc`), a template provider ([`Node::tdp`]), a small chain in memory ([`Node::devnet`]), or several of them in order of preference ([`Node::several`]); those who
//! hold the handle cannot tell. Templates go out through one `watch`, so whoever is slow sees the newest and nothing queues up. When a node
//! dies the last template stays, [`Node::health`] says what is wrong in words for its operator, and the connection is tried again until it
//! works.
//!
//! [`Devnet`] is the chain in memory by itself, without tasks and clocks, for simulators and tests.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

mod board;
mod config;
mod devnet;
#[cfg(feature = "ipc")]
mod ipc;
mod node;
mod outcome;
mod rpc;
mod sources;
pub mod tdp;
mod transactions;
mod zmq;

pub use config::NodeConfig;
pub use devnet::{BlockRefused, Devnet, DevnetConfig, Pace};
#[cfg(feature = "ipc")]
pub use ipc::{IpcConfig, probe as probe_ipc};
pub use node::Node;
pub use outcome::{Checked, Fate, Health, NodeInfo, Submitted};
pub use rpc::{
    Auth, CoinbaseReserve, ConfigError, NodeError, Password, RpcConfig, RpcTemplate, TemplateRefused, Timing,
    probe, read_template,
};
pub use zmq::{Zmq, ZmqAddress, ZmqAddressError};

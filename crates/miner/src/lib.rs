//! An SV2 client library with a CPU miner on it.
//!
//! * [`Client`] is the protocol alone, a state machine that turns a server's frames into [`Work`] and [`Solution`]s into
//!   frames. It holds no socket and no clock: call [`Client::handle_frame`] with what came, [`Client::handle_timeout`] when
//!   [`Client::poll_timeout`] says so, and after either take [`Client::poll_event`] until there is none and send
//!   [`Client::frames`].
//! * [`Miner`] drives a client over TCP, hashes on every core, and comes back after the connection was lost.
//!
//! [`Work`] divides its search space into slices that never overlap, and [`HeaderHasher`] searches one.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

mod backoff;
mod client;
mod config;
mod crew;
mod hasher;
mod miner;
mod stats;
mod work;

pub use adit_net::{Url, UrlError};
pub use backoff::Backoff;
pub use client::{Client, ClientConfig, ClientError, Event, NotSubmitted, RejectCode};
pub use config::{ChannelKind, ConfigError, Device, MinerConfig};
pub use hasher::HeaderHasher;
pub use miner::{Failure, Miner, MinerHandle};
pub use stats::{Rejections, Stats};
pub use work::{Extranonce, MerkleRoot, Slice, Solution, Tip, Work};

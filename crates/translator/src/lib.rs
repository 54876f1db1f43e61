//! The translator role: SV1 miners below, SV2 upstreams above.
//!
//! A pure core speaks both protocols: [`sv1`] reads and writes lines, a [`Machine`] is the server's side of one SV1 connection, an
//! [`upstream::Upstream`] the client's side of one SV2 connection. Bytes, time and randomness are arguments, and what is to happen comes out as
//! values. The feature `server` adds the shell that runs them over sockets.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

pub mod sv1;
pub mod upstream;

mod credential;
mod device;
mod job;
mod machine;
mod status;

pub use status::{
    ChannelStatus, MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamState, UpstreamStatus,
};

#[cfg(feature = "server")]
pub mod server;

//! The translator role: SV1 miners below, SV2 upstreams above.
//!
//! A pure core speaks both protocols: [`sv1`] reads and writes lines, a [`Machine`] is the server's side of one SV1 connection, an
//! [`upstream::Upstream`] the client's side of one SV2 connection. Bytes, time and randomness are arguments, and what is to happen comes out as
//! values. The feature `server` adds the shell that runs them over sockets.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

// The fixture of jobs names the crate as tests outside of it do.
#[cfg(test)]
extern crate self as adit_translator;

pub mod legacy;
pub mod proxy;
pub mod sv1;
pub mod upstream;

mod credential;
mod device;
mod job;
mod machine;
#[cfg(feature = "server")]
pub mod server;
mod status;

pub use credential::{Credential, user_of, worker_name};
pub use device::{CLASSES, Class, Device, Override, QUIRKS, Quirks, UnknownQuirk, class_table};
pub use job::{EXTRANONCE1_LEN, NUMBER_STEP, NoRoom, Route, Sv1Job};
pub use machine::{
    Disconnect, Event, Identity, JOBS_KEPT, Lender, MALFORMED_MAX, Machine, MachineConfig, MachineTerms,
    Memory, OUTAGE_GRACE, Report, SEEN_MAX, SETUP_PATIENCE, Share, USERS_MAX,
};
pub use status::{
    ChannelStatus, MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamState, UpstreamStatus,
};

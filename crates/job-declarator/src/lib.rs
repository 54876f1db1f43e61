//! The job declarator role: miners with a node of their own choose the transactions, and the pool pays them all the same (spec 6).
//!
//! [`server`] is the pool's side, [`client`] the miner's. The cores of both are state machines: bytes, time and randomness come in as
//! arguments, effects go out as values, and they hold no clock, socket, task or lock. The default feature `server` adds tokio shells
//! that drive them.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

pub mod client;
pub mod server;

//! The job declarator role: miners with a node of their own choose the transactions, and the pool pays them all the same (spec 6).
//!
//! [`server`] is the pool's side. Its core is a state machine: bytes, time and randomness come in as arguments, effects go out as
//! values, and it holds no clock, socket, task or lock. The default feature `server` adds a tokio shell that drives it.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

pub mod server;

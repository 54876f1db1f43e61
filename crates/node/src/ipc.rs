//! A real node, spoken to over the IPC interface that Bitcoin Core has since version 30: Cap'n Proto over a Unix socket.
//!
//! The interface's library works on one thread only, so everything is done on a thread of its own, which ends with the handle:
//! [`session`] follows templates and tips over one connection and answers the calls that come in by [`lanes`]; [`link`] makes the
//! [`calls`], each with a deadline; [`template`] reads and checks what they bring.

mod answers;
mod calls;
mod client;
mod config;
mod follow;
mod held;
mod lanes;
mod link;
mod session;
mod template;
mod v30;
mod wtxids;

#[cfg(test)]
mod tests;

pub(crate) use client::Client;
pub use client::probe;
pub use config::IpcConfig;

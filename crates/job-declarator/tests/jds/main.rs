//! The job declarator server over real sockets, with a chain in memory, a node that is slow on purpose, and Bitcoin Core.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod core_node;
mod fair;
mod service;
mod slow_node;
mod stage;

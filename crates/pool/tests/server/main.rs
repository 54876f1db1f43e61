//! The pool as a server: real sockets, a devnet node, a share log on a disk that fails on demand, and miners that mine.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod blocks;
mod failure;
mod fake_node;
mod floods;
mod hostile;
mod miner;
mod orders;
mod outage;
mod refreshes;
mod reload;
mod service;
mod shutdown;
mod stage;
mod tips;

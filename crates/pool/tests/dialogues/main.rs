//! What a pool session says to its peer, as dialogues on a virtual clock; each test is named for the rule it holds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bursts;
mod cadence;
mod channels;
mod custom;
mod cut;
mod drain;
mod firmware;
mod jobs;
mod late;
mod lies;
mod model;
mod moves;
mod operations;
mod payouts;
mod regressions;
mod reserve;
mod setup;
mod shares;
mod world;

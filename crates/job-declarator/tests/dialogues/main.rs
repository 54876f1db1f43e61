//! What a declarator session says to its client, as dialogues on a virtual clock; each test is named for the rule it holds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod declare;
mod held;
mod hostile;
mod missing;
mod setup;
mod solution;
mod tokens;
mod world;

//! What a translator says to machines, as dialogues on a virtual clock; each test is named for the device and the rule.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod credit;
mod devices;
mod errors;
#[path = "../../src/job/fixture.rs"]
mod fixture;
mod jobs;
mod messages;
mod names;
mod outage;
mod storms;
mod world;

//! `adit translator`: SV1 machines on SV2 pools.
#![expect(dead_code, reason = "the live table is there before the command that shows it")]

pub(crate) mod tui;

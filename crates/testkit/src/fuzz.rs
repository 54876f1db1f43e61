//! What each fuzz target does with its bytes, as plain functions that ordinary tests can call too.
//!
//! A body takes any bytes and returns; it panics where a promise is broken. `fuzz/README.md` says how to add one. The test
//! `fuzz_corpus` replays every stored input through its body on a stable compiler and keeps this table, the files of
//! `fuzz/fuzz_targets/` and the folders of `fuzz/corpus/` in step.

pub mod channel;
pub mod dashboard;
pub mod declaration;
pub mod frame_stream;
pub mod handshake;
pub mod jds_session;
pub mod job_token;
pub mod key_text;
pub mod legacy_upstream;
pub mod messages;
pub mod miner_client;
pub mod node_template;
pub mod pool_session;
pub mod proxy_header;
pub mod share_judge;
pub mod share_log_segment;
pub mod sv1_line;
pub mod sv1_session;
pub mod target_arithmetic;
pub mod template_distribution;
pub mod translator_upstream;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct FuzzTarget {
    /// The name of its module here, of its program in `fuzz/fuzz_targets/` and of its folder in `fuzz/corpus/`.
    pub name: &'static str,
    /// What it does with one input.
    pub run: fn(&[u8]),
}

/// Every fuzz target, by name.
pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget { name: "channel", run: channel::run },
    FuzzTarget { name: "dashboard", run: dashboard::run },
    FuzzTarget { name: "declaration", run: declaration::run },
    FuzzTarget { name: "frame_stream", run: frame_stream::run },
    FuzzTarget { name: "handshake", run: handshake::run },
    FuzzTarget { name: "jds_session", run: jds_session::run },
    FuzzTarget { name: "job_token", run: job_token::run },
    FuzzTarget { name: "key_text", run: key_text::run },
    FuzzTarget { name: "legacy_upstream", run: legacy_upstream::run },
    FuzzTarget { name: "messages", run: messages::run },
    FuzzTarget { name: "miner_client", run: miner_client::run },
    FuzzTarget { name: "node_template", run: node_template::run },
    FuzzTarget { name: "pool_session", run: pool_session::run },
    FuzzTarget { name: "proxy_header", run: proxy_header::run },
    FuzzTarget { name: "share_judge", run: share_judge::run },
    FuzzTarget { name: "share_log_segment", run: share_log_segment::run },
    FuzzTarget { name: "sv1_line", run: sv1_line::run },
    FuzzTarget { name: "sv1_session", run: sv1_session::run },
    FuzzTarget { name: "target_arithmetic", run: target_arithmetic::run },
    FuzzTarget { name: "template_distribution", run: template_distribution::run },
    FuzzTarget { name: "translator_upstream", run: translator_upstream::run },
];

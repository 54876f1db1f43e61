//! Any path, any query and any name of a miner: every answer is one that a reader can read, and nothing in it is more than text.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use adit_dashboard::{Answer, PLAIN_MAX, Pages as _, Request, TranslatorPages};
use adit_translator::{
    ChannelStatus, MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamState, UpstreamStatus,
};
use adit_units::{Difficulty, Hashrate, Target};
use serde_json::Value;
use tokio::sync::watch;

/// Reads `path 0x00 query 0x00 name`, and asks a translator on which somebody has that name.
///
/// # Panics
///
/// If an answer is not what its kind allows.
pub fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0).map(String::from_utf8_lossy);
    let mut next = || parts.next().unwrap_or_default();
    let (path, query, name) = (next(), next(), next());
    let (_sender, receiver) = watch::channel(Arc::new(status_with(&name)));
    let answer = TranslatorPages::new(receiver).answer(&Request { path: &path, query: &query });
    if answer.content_type() == "application/json" {
        check_json(&answer);
    } else {
        check_metrics(&answer);
    }
}

fn check_json(answer: &Answer) {
    let is_plain = |byte: &u8| (0x20..0x7f).contains(byte) && !b"<>&'".contains(byte);
    assert!(answer.body().iter().all(is_plain), "only what means nothing anywhere");
    let value: Value = serde_json::from_slice(answer.body()).expect("an answer is JSON");
    assert_eq!(value.get("error").is_some(), answer.status() != 200, "an error says what went wrong");
}

fn check_metrics(answer: &Answer) {
    let text = core::str::from_utf8(answer.body()).expect("metrics are UTF-8");
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        assert!(
            line.starts_with("sv") || line.starts_with("adit_translator_"),
            "{line} is no metric of ours"
        );
        let (_, number) = line.rsplit_once(' ').expect("a sample has a value");
        assert!(number.parse::<u128>().is_ok(), "{line} ends with something else");
        assert!(line.len() < 3 * PLAIN_MAX + 200, "a label has an end");
        assert!(line.chars().all(adit_channel::prints), "{line:?} does something");
    }
}

/// A translator with one machine, one channel and two upstreams, with that name wherever somebody else chooses one.
fn status_with(name: &str) -> Status {
    let name = || name.to_owned();
    let shares = || UpstreamShares { refused: 1, refusals: vec![(name(), 1)], ..UpstreamShares::default() };
    let channel = ChannelStatus {
        channel_id: 1,
        machine: None,
        user: name(),
        nominal: Hashrate::from_hashes_per_second(u64::MAX),
        target: Target::MAX,
        extranonce_prefix: Box::new([1; 8]),
        extranonce_size: 12,
        version_rolling: true,
        shares: shares(),
    };
    let upstream =
        |state, channels| UpstreamStatus { address: name(), user: name(), state, channels, shares: shares() };
    let machine = MachineStatus {
        id: 7,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        user_agent: name(),
        class: "default",
        users: vec![name(), name()],
        extranonce1: [0, 0, 0, 1],
        extranonce2_len: 8,
        version_mask: None,
        difficulty: Difficulty::ONE,
        hashrate: Hashrate::from_hashes_per_second(u64::MAX),
        shares: ShareCounts { accepted: u64::MAX, stale: u64::MAX, ..ShareCounts::default() },
        upstream: shares(),
        connected: Duration::MAX,
        last_share: None,
        best: None,
        long_coinbase: None,
    };
    Status {
        upstreams: vec![
            upstream(UpstreamState::Failed { reason: name() }, Vec::new()),
            upstream(UpstreamState::InUse, vec![channel]),
        ],
        machines: vec![machine],
        ..Status::default()
    }
}

//! Any path, any query and any name of a miner: every answer is one that a reader can read, and nothing in it is more than text.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use adit_channel::{ChannelKind, ExtranonceBase, ExtranonceSpace, RewardKind, UserIdentity, WorkerName};
use adit_dashboard::{Answer, NodeView, PLAIN_MAX, Pages, PoolPages, PoolView, Request, TranslatorPages};
use adit_messages::error_code::SubmitSharesError;
use adit_net::Refused;
use adit_node::Health;
use adit_pool::server::{ConnectionStatus, Metrics, Status as PoolStatus};
use adit_pool::{
    ChannelReport, ChannelShares, Distribution, PoolConfig, SessionReport, WorkerReport, WorkerShares,
};
use adit_translator::{
    ChannelStatus, MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamState, UpstreamStatus,
};
use adit_units::{ChannelId, ConnectionId, Difficulty, Hashrate, Height, Monotonic, Target, Work};
use bitcoin::ScriptBuf;
use serde_json::Value;
use tokio::sync::watch;

/// Reads `path 0x00 query 0x00 name`, and asks a translator and a pool on which somebody has that name.
///
/// # Panics
///
/// If an answer is not what its kind allows.
pub fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0).map(String::from_utf8_lossy);
    let mut next = || parts.next().unwrap_or_default();
    let (path, query, name) = (next(), next(), next());
    let (_sender, receiver) = watch::channel(Arc::new(status_with(&name)));
    let request = Request { path: &path, query: &query };
    check(&TranslatorPages::new(receiver), &request);
    check(&PoolPages::showing(pool_with(&name)), &request);
}

fn check(pages: &impl Pages, request: &Request<'_>) {
    let answer = pages.answer(request);
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
            ["sv", "adit_translator_", "adit_pool_"].iter().any(|start| line.starts_with(start)),
            "{line} is no metric of ours"
        );
        let (_, number) = line.rsplit_once(' ').expect("a sample has a value");
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        assert!(is_number && number.parse::<f64>().is_ok(), "{line} ends with something else");
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
        blocks: u64::MAX,
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

/// A pool with two nodes and one connection, which has a channel and a worker, with that name wherever somebody else chooses one, as far as it may be
/// one there.
fn pool_with(name: &str) -> PoolView {
    let shown: String = name.chars().filter(|&character| adit_channel::prints(character)).collect();
    let cut = |most: usize| shown.get(..shown.floor_char_boundary(most)).unwrap_or_default();
    let user =
        UserIdentity::from_wire(cut(UserIdentity::MAX_LEN).as_bytes()).expect("it prints and is short");
    let worker = WorkerName::from_wire(cut(WorkerName::MAX_LEN).as_bytes()).expect("it prints and is short");
    let base = ExtranonceBase::new(&[], 20, 14).expect("six bytes are left for the channel");
    let extranonce = ExtranonceSpace::based(base, ConnectionId(1)).next_prefix().expect("it is the first");
    let channel = ChannelReport {
        id: ChannelId(2),
        kind: ChannelKind::Extended,
        user,
        group: ChannelId(1),
        pays: Distribution::Solo(ScriptBuf::from_bytes(name.as_bytes().to_vec())),
        reward: RewardKind::Solo,
        nominal: Hashrate::from_hashes_per_second(u64::MAX),
        hashrate: Hashrate::from_hashes_per_second(u64::MAX),
        target: Target::MAX,
        max_target: Target::ZERO,
        extranonce,
        opened: Monotonic::default(),
        shares: ChannelShares { accepted: u64::MAX, best: Some(Target::ZERO), ..ChannelShares::default() },
    };
    let worker = WorkerReport { channel: ChannelId(2), name: worker, shares: WorkerShares::default() };
    let report = SessionReport {
        device: name.into(),
        channels: vec![channel],
        workers: vec![worker],
        other_workers: WorkerShares::default(),
    };
    let connection = ConnectionStatus {
        id: ConnectionId(7),
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        since: Monotonic::default(),
        report: Arc::new(report),
    };
    let status = PoolStatus {
        at: Monotonic::default(),
        uptime: Duration::MAX,
        metrics: pool_metrics(),
        health: Health::Starting,
        rules: Arc::new(PoolConfig::new(1, ScriptBuf::new())),
        connections: vec![connection],
    };
    let node = |state, reason| NodeView { name: name.to_owned(), state, reason, height: None };
    PoolView { status: Arc::new(status), nodes: vec![node("up", None), node("down", Some(name.to_owned()))] }
}

/// The greatest numbers that there can be.
fn pool_metrics() -> Metrics {
    Metrics {
        connections: u64::MAX,
        refused_connections: Refused::ALL.map(|limit| (limit, u64::MAX)),
        channels: u64::MAX,
        hashrate: Hashrate::from_hashes_per_second(u64::MAX),
        work: Work::from_hashes(u128::MAX),
        accepted: u64::MAX,
        rejected: [(SubmitSharesError::InvalidShare, u64::MAX); SubmitSharesError::ALL.len()],
        blocks_found: u64::MAX,
        blocks_accepted: 0,
        blocks_stale: 0,
        blocks_refused: 0,
        height: Some(Height(u32::MAX)),
        template_age: Some(Duration::MAX),
        tip_to_first_miner: Some(Duration::MAX),
        tip_to_last_miner: None,
        time_on_empty_work: Duration::ZERO,
        unwritten: 0,
        log_lag: Duration::MAX,
        blocks_faulty: 0,
    }
}

//! What the reference implementation's shapes have no place for: every upstream, and what became of each machine's shares.

use core::net::SocketAddr;
use std::borrow::Cow;
use std::collections::BTreeMap;

use adit_translator::{MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamState, UpstreamStatus};
use serde::Serialize;

use super::{overlong, refusals, sum};
use crate::plain;
use crate::request::Page;
use crate::shapes::float;

/// `/api/adit/v1/translator`
#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    uptime_secs: u64,
    aggregated: bool,
    machines: usize,
    machines_seen: u64,
    /// With coinbases that are longer than they are known to take.
    machines_with_long_coinbase: usize,
    connections_refused: u64,
    hashrate: u64,
    shares: Shares,
    upstreams: Vec<Upstream<'a>>,
}

impl<'a> Overview<'a> {
    pub(super) fn of(status: &'a Status) -> Self {
        Self {
            uptime_secs: status.uptime.as_secs(),
            aggregated: status.aggregated,
            machines: status.machines.len(),
            machines_seen: status.machines_seen,
            machines_with_long_coinbase: overlong(status),
            connections_refused: status.connections_refused,
            hashrate: sum(status.machines.iter().map(|machine| machine.hashrate)),
            shares: Shares::of(&status.shares),
            upstreams: status.upstreams.iter().map(Upstream::of).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Upstream<'a> {
    address: Cow<'a, str>,
    user: Cow<'a, str>,
    state: &'static str,
    /// Why it failed, if it did.
    reason: Option<Cow<'a, str>>,
    channels: usize,
    shares: SharesAbove<'a>,
}

impl<'a> Upstream<'a> {
    fn of(upstream: &'a UpstreamStatus) -> Self {
        let reason = match &upstream.state {
            UpstreamState::Failed { reason } => Some(plain(reason)),
            UpstreamState::Idle | UpstreamState::Connecting | UpstreamState::InUse => None,
        };
        Self {
            address: plain(&upstream.address),
            user: plain(&upstream.user),
            state: state(&upstream.state),
            reason,
            channels: upstream.channels.len(),
            shares: SharesAbove::of(&upstream.shares),
        }
    }
}

/// All words for how an upstream is.
pub(super) const STATES: [&str; 4] = ["idle", "connecting", "in-use", "failed"];

/// A word for how an upstream is.
pub(super) const fn state(state: &UpstreamState) -> &'static str {
    let [idle, connecting, in_use, failed] = STATES;
    match state {
        UpstreamState::Idle => idle,
        UpstreamState::Connecting => connecting,
        UpstreamState::InUse => in_use,
        UpstreamState::Failed { .. } => failed,
    }
}

#[derive(Debug, Serialize)]
struct Shares {
    accepted: u64,
    stale: u64,
    duplicate: u64,
    low_difficulty: u64,
    invalid: u64,
    blocks: u64,
}

impl Shares {
    const fn of(shares: &ShareCounts) -> Self {
        let ShareCounts { accepted, stale, duplicate, low_difficulty, invalid, blocks } = *shares;
        Self { accepted, stale, duplicate, low_difficulty, invalid, blocks }
    }
}

#[derive(Debug, Serialize)]
struct SharesAbove<'a> {
    accepted: u64,
    refused: u64,
    lost: u64,
    pending: u64,
    /// A number too great for many readers of JSON, so as text.
    work_hashes: String,
    refusals: BTreeMap<Cow<'a, str>, u64>,
}

impl<'a> SharesAbove<'a> {
    fn of(shares: &'a UpstreamShares) -> Self {
        Self {
            accepted: shares.accepted,
            refused: shares.refused,
            lost: shares.lost,
            pending: shares.pending,
            work_hashes: shares.work.to_string(),
            refusals: refusals(&shares.refusals),
        }
    }
}

/// `/api/adit/v1/translator/machines`
#[derive(Debug, Serialize)]
pub(super) struct Machines<'a> {
    offset: usize,
    limit: usize,
    total: usize,
    items: Vec<Machine<'a>>,
}

impl<'a> Machines<'a> {
    pub(super) fn of(status: &'a Status, page: Page) -> Self {
        Self {
            offset: page.offset,
            limit: page.limit,
            total: status.machines.len(),
            items: page.of(status.machines.iter().map(Machine::of)),
        }
    }
}

/// `/api/adit/v1/translator/machines/{id}`
#[derive(Debug, Serialize)]
pub(super) struct Machine<'a> {
    id: u64,
    peer: SocketAddr,
    user_agent: Cow<'a, str>,
    class: &'static str,
    users: Vec<Cow<'a, str>>,
    difficulty: f64,
    hashrate: u64,
    connected_secs: u64,
    /// Since its last accepted share.
    last_share_secs: Option<u64>,
    best_difficulty: Option<f64>,
    /// Bytes of the first coinbase that was longer than such a device is known to take.
    long_coinbase_bytes: Option<usize>,
    shares: Shares,
    upstream: SharesAbove<'a>,
}

impl<'a> Machine<'a> {
    pub(super) fn of(machine: &'a MachineStatus) -> Self {
        Self {
            id: machine.id,
            peer: machine.peer,
            user_agent: plain(&machine.user_agent),
            class: machine.class,
            users: machine.users.iter().map(|user| plain(user)).collect(),
            difficulty: float(machine.difficulty),
            hashrate: machine.hashrate.to_hashes_per_second(),
            connected_secs: machine.connected.as_secs(),
            last_share_secs: machine.last_share.map(|since| since.as_secs()),
            best_difficulty: machine.best.map(float),
            long_coinbase_bytes: machine.long_coinbase,
            shares: Shares::of(&machine.shares),
            upstream: SharesAbove::of(&machine.upstream),
        }
    }
}

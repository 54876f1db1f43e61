//! What the reference implementation's shapes have no place for: tips, blocks, nodes, the share log, and who found each share.

use core::net::SocketAddr;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::BTreeMap;

use adit_channel::{ChannelKind, RewardKind};
use adit_pool::server::{ConnectionStatus, Metrics, Status};
use adit_pool::{ChannelReport, ChannelShares, Distribution, WorkerShares};
use adit_units::{Difficulty, Monotonic};
use bitcoin::{Address, Network, Script};
use serde::Serialize;

use super::{List, NodeView, PoolView, is_measured, sum};
use crate::names::hex;
use crate::plain;
use crate::request::Page;
use crate::shapes::{float, target};

/// `/api/adit/v1/pool`
#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    uptime_secs: u64,
    network: String,
    instance: u16,
    connections: u64,
    connections_refused: BTreeMap<&'static str, u64>,
    channels: u64,
    hashrate: u64,
    accepted: u64,
    rejected: BTreeMap<&'static str, u64>,
    /// A number too great for many readers of JSON, so as text.
    work_hashes: String,
    blocks: Blocks,
    tip: Tip,
    log: Log,
    nodes: Vec<NodeShown<'a>>,
}

#[derive(Debug, Serialize)]
struct Blocks {
    found: u64,
    accepted: u64,
    stale: u64,
    refused: u64,
    faulty: u64,
}

#[derive(Debug, Serialize)]
struct Tip {
    height: Option<u32>,
    template_age_secs: Option<u64>,
    to_first_miner_secs: Option<f64>,
    to_last_miner_secs: Option<f64>,
    on_empty_work_secs: f64,
}

#[derive(Debug, Serialize)]
struct Log {
    /// Accepted shares that are not on disk yet.
    waiting: u64,
    /// For how long the oldest has been waiting.
    lag_secs: u64,
}

#[derive(Debug, Serialize)]
struct NodeShown<'a> {
    name: Cow<'a, str>,
    state: &'static str,
    reason: Option<Cow<'a, str>>,
    height: Option<u32>,
}

impl<'a> Overview<'a> {
    pub(super) fn of(view: &'a PoolView) -> Self {
        let Status { metrics, rules, uptime, .. } = &*view.status;
        let Metrics { connections, channels, accepted, .. } = *metrics;
        let refused = metrics.refused_connections.iter();
        let rejected = metrics.rejected.iter();
        let node = |node: &'a NodeView| NodeShown {
            name: plain(&node.name),
            state: node.state,
            reason: node.reason.as_deref().map(plain),
            height: node.height,
        };
        Self {
            uptime_secs: uptime.as_secs(),
            network: rules.network.to_string(),
            instance: rules.instance,
            connections,
            connections_refused: refused.map(|(limit, number)| (limit.as_str(), *number)).collect(),
            channels,
            hashrate: metrics.hashrate.to_hashes_per_second(),
            accepted,
            rejected: rejected.map(|(code, number)| (code.as_str(), *number)).collect(),
            work_hashes: metrics.work.to_hashes().to_string(),
            blocks: Blocks {
                found: metrics.blocks_found,
                accepted: metrics.blocks_accepted,
                stale: metrics.blocks_stale,
                refused: metrics.blocks_refused,
                faulty: metrics.blocks_faulty,
            },
            tip: Tip {
                height: metrics.height.map(|height| height.0),
                template_age_secs: metrics.template_age.map(|age| age.as_secs()),
                to_first_miner_secs: metrics.tip_to_first_miner.as_ref().map(Duration::as_secs_f64),
                to_last_miner_secs: metrics.tip_to_last_miner.as_ref().map(Duration::as_secs_f64),
                on_empty_work_secs: metrics.time_on_empty_work.as_secs_f64(),
            },
            log: Log { waiting: metrics.unwritten, lag_secs: metrics.log_lag.as_secs() },
            nodes: view.nodes.iter().map(node).collect(),
        }
    }
}

/// `/api/adit/v1/pool/connections`
pub(super) struct Connections;

impl Connections {
    pub(super) fn of(status: &Status, page: Page) -> List<Connection<'_>> {
        let shown = page.of(status.connections.iter()).into_iter();
        List {
            offset: page.offset,
            limit: page.limit,
            total: status.connections.len(),
            items: shown.map(|connection| Connection::of(status, connection)).collect(),
        }
    }
}

/// `/api/adit/v1/pool/connections/{id}`
#[derive(Debug, Serialize)]
pub(super) struct Connection<'a> {
    id: u32,
    peer: SocketAddr,
    device: Cow<'a, str>,
    connected_secs: u64,
    channels: usize,
    workers: usize,
    /// Accepted shares of workers beyond those that are told apart.
    other_workers_accepted: u64,
    hashrate: u64,
    accepted: u64,
    rejected: u64,
    last_share_secs: Option<u64>,
}

impl<'a> Connection<'a> {
    pub(super) fn of(status: &Status, connection: &'a ConnectionStatus) -> Self {
        let report = &*connection.report;
        let shares = || report.channels.iter().map(|channel| &channel.shares);
        Self {
            id: connection.id.0,
            peer: connection.peer,
            device: plain(&report.device),
            connected_secs: status.at.saturating_since(connection.since).as_secs(),
            channels: report.channels.len(),
            workers: report.workers.len(),
            other_workers_accepted: report.other_workers.accepted,
            hashrate: sum(report.channels.iter()),
            accepted: shares().fold(0, |sum, shares| sum.saturating_add(shares.accepted)),
            rejected: shares().fold(0, |sum, shares| sum.saturating_add(shares.rejected_total())),
            last_share_secs: since(status, shares().filter_map(|shares| shares.last).max()),
        }
    }
}

/// `/api/adit/v1/pool/connections/{id}/channels`
pub(super) struct Channels;

impl Channels {
    pub(super) fn of<'a>(status: &Status, connection: &'a ConnectionStatus, page: Page) -> List<Channel<'a>> {
        let channels = &connection.report.channels;
        let shown = page.of(channels.iter()).into_iter();
        List {
            offset: page.offset,
            limit: page.limit,
            total: channels.len(),
            items: shown.map(|channel| Channel::of(status, channel)).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Channel<'a> {
    id: u32,
    kind: &'static str,
    group: u32,
    user: Cow<'a, str>,
    account: Cow<'a, str>,
    worker: Option<Cow<'a, str>>,
    payout: Payout,
    nominal_hashrate: u64,
    hashrate: u64,
    hashrate_is_stable: bool,
    difficulty: f64,
    target_hex: String,
    max_target_hex: String,
    extranonce_prefix_hex: String,
    opened_secs: u64,
    shares: Shares,
}

impl<'a> Channel<'a> {
    fn of(status: &Status, channel: &'a ChannelReport) -> Self {
        Self {
            id: channel.id.0,
            kind: match channel.kind {
                ChannelKind::Standard => "standard",
                ChannelKind::Extended => "extended",
            },
            group: channel.group.0,
            user: plain(channel.user.as_str()),
            account: plain(channel.user.account()),
            worker: channel.user.worker().map(plain),
            payout: Payout::of(channel, status.rules.network),
            nominal_hashrate: channel.nominal.to_hashes_per_second(),
            hashrate: channel.hashrate.to_hashes_per_second(),
            hashrate_is_stable: is_measured(channel),
            difficulty: float(Difficulty::from_target(channel.target)),
            target_hex: target(channel.target),
            max_target_hex: target(channel.max_target),
            extranonce_prefix_hex: hex(channel.extranonce.as_bytes().iter().copied()),
            opened_secs: status.at.saturating_since(channel.opened).as_secs(),
            shares: Shares::of(status, &channel.shares),
        }
    }
}

/// Whom the blocks of a channel pay, and who owes its shares a reward.
#[derive(Debug, Serialize)]
struct Payout {
    /// `pool`, `miner` or `both`.
    block: &'static str,
    /// The pool's part of a block, where that goes to both.
    pool_percent: Option<u8>,
    /// The miner's address, where a block pays him; a script without an address in hexadecimal.
    miner: Option<String>,
    /// Whether the pool owes the user for shares.
    shares_count: bool,
}

impl Payout {
    fn of(channel: &ChannelReport, network: Network) -> Self {
        let (block, pool_percent, miner) = match &channel.pays {
            Distribution::Pooled => ("pool", None, None),
            Distribution::Solo(script) => ("miner", None, Some(address(script, network))),
            Distribution::Split { pool, miner } => {
                ("both", Some(pool.to_u8()), Some(address(miner, network)))
            }
        };
        Self { block, pool_percent, miner, shares_count: channel.reward == RewardKind::Pooled }
    }
}

fn address(script: &Script, network: Network) -> String {
    Address::from_script(script, network)
        .map_or_else(|_| hex(script.as_bytes().iter().copied()), |address| address.to_string())
}

#[derive(Debug, Serialize)]
struct Shares {
    accepted: u64,
    rejected: BTreeMap<&'static str, u32>,
    blocks: u32,
    work_hashes: String,
    best_difficulty: Option<f64>,
    last_share_secs: Option<u64>,
}

impl Shares {
    fn of(status: &Status, shares: &ChannelShares) -> Self {
        Self {
            accepted: shares.accepted,
            rejected: shares.rejected().map(|(code, number)| (code.as_str(), number)).collect(),
            blocks: shares.blocks,
            work_hashes: shares.work.to_hashes().to_string(),
            best_difficulty: shares.best.map(|best| float(Difficulty::from_target(best))),
            last_share_secs: since(status, shares.last),
        }
    }
}

/// `/api/adit/v1/pool/workers`, and those of one connection
pub(super) struct Workers;

impl Workers {
    pub(super) fn of<'a>(status: &Status, connection: &'a ConnectionStatus, page: Page) -> List<Worker<'a>> {
        Self::list(status, core::slice::from_ref(connection), page)
    }

    pub(super) fn of_all(status: &Status, page: Page) -> List<Worker<'_>> {
        Self::list(status, &status.connections, page)
    }

    fn list<'a>(status: &Status, connections: &'a [ConnectionStatus], page: Page) -> List<Worker<'a>> {
        let all = || connections.iter().flat_map(Row::of);
        List {
            offset: page.offset,
            limit: page.limit,
            total: all().count(),
            items: page.of(all()).into_iter().map(|row| row.show(status)).collect(),
        }
    }
}

/// A worker: named by its shares, or where they name none, by the channel's user.
#[derive(Debug, Serialize)]
pub(super) struct Worker<'a> {
    connection: u32,
    channel: u32,
    user: Cow<'a, str>,
    name: Option<Cow<'a, str>>,
    /// `share` or `channel`.
    named_by: &'static str,
    accepted: u64,
    rejected: u64,
    work_hashes: String,
    last_share_secs: Option<u64>,
}

/// What a worker is shown from.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    connection: u32,
    channel: &'a ChannelReport,
    /// The name and shares of one that its shares name.
    named: Option<(&'a str, &'a WorkerShares)>,
}

impl<'a> Row<'a> {
    /// The workers of a connection, by channel.
    pub(super) fn of(connection: &'a ConnectionStatus) -> impl Iterator<Item = Self> {
        let (id, report) = (connection.id.0, &*connection.report);
        report.channels.iter().flat_map(move |channel| {
            let start = report.workers.partition_point(|worker| worker.channel < channel.id);
            let end = report.workers.partition_point(|worker| worker.channel <= channel.id);
            let workers = report.workers.get(start..end).unwrap_or_default();
            let unnamed = workers.is_empty().then_some(Self { connection: id, channel, named: None });
            let named = workers.iter().map(move |worker| Self {
                connection: id,
                channel,
                named: Some((worker.name.as_str(), &worker.shares)),
            });
            unnamed.into_iter().chain(named)
        })
    }

    /// Whom the channel credits.
    pub(super) fn user(self) -> &'a str {
        self.channel.user.as_str()
    }

    /// What the worker is called, if anything.
    pub(super) fn name(self) -> Option<&'a str> {
        self.named.map(|(name, _)| name).or_else(|| self.channel.user.worker())
    }

    /// What it has submitted.
    pub(super) fn shares(self) -> WorkerShares {
        let all = &self.channel.shares;
        self.named.map_or_else(
            || WorkerShares {
                accepted: all.accepted,
                rejected: all.rejected_total(),
                work: all.work,
                last: all.last,
                heard: all.last.unwrap_or_default(),
            },
            |(_, shares)| *shares,
        )
    }

    fn show(self, status: &Status) -> Worker<'a> {
        let WorkerShares { accepted, rejected, work, last, .. } = self.shares();
        Worker {
            connection: self.connection,
            channel: self.channel.id.0,
            user: plain(self.user()),
            name: self.name().map(plain),
            named_by: if self.named.is_some() { "share" } else { "channel" },
            accepted,
            rejected,
            work_hashes: work.to_hashes().to_string(),
            last_share_secs: since(status, last),
        }
    }
}

fn since(status: &Status, then: Option<Monotonic>) -> Option<u64> {
    then.map(|then| status.at.saturating_since(then).as_secs())
}

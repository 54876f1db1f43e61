//! The metrics of a pool: the reference implementation's names, and ours.
//!
//! No label is made of a name that a miner gave itself, and none of a connection: both are many and change, and each would be a series of its own.
//! Who wants that of workers asks for [`workers`].
//! Where the reference implementation has a series for each channel, there is one for all of them here.

use core::fmt;
use core::time::Duration;

use adit_channel::ChannelKind;
use adit_messages::error_code::SubmitSharesError;
use adit_node::Health;
use adit_pool::ChannelReport;
use adit_pool::server::{Metrics, Status};

use super::{NodeView, PoolView, channels, sum};
use crate::exposition::{ALL, Exposition, Metric, SILENT_AFTER, counter, gauge};
use crate::plain;

pub(super) mod workers;

/// Nodes that have series of their own, the most preferred first.
const NODES_NAMED: usize = 32;

// The reference implementation calls all of its metrics gauges.
static UPTIME: Metric = gauge("sv2_uptime_seconds", "Seconds since the server was started.");
static CLIENTS: Metric = gauge("sv2_clients_total", "Connections whose handshake is done.");
static CLIENT_CHANNELS: Metric = gauge("sv2_client_channels", "Open channels, by kind.");
static CLIENT_HASHRATE: Metric =
    gauge("sv2_client_hashrate_total", "Speed of all channels, in hashes per second.");
static CHANNEL_HASHRATE: Metric =
    gauge("sv2_client_channel_hashrate", "Speed of all channels, in hashes per second.");
static CLIENT_ACCEPTED: Metric =
    gauge("sv2_client_shares_accepted_total", "Accepted shares of all channels.");
static CLIENT_REJECTED: Metric =
    gauge("sv2_client_shares_rejected_total", "Refused shares of all channels, by error code.");
static CLIENT_BLOCKS: Metric = gauge("sv2_client_blocks_found_total", "Blocks that miners found.");

static CONNECTIONS: Metric =
    gauge("adit_pool_connections", "Open connections, those in their handshake included.");
static REFUSED: Metric =
    counter("adit_pool_connections_refused_total", "Connections that were refused, by the limit they met.");
static CHANNELS: Metric = gauge("adit_pool_channels", "Open channels.");
static SILENT: Metric =
    gauge("adit_pool_channels_silent", "Channels without an accepted share for ten minutes.");
static HASHRATE: Metric =
    gauge("adit_pool_hashrate", "Accepted work of the last two minutes, in hashes per second.");
static WORK: Metric = counter("adit_pool_work_hashes_total", "Work of accepted shares, in hashes.");
static ACCEPTED: Metric = counter("adit_pool_shares_accepted_total", "Accepted shares, blocks among them.");
static REJECTED: Metric = counter("adit_pool_shares_rejected_total", "Refused shares, by error code.");
static UNWRITTEN: Metric =
    gauge("adit_pool_log_waiting_shares", "Accepted shares that are not on stable storage yet.");
static LOG_LAG: Metric = gauge(
    "adit_pool_log_lag_seconds",
    "For how long the oldest share waits for stable storage; 0 below one second.",
);
static FOUND: Metric = counter("adit_pool_blocks_found_total", "Blocks that miners found.");
static BLOCKS: Metric = counter("adit_pool_blocks_total", "Blocks, by what became of them.");
static FAULTY: Metric = counter(
    "adit_pool_blocks_faulty_total",
    "Found blocks that failed our own check: a fault of the program.",
);
static HEIGHT: Metric = gauge("adit_pool_height", "Height of the block that is mined now.");
static TEMPLATE_AGE: Metric = gauge("adit_pool_template_age_seconds", "Since the last template came.");
static SUPPLY: Metric = gauge("adit_pool_templates_up", "1 while templates come from any node.");
static FIRST: Metric =
    gauge("adit_pool_tip_to_first_miner_seconds", "From hearing of the present tip to the first miner.");
static LAST: Metric =
    gauge("adit_pool_tip_to_last_miner_seconds", "From hearing of the present tip to the last miner so far.");
static EMPTY: Metric = counter(
    "adit_pool_empty_work_seconds_total",
    "How long miners were on empty blocks because templates came later than their tips.",
);
static NODE: Metric =
    gauge("adit_pool_node_info", "Always 1; says which node a number stands for, the most preferred first.");
static NODE_STATE: Metric =
    gauge("adit_pool_node_state", "1 for the state that the node is in, 0 for the others.");
static NODE_HEIGHT: Metric =
    gauge("adit_pool_node_height", "Height of the block that the node's last template is for.");

/// A time as the text has it: seconds, to the microsecond.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// Writes all metrics.
pub(super) fn write(view: &PoolView) -> String {
    let mut out = Exposition::default();
    let status = &*view.status;
    write_theirs(&mut out, status);
    write_miners(&mut out, status);
    write_blocks(&mut out, status);
    write_nodes(&mut out, &view.nodes);
    out.into_text()
}

fn write_theirs(out: &mut Exposition, status: &Status) {
    let Metrics { accepted, rejected, blocks_found, .. } = &status.metrics;
    let is_extended = |channel: &&ChannelReport| channel.kind == ChannelKind::Extended;
    let (all, extended) = (channels(status).count(), channels(status).filter(is_extended).count());
    let hashrate = sum(channels(status));
    let place = [("client_id", ALL), ("channel_id", ALL), ("user_identity", ALL)];
    out.single(&UPTIME, status.uptime.as_secs());
    out.single(&CLIENTS, status.connections.len());
    let mut kinds = out.begin(&CLIENT_CHANNELS);
    kinds.add(&[("channel_type", "extended")], extended);
    kinds.add(&[("channel_type", "standard")], all - extended);
    out.single(&CLIENT_HASHRATE, hashrate);
    out.begin(&CHANNEL_HASHRATE).add(&place, hashrate);
    out.begin(&CLIENT_ACCEPTED).add(&place, accepted);
    let mut samples = out.begin(&CLIENT_REJECTED);
    for (code, number) in rejected {
        let [client, channel, user] = place;
        samples.add(&[client, channel, ("error_code", code.as_str()), user], number);
    }
    out.single(&CLIENT_BLOCKS, blocks_found);
}

fn write_miners(out: &mut Exposition, status: &Status) {
    let metrics = &status.metrics;
    out.single(&CONNECTIONS, metrics.connections);
    let mut samples = out.begin(&REFUSED);
    for (limit, number) in &metrics.refused_connections {
        samples.add(&[("limit", limit.as_str())], number);
    }
    out.single(&CHANNELS, metrics.channels);
    let is_silent = |channel: &&ChannelReport| {
        status.at.saturating_since(channel.shares.last.unwrap_or(channel.opened)) >= SILENT_AFTER
    };
    out.single(&SILENT, channels(status).filter(is_silent).count());
    out.single(&HASHRATE, metrics.hashrate.to_hashes_per_second());
    out.single(&WORK, metrics.work.to_hashes());
    out.single(&ACCEPTED, metrics.accepted);
    let mut samples = out.begin(&REJECTED);
    let rejected: &[(SubmitSharesError, u64)] = &metrics.rejected;
    for (code, number) in rejected {
        samples.add(&[("error_code", code.as_str())], number);
    }
    out.single(&UNWRITTEN, metrics.unwritten);
    out.single(&LOG_LAG, Seconds(metrics.log_lag));
}

fn write_blocks(out: &mut Exposition, status: &Status) {
    let metrics = &status.metrics;
    out.single(&FOUND, metrics.blocks_found);
    let mut samples = out.begin(&BLOCKS);
    samples.add(&[("fate", "accepted")], metrics.blocks_accepted);
    samples.add(&[("fate", "stale")], metrics.blocks_stale);
    samples.add(&[("fate", "refused")], metrics.blocks_refused);
    out.single(&FAULTY, metrics.blocks_faulty);
    if let Some(height) = metrics.height {
        out.single(&HEIGHT, height.0);
    }
    // What is not known yet has no sample.
    let times = [
        (&TEMPLATE_AGE, metrics.template_age),
        (&FIRST, metrics.tip_to_first_miner),
        (&LAST, metrics.tip_to_last_miner),
        (&EMPTY, Some(metrics.time_on_empty_work)),
    ];
    for (metric, time) in times {
        if let Some(time) = time {
            out.single(metric, Seconds(time));
        }
    }
    out.single(&SUPPLY, u8::from(matches!(status.health, Health::Up)));
}

fn write_nodes(out: &mut Exposition, nodes: &[NodeView]) {
    let nodes: Vec<(String, &NodeView)> =
        nodes.iter().take(NODES_NAMED).enumerate().map(|(place, node)| (place.to_string(), node)).collect();
    let mut samples = out.begin(&NODE);
    for (place, node) in &nodes {
        samples.add(&[("node", place), ("name", &plain(&node.name))], 1);
    }
    let mut samples = out.begin(&NODE_STATE);
    for (place, node) in &nodes {
        for state in ["starting", "up", "down"] {
            samples.add(&[("node", place), ("state", state)], u8::from(node.state == state));
        }
    }
    let mut samples = out.begin(&NODE_HEIGHT);
    for (place, node) in &nodes {
        if let Some(height) = node.height {
            samples.add(&[("node", place)], height);
        }
    }
}

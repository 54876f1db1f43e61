//! The metrics of a translator: the reference implementation's names, and ours.
//!
//! No label is made of a name that a machine gave itself: names of machines are many, and each would be a series of its own. Upstreams are named
//! by their place in the operator's list, and channels by number up to a limit.

use core::time::Duration;
use std::borrow::Cow;
use std::collections::BTreeMap;

use adit_messages::error_code::SubmitSharesError;
use adit_translator::{ChannelStatus, ShareCounts, Status, UpstreamShares};

use super::{channels, in_use, ours, overlong, sum};
use crate::exposition::{ALL, Exposition, Metric, SILENT_AFTER, counter, gauge};
use crate::{label, plain};

/// Channels that have series of their own; where there are more, there is one series for all of an upstream, with [`ALL`] for their number.
const CHANNELS_NAMED: usize = 64;
/// Upstreams that have series of their own, best first.
const UPSTREAMS_NAMED: usize = 32;

// The reference implementation calls all of its metrics gauges, those of channels that come and go rightly.
static UPTIME: Metric = gauge("sv2_uptime_seconds", "Seconds since the program was started.");
static CHANNELS: Metric = gauge("sv2_server_channels", "Channels that are open at the upstream, by kind.");
static CHANNELS_HASHRATE: Metric =
    gauge("sv2_server_hashrate_total", "What the upstream was told of all channels, in hashes per second.");
static CHANNEL_HASHRATE: Metric =
    gauge("sv2_server_channel_hashrate", "What the upstream was told of a channel, in hashes per second.");
static CHANNEL_ACCEPTED: Metric =
    gauge("sv2_server_shares_accepted_total", "Shares that the upstream accepted, by channel.");
static CHANNEL_REJECTED: Metric =
    gauge("sv2_server_shares_rejected_total", "Shares that the upstream refused, by channel and error code.");
static BLOCKS: Metric = gauge("sv2_server_blocks_found_total", "Blocks that machines found.");
static MACHINES: Metric = gauge("sv1_clients_total", "Machines that are connected.");
static HASHRATE: Metric =
    gauge("sv1_hashrate_total", "Measured speed of all machines, in hashes per second.");

static SEEN: Metric = counter("adit_translator_machines_seen_total", "Machines that have connected.");
static SILENT: Metric =
    gauge("adit_translator_machines_silent", "Machines without an accepted share for ten minutes.");
static LONG_COINBASE: Metric = gauge(
    "adit_translator_machines_long_coinbase",
    "Machines that are given coinbases which are longer than such devices are known to take.",
);
static CLASS_MACHINES: Metric =
    gauge("adit_translator_class_machines", "Machines that are connected, by class of device.");
static CLASS_HASHRATE: Metric =
    gauge("adit_translator_class_hashrate", "Measured speed in hashes per second, by class of device.");
static REFUSED: Metric =
    counter("adit_translator_connections_refused_total", "Connections that were refused by a limit.");
static SHARES: Metric =
    counter("adit_translator_shares_total", "Shares that machines submitted, by what they were told.");
static SHARE_BLOCKS: Metric =
    counter("adit_translator_blocks_total", "Accepted shares of machines that were blocks.");
static UPSTREAM: Metric =
    gauge("adit_translator_upstream_info", "Always 1; says which upstream a number stands for, best first.");
static UPSTREAM_STATE: Metric =
    gauge("adit_translator_upstream_state", "1 for the state that the upstream is in, 0 for the others.");
static UPSTREAM_SHARES: Metric =
    counter("adit_translator_upstream_shares_total", "Shares that were sent up, by what became of them.");
static UPSTREAM_PENDING: Metric =
    gauge("adit_translator_upstream_shares_pending", "Shares that the upstream has not answered yet.");
static UPSTREAM_REFUSALS: Metric =
    counter("adit_translator_upstream_refusals_total", "Shares that the upstream refused, by error code.");
static UPSTREAM_WORK: Metric = counter(
    "adit_translator_upstream_work_hashes_total",
    "Work of the shares that the upstream accepted, in hashes.",
);

/// Writes all metrics.
pub(super) fn write(status: &Status) -> String {
    let mut out = Exposition::default();
    out.single(&UPTIME, status.uptime.as_secs());
    write_channels(&mut out, status);
    write_machines(&mut out, status);
    write_upstreams(&mut out, status);
    out.into_text()
}

/// A channel, or all channels of an upstream together.
struct Row<'a> {
    channel: Cow<'static, str>,
    user: Cow<'a, str>,
    hashrate: u64,
    accepted: u64,
    refusals: BTreeMap<Cow<'a, str>, u64>,
}

impl<'a> Row<'a> {
    fn of(channel: Cow<'static, str>, user: &'a str, channels: &'a [ChannelStatus]) -> Self {
        let mut refusals: BTreeMap<Cow<'_, str>, u64> =
            SubmitSharesError::ALL.iter().map(|code| (Cow::Borrowed(code.as_str()), 0)).collect();
        let all = channels.iter().flat_map(|channel| &channel.shares.refusals);
        for (code, number) in all {
            let is_bounded = refusals.len() < SubmitSharesError::ALL.len() + REFUSALS_NAMED;
            let code = label(code);
            let code = if is_bounded || refusals.contains_key(&code) { code } else { Cow::Borrowed(OTHER) };
            let sum = refusals.entry(code).or_insert(0);
            *sum = sum.saturating_add(*number);
        }
        let accepted =
            channels.iter().fold(0_u64, |sum, channel| sum.saturating_add(channel.shares.accepted));
        Self {
            channel,
            user: plain(user),
            hashrate: sum(channels.iter().map(|channel| channel.nominal)),
            accepted,
            refusals,
        }
    }
}

/// Error codes that have a series of their own beside the ones we know.
const REFUSALS_NAMED: usize = 16;
/// The error code of all others.
const OTHER: &str = "other";

fn write_channels(out: &mut Exposition, status: &Status) {
    let mut kinds = out.begin(&CHANNELS);
    kinds.add(&[("channel_type", "extended")], channels(status).count());
    kinds.add(&[("channel_type", "standard")], 0);
    out.single(&CHANNELS_HASHRATE, sum(channels(status).map(|channel| channel.nominal)));

    let is_named = channels(status).nth(CHANNELS_NAMED).is_none();
    let rows: Vec<Row<'_>> = in_use(status)
        .flat_map(|upstream| {
            let length = if is_named { 1 } else { upstream.channels.len().max(1) };
            upstream.channels.chunks(length).map(|channels| {
                let number = channels.first().map(|channel| channel.channel_id.to_string());
                let number = number.filter(|_| is_named).map_or(Cow::Borrowed(ALL), Cow::Owned);
                Row::of(number, &upstream.user, channels)
            })
        })
        .collect();
    let mut samples = out.begin(&CHANNEL_HASHRATE);
    for row in &rows {
        samples.add(&[("channel_id", &row.channel), ("user_identity", &row.user)], row.hashrate);
    }
    let mut samples = out.begin(&CHANNEL_ACCEPTED);
    for row in &rows {
        samples.add(&[("channel_id", &row.channel), ("user_identity", &row.user)], row.accepted);
    }
    let mut samples = out.begin(&CHANNEL_REJECTED);
    for row in &rows {
        for (code, number) in &row.refusals {
            let labels = [("channel_id", &*row.channel), ("error_code", code), ("user_identity", &*row.user)];
            samples.add(&labels, number);
        }
    }
    out.single(&BLOCKS, status.shares.blocks);
}

fn write_machines(out: &mut Exposition, status: &Status) {
    let machines = &status.machines;
    out.single(&MACHINES, machines.len());
    out.single(&HASHRATE, sum(machines.iter().map(|machine| machine.hashrate)));
    out.single(&SEEN, status.machines_seen);
    let is_silent = |since: Duration| since >= SILENT_AFTER;
    let silent = machines.iter().filter(|machine| is_silent(machine.last_share.unwrap_or(machine.connected)));
    out.single(&SILENT, silent.count());
    out.single(&LONG_COINBASE, overlong(status));
    out.single(&REFUSED, status.connections_refused);

    let mut classes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for machine in machines {
        let (number, hashrate) = classes.entry(machine.class).or_default();
        *number += 1;
        *hashrate = hashrate.saturating_add(machine.hashrate.to_hashes_per_second());
    }
    let mut samples = out.begin(&CLASS_MACHINES);
    for (class, (number, _)) in &classes {
        samples.add(&[("class", class)], number);
    }
    let mut samples = out.begin(&CLASS_HASHRATE);
    for (class, (_, hashrate)) in &classes {
        samples.add(&[("class", class)], hashrate);
    }

    let ShareCounts { accepted, stale, duplicate, low_difficulty, invalid, blocks } = status.shares;
    let mut samples = out.begin(&SHARES);
    for (outcome, number) in [
        ("accepted", accepted),
        ("stale", stale),
        ("duplicate", duplicate),
        ("low-difficulty", low_difficulty),
        ("invalid", invalid),
    ] {
        samples.add(&[("outcome", outcome)], number);
    }
    out.single(&SHARE_BLOCKS, blocks);
}

fn write_upstreams(out: &mut Exposition, status: &Status) {
    let upstreams: Vec<_> = status
        .upstreams
        .iter()
        .take(UPSTREAMS_NAMED)
        .zip(0_u8..)
        .map(|(it, place)| (place.to_string(), it))
        .collect();
    let mut samples = out.begin(&UPSTREAM);
    for (place, upstream) in &upstreams {
        let (address, user) = (plain(&upstream.address), plain(&upstream.user));
        samples.add(&[("upstream", place), ("address", &address), ("user_identity", &user)], 1);
    }
    let mut samples = out.begin(&UPSTREAM_STATE);
    for (place, upstream) in &upstreams {
        for state in ours::STATES {
            let is_it = u8::from(ours::state(&upstream.state) == state);
            samples.add(&[("upstream", place), ("state", state)], is_it);
        }
    }
    let mut samples = out.begin(&UPSTREAM_SHARES);
    for (place, upstream) in &upstreams {
        let UpstreamShares { accepted, refused, lost, .. } = upstream.shares;
        for (outcome, number) in [("accepted", accepted), ("refused", refused), ("lost", lost)] {
            samples.add(&[("upstream", place), ("outcome", outcome)], number);
        }
    }
    let mut samples = out.begin(&UPSTREAM_PENDING);
    for (place, upstream) in &upstreams {
        samples.add(&[("upstream", place)], upstream.shares.pending);
    }
    let mut samples = out.begin(&UPSTREAM_REFUSALS);
    for (place, upstream) in &upstreams {
        let mut codes = BTreeMap::new();
        for (code, number) in upstream.shares.refusals.iter().take(REFUSALS_NAMED) {
            *codes.entry(label(code)).or_insert(0_u64) += number;
        }
        for (code, number) in codes {
            samples.add(&[("upstream", place), ("error_code", &code)], number);
        }
    }
    let mut samples = out.begin(&UPSTREAM_WORK);
    for (place, upstream) in &upstreams {
        samples.add(&[("upstream", place)], upstream.shares.work);
    }
}

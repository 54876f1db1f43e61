//! The shapes of the monitoring API of the reference implementation's pool (`pool_sv2`, by `stratum-apps` 0.8).
//!
//! Names and types of fields are those that its clients know: counts there have 32 bits, and sums of work are in units of difficulty one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use adit_channel::ChannelKind;
use adit_pool::server::{ConnectionStatus, Status};
use adit_pool::{ChannelReport, SessionReport};
use adit_units::{Difficulty, ShareRate, Target};
use serde::Serialize;

use super::{List, channels, client_kind, is_measured, speed, sum};
use crate::names::hex;
use crate::plain;
use crate::request::Page;
use crate::shapes::{count, float, target};

/// `/api/v1/global`
#[derive(Debug, Serialize)]
pub(super) struct Global {
    /// A pool has nobody above it.
    server: Option<()>,
    sv2_clients: Summary,
    /// Nor clients of this kind.
    sv1_clients: Option<()>,
    uptime_secs: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    total_clients: usize,
    total_channels: usize,
    extended_channels: usize,
    standard_channels: usize,
    total_hashrate: u64,
}

impl Global {
    pub(super) fn of(status: &Status) -> Self {
        let total_channels = channels(status).count();
        let extended_channels = channels(status).filter(|channel| is_extended(channel)).count();
        let sv2_clients = Summary {
            total_clients: status.connections.len(),
            total_channels,
            extended_channels,
            standard_channels: total_channels - extended_channels,
            total_hashrate: sum(channels(status)),
        };
        Self { server: None, sv2_clients, sv1_clients: None, uptime_secs: status.uptime.as_secs() }
    }
}

/// `/api/v1/clients`
pub(super) struct Clients;

impl Clients {
    pub(super) fn of(status: &Status, page: Page) -> List<Client> {
        List {
            offset: page.offset,
            limit: page.limit,
            total: status.connections.len(),
            items: page.of(status.connections.iter()).into_iter().map(Client::of).collect(),
        }
    }
}

/// `/api/v1/clients/{client_id}`
#[derive(Debug, Serialize)]
pub(super) struct Client {
    client_id: u32,
    client_kind: &'static str,
    extended_channels_count: usize,
    standard_channels_count: usize,
    total_hashrate: u64,
}

impl Client {
    pub(super) fn of(connection: &ConnectionStatus) -> Self {
        let SessionReport { channels, .. } = &*connection.report;
        let extended_channels_count = channels.iter().filter(|channel| is_extended(channel)).count();
        Self {
            client_id: connection.id.0,
            client_kind: client_kind(&connection.report),
            extended_channels_count,
            standard_channels_count: channels.len() - extended_channels_count,
            total_hashrate: sum(channels.iter()),
        }
    }
}

/// `/api/v1/clients/{client_id}/channels`
#[derive(Debug, Serialize)]
pub(super) struct Channels<'a> {
    client_id: u32,
    offset: usize,
    limit: usize,
    total_extended: usize,
    total_standard: usize,
    extended_channels: Vec<Channel<'a>>,
    standard_channels: Vec<Channel<'a>>,
}

impl<'a> Channels<'a> {
    pub(super) fn of(connection: &'a ConnectionStatus, rate: ShareRate, page: Page) -> Self {
        let all = || connection.report.channels.iter();
        let extended = || all().filter(|channel| is_extended(channel));
        let standard = || all().filter(|channel| !is_extended(channel));
        let show = |channels: Vec<&'a ChannelReport>| {
            channels.into_iter().map(|channel| Channel::of(channel, rate)).collect()
        };
        Self {
            client_id: connection.id.0,
            offset: page.offset,
            limit: page.limit,
            total_extended: extended().count(),
            total_standard: standard().count(),
            extended_channels: show(page.of(extended())),
            standard_channels: show(page.of(standard())),
        }
    }
}

/// An open channel.
#[derive(Debug, Serialize)]
struct Channel<'a> {
    channel_id: u32,
    user_identity: Cow<'a, str>,
    nominal_hashrate: u64,
    stable_hashrate: bool,
    target_hex: String,
    requested_max_target_hex: String,
    extranonce_prefix_hex: String,
    /// Of extended channels only, as the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    full_extranonce_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollable_extranonce_size: Option<usize>,
    expected_shares_per_minute: u32,
    shares_accepted: u32,
    shares_rejected: u32,
    shares_rejected_by_reason: BTreeMap<&'static str, u32>,
    share_work_sum: f64,
    last_share_sequence_number: u32,
    best_diff: f64,
    /// Shares are acknowledged when they are on disk, and not in batches of a size.
    last_batch_accepted: u32,
    last_batch_work_sum: u64,
    share_batch_size: usize,
    blocks_found: u32,
}

impl<'a> Channel<'a> {
    fn of(channel: &'a ChannelReport, rate: ShareRate) -> Self {
        let (shares, extranonce) = (&channel.shares, channel.extranonce);
        let is_extended = is_extended(channel);
        let prefix = if is_extended {
            hex(extranonce.as_bytes().iter().copied())
        } else {
            hex(extranonce.to_full().as_bytes().iter().copied())
        };
        let difficulty_1 = Target::DIFFICULTY_1.to_work().to_hashes();
        let rejected = shares.rejected().filter(|&(_, number)| number > 0);
        Self {
            channel_id: channel.id.0,
            user_identity: plain(channel.user.as_str()),
            nominal_hashrate: speed(channel).to_hashes_per_second(),
            stable_hashrate: is_measured(channel),
            target_hex: target(channel.target),
            requested_max_target_hex: target(channel.max_target),
            extranonce_prefix_hex: prefix,
            full_extranonce_size: is_extended.then(|| extranonce.full_len()),
            rollable_extranonce_size: is_extended.then(|| extranonce.rollable_len()),
            expected_shares_per_minute: rate.to_shares_per_minute(),
            shares_accepted: count(shares.accepted),
            shares_rejected: count(shares.rejected_total()),
            shares_rejected_by_reason: rejected.map(|(code, number)| (code.as_str(), number)).collect(),
            share_work_sum: shares.work.to_hashes() as f64 / difficulty_1 as f64,
            last_share_sequence_number: shares.last_number.0,
            best_diff: shares.best.map_or(0.0, |best| float(Difficulty::from_target(best))),
            last_batch_accepted: 0,
            last_batch_work_sum: 0,
            share_batch_size: 1,
            blocks_found: shares.blocks,
        }
    }
}

fn is_extended(channel: &ChannelReport) -> bool {
    channel.kind == ChannelKind::Extended
}

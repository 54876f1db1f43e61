//! The shapes of the monitoring API of the reference implementation's translator (`translator_sv2` 0.6.0).
//!
//! Names and types of fields are those that its clients know: counts there have 32 bits, and sums of work are in units of difficulty one.

use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use adit_translator::{ChannelStatus, MachineStatus, Status, worker_name};
use adit_units::Target;
use serde::Serialize;

use super::{best, channels, refusals, sum};
use crate::names::hex;
use crate::plain;
use crate::request::Page;
use crate::shapes::{STABLE_SHARES, count, float, target};

/// `/api/v1/global`
#[derive(Debug, Serialize)]
pub(super) struct Global {
    server: ServerSummary,
    /// A translator has no clients of this kind.
    sv2_clients: Option<()>,
    sv1_clients: ClientsSummary,
    uptime_secs: u64,
}

#[derive(Debug, Serialize)]
struct ServerSummary {
    total_channels: usize,
    extended_channels: usize,
    standard_channels: usize,
    total_hashrate: u64,
}

#[derive(Debug, Serialize)]
struct ClientsSummary {
    total_clients: usize,
    total_hashrate: u64,
}

impl Global {
    pub(super) fn of(status: &Status) -> Self {
        let extended_channels = channels(status).count();
        Self {
            server: ServerSummary {
                total_channels: extended_channels,
                extended_channels,
                standard_channels: 0,
                total_hashrate: sum(channels(status).map(|channel| channel.nominal)),
            },
            sv2_clients: None,
            sv1_clients: ClientsSummary {
                total_clients: status.machines.len(),
                total_hashrate: sum(status.machines.iter().map(|machine| machine.hashrate)),
            },
            uptime_secs: status.uptime.as_secs(),
        }
    }
}

/// `/api/v1/server`
#[derive(Debug, Serialize)]
pub(super) struct Server {
    extended_channels_count: usize,
    standard_channels_count: usize,
    total_hashrate: u64,
}

impl Server {
    pub(super) fn of(status: &Status) -> Self {
        Self {
            extended_channels_count: channels(status).count(),
            standard_channels_count: 0,
            total_hashrate: sum(channels(status).map(|channel| channel.nominal)),
        }
    }
}

/// `/api/v1/server/channels`
#[derive(Debug, Serialize)]
pub(super) struct ServerChannels<'a> {
    offset: usize,
    limit: usize,
    total_extended: usize,
    total_standard: usize,
    extended_channels: Vec<ServerChannel<'a>>,
    /// A translator opens no channels of this kind.
    standard_channels: [(); 0],
}

impl<'a> ServerChannels<'a> {
    pub(super) fn of(status: &'a Status, page: Page) -> Self {
        Self {
            offset: page.offset,
            limit: page.limit,
            total_extended: channels(status).count(),
            total_standard: 0,
            extended_channels: page.of(channels(status).map(|channel| ServerChannel::of(status, channel))),
            standard_channels: [],
        }
    }
}

/// An extended channel that is open at the upstream.
#[derive(Debug, Serialize)]
struct ServerChannel<'a> {
    channel_id: u32,
    user_identity: Cow<'a, str>,
    nominal_hashrate: u64,
    target_hex: String,
    extranonce_prefix_hex: String,
    full_extranonce_size: usize,
    rollable_extranonce_size: u16,
    version_rolling: bool,
    shares_acknowledged: u32,
    shares_submitted: u32,
    shares_rejected: u32,
    shares_rejected_by_reason: BTreeMap<Cow<'a, str>, u32>,
    acknowledged_work_sum: u64,
    validated_work_sum: f64,
    best_diff: f64,
    blocks_found: u32,
}

impl<'a> ServerChannel<'a> {
    fn of(status: &Status, channel: &'a ChannelStatus) -> Self {
        let shares = &channel.shares;
        let submitted = [shares.accepted, shares.refused, shares.lost, shares.pending];
        let difficulty_1 = Target::DIFFICULTY_1.to_work().to_hashes();
        Self {
            channel_id: channel.channel_id,
            user_identity: plain(&channel.user),
            nominal_hashrate: channel.nominal.to_hashes_per_second(),
            target_hex: target(channel.target),
            extranonce_prefix_hex: hex(channel.extranonce_prefix.iter().copied()),
            full_extranonce_size: channel.extranonce_prefix.len() + usize::from(channel.extranonce_size),
            rollable_extranonce_size: channel.extranonce_size,
            version_rolling: channel.version_rolling,
            shares_acknowledged: count(shares.accepted),
            shares_submitted: count(submitted.into_iter().fold(0, u64::saturating_add)),
            shares_rejected: count(shares.refused),
            shares_rejected_by_reason: reasons(&shares.refusals),
            acknowledged_work_sum: u64::try_from(shares.work / difficulty_1).unwrap_or(u64::MAX),
            validated_work_sum: shares.work as f64 / difficulty_1 as f64,
            best_diff: best(status, channel).map_or(0.0, float),
            blocks_found: count(channel.blocks),
        }
    }
}

/// `/api/v1/sv1/clients`
#[derive(Debug, Serialize)]
pub(super) struct Clients<'a> {
    offset: usize,
    limit: usize,
    total: usize,
    items: Vec<Client<'a>>,
}

impl<'a> Clients<'a> {
    pub(super) fn of(status: &'a Status, page: Page) -> Self {
        let numbers = channels(status).map(|channel| (channel.machine, channel.channel_id));
        let numbers: HashMap<Option<u64>, u32> = numbers.collect();
        let number = |machine: &MachineStatus| numbers.get(&Some(machine.id)).or_else(|| numbers.get(&None));
        let machines = status.machines.iter();
        Self {
            offset: page.offset,
            limit: page.limit,
            total: status.machines.len(),
            items: page.of(machines.map(|machine| Client::on(number(machine).copied(), machine))),
        }
    }
}

/// `/api/v1/sv1/clients/{client_id}`
#[derive(Debug, Serialize)]
pub(super) struct Client<'a> {
    client_id: u64,
    channel_id: Option<u32>,
    connection_ip: IpAddr,
    /// We do not look for web pages of machines, so this and its like below are nothing.
    management_ip: Option<IpAddr>,
    sv1_username: Cow<'a, str>,
    /// As the pool is told it.
    sv1_worker_name: String,
    target_hex: String,
    /// Nothing where no share was accepted in the minutes that are measured, so that nobody takes such a machine for one that works.
    hashrate: Option<u64>,
    stable_hashrate: bool,
    extranonce1_hex: String,
    extranonce2_len: u8,
    version_rolling_mask: Option<String>,
    version_rolling_min_bit: Option<String>,
    miner_telemetry: Option<()>,
    miner_telemetry_status: Option<()>,
}

impl<'a> Client<'a> {
    pub(super) fn of(status: &Status, machine: &'a MachineStatus) -> Self {
        let is_its = |channel: &&ChannelStatus| channel.machine.is_none_or(|id| id == machine.id);
        Self::on(channels(status).find(is_its).map(|channel| channel.channel_id), machine)
    }

    /// A machine that works on the channel with that number.
    fn on(channel_id: Option<u32>, machine: &'a MachineStatus) -> Self {
        let user = machine.users.first().map_or("", String::as_str);
        Self {
            client_id: machine.id,
            channel_id,
            connection_ip: machine.peer.ip(),
            management_ip: None,
            sv1_username: plain(user),
            sv1_worker_name: plain(worker_name(user).as_str()).into_owned(),
            target_hex: target(machine.difficulty.to_target()),
            hashrate: Some(machine.hashrate.to_hashes_per_second()).filter(|&speed| speed > 0),
            stable_hashrate: machine.shares.accepted >= STABLE_SHARES,
            extranonce1_hex: hex(machine.extranonce1),
            extranonce2_len: machine.extranonce2_len,
            version_rolling_mask: machine.version_mask.map(|mask| format!("{mask:08x}")),
            version_rolling_min_bit: None,
            miner_telemetry: None,
            miner_telemetry_status: None,
        }
    }
}

fn reasons(known: &[(String, u64)]) -> BTreeMap<Cow<'_, str>, u32> {
    refusals(known).into_iter().map(|(code, number)| (code, count(number))).collect()
}

//! What a translator tells of itself: numbers of all machines and upstreams at one moment.

use core::net::SocketAddr;
use core::time::Duration;

use adit_units::{Difficulty, Hashrate, Target};

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Since the program was started.
    pub uptime: Duration,
    /// Whether one channel serves all machines.
    pub aggregated: bool,
    /// Best first.
    pub upstreams: Vec<UpstreamStatus>,
    /// Connected machines, by their number.
    pub machines: Vec<MachineStatus>,
    /// Machines that have connected since the start.
    pub machines_seen: u64,
    /// Connections that were refused by a limit.
    pub connections_refused: u64,
    /// Shares that machines have submitted since the start, of machines that are gone too.
    pub shares: ShareCounts,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// As the operator wrote it, without its key.
    pub address: String,
    /// Whom it credits.
    pub user: String,
    /// How it is.
    pub state: UpstreamState,
    /// Channels that are open on it.
    pub channels: Vec<ChannelStatus>,
    /// Shares that were sent to it, by what became of them.
    pub shares: UpstreamShares,
}

/// How an upstream is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamState {
    /// Not needed now, because a better one is used, or not yet tried again.
    #[default]
    Idle,
    /// Being connected to.
    Connecting,
    /// Machines work for it.
    InUse,
    /// It failed, and is tried again after a pause.
    Failed {
        /// What happened, made printable.
        reason: String,
    },
}

/// One channel of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Its number within the connection.
    pub channel_id: u32,
    /// The machine that it is for, unless it is for all.
    pub machine: Option<u64>,
    /// What the pool credits.
    pub user: String,
    /// What the pool was told.
    pub nominal: Hashrate,
    /// What shares must meet.
    pub target: Target,
    /// Its part of the extranonce, in bytes from the pool.
    pub extranonce_prefix: Box<[u8]>,
    /// The bytes that are left to us.
    pub extranonce_size: u16,
    /// Whether its jobs allow version bits to be rolled.
    pub version_rolling: bool,
    /// What became of its shares.
    pub shares: UpstreamShares,
    /// Blocks among them.
    pub blocks: u64,
}

/// Shares that were sent up, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamShares {
    /// The pool has them.
    pub accepted: u64,
    /// The pool refused them.
    pub refused: u64,
    /// Nobody knows: the connection went before the pool answered, or there was none.
    pub lost: u64,
    /// The pool has not answered yet.
    pub pending: u64,
    /// Sum of the accepted ones' worth, in hashes.
    pub work: u128,
    /// Refused ones by the pool's code, each at most 64 bytes long; only the first 16 codes are told apart.
    pub refusals: Vec<(String, u64)>,
}

/// Shares of machines, by what we said to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareCounts {
    /// Good.
    pub accepted: u64,
    /// On a job that is no more.
    pub stale: u64,
    /// Twice the same.
    pub duplicate: u64,
    /// Not hard enough.
    pub low_difficulty: u64,
    /// Refused for any other reason.
    pub invalid: u64,
    /// Of the accepted ones, those that were blocks.
    pub blocks: u64,
}

impl ShareCounts {
    /// All that were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.stale
            .saturating_add(self.duplicate)
            .saturating_add(self.low_difficulty)
            .saturating_add(self.invalid)
    }
}

/// One machine.
#[derive(Clone, Debug)]
pub struct MachineStatus {
    /// Its number, which no other machine of this run has.
    pub id: u64,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// What it calls itself, if it has said so.
    pub user_agent: String,
    /// The class of devices that it was taken for.
    pub class: &'static str,
    /// The user names that it has authorized, the first being the one that stands for it.
    pub users: Vec<String>,
    /// Our part of its extranonce.
    pub extranonce1: [u8; 4],
    /// The bytes that are left to it.
    pub extranonce2_len: u8,
    /// The version bits that it may roll.
    pub version_mask: Option<u32>,
    /// What its shares must meet now.
    pub difficulty: Difficulty,
    /// Measured over its last shares.
    pub hashrate: Hashrate,
    /// What became of its shares here.
    pub shares: ShareCounts,
    /// What became above of those that were sent up.
    pub upstream: UpstreamShares,
    /// Since it connected.
    pub connected: Duration,
    /// Since its last accepted share.
    pub last_share: Option<Duration>,
    /// The hardest share, by what its hash would be worth.
    pub best: Option<Difficulty>,
    /// Bytes of the first coinbase that was longer than its class of devices is known to take.
    pub long_coinbase: Option<usize>,
}

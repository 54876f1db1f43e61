//! What is written down about every share that earns.

use std::sync::Arc;

use adit_units::{ChannelId, ConnectionId, Height, JobTag, Sats, SequenceNumber, UnixTime, Work};

use crate::{DeclarationId, RewardKind, UserIdentity, WorkerName};

/// One accepted share: the fact that all credit is computed from.
///
/// A role emits it as an effect; the share is acknowledged once the record is on stable storage. `(tag.instance, tag.boot,
/// connection, channel)` tells the channels of all servers and runs apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareRecord {
    /// When the share arrived, by the server's wall clock.
    pub received: UnixTime,
    /// The connection it arrived on.
    pub connection: ConnectionId,
    /// The channel it was submitted on.
    pub channel: ChannelId,
    /// The number that the miner gave it; acknowledgements and nothing else depend on it.
    pub sequence_number: SequenceNumber,
    /// The job that it solves. A job that a miner declared does not carry it in its coinbase, but has one all the same.
    pub tag: JobTag,
    /// Height of the block that was being mined.
    pub height: Height,
    /// What it earns: the expected hashes of the target that its job was issued with.
    pub work: Work,
    /// The header's SHA-256d, in the order of the hash function's output; unlike that of any other share.
    pub hash: [u8; 32],
    /// Whether it is a block as well.
    pub kind: ShareKind,
    /// Who owes it a reward. Where that is not the pool, the pool must never pay for it.
    pub reward: RewardKind,
    /// Who it is credited to: the channel's `user_identity`.
    pub user: UserIdentity,
    /// The device that found it, where the miner names one per share (extension 0x0002).
    pub worker: Option<WorkerName>,
    /// What its job pays, where the miner has made it; the same for all shares of the job.
    pub custom: Option<Arc<CustomShare>>,
}

/// What is known of a job that a miner has made (`SetCustomMiningJob`, spec 5.3.18): what its shares are worth to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CustomShare {
    /// The job.
    pub declaration: DeclarationId,
    /// The fees in what its coinbase pays out: all that is not the chain's subsidy. Where no node has judged the job, no more than those
    /// of the pool's own template.
    pub fees: Sats,
    /// What its coinbase pays to the pool.
    pub pays_pool: Sats,
    /// What its coinbase pays in all, and the subsidy at the least, for what is not claimed is withheld.
    pub value: Sats,
}

/// What a share's hash was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShareKind {
    /// It meets the target of the job.
    Share,
    /// It meets the network's target too: a block.
    Block,
}

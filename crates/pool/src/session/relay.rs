//! Accepted shares for a pool further up, which wants to see what was found and not only what it earned.

use std::sync::Arc;

use adit_channel::{ShareKind, UserIdentity, WorkerName};
use adit_share::{Extranonce, Submission};

use crate::Work;

/// An accepted share, as somebody who was promised its work would have to hear of it.
#[derive(Clone, Debug)]
pub struct RelayedShare {
    /// What it was found on.
    pub work: Arc<Work>,
    /// The version in its header.
    pub version: u32,
    /// The time in its header, in seconds since 1970.
    pub ntime: u32,
    /// The nonce in its header.
    pub nonce: u32,
    /// The whole extranonce.
    pub extranonce: Extranonce,
    /// The header's hash, in the order of the hash function's output.
    pub hash: [u8; 32],
    /// Whether it is a block.
    pub kind: ShareKind,
    /// The channel's user identity.
    pub user: UserIdentity,
    /// The device that found it, where the miner names one.
    pub worker: Option<WorkerName>,
}

impl RelayedShare {
    /// A share on `work` that was judged.
    pub(super) fn new(
        work: &Arc<Work>,
        share: &Submission<'_>,
        extranonce: Extranonce,
        (hash, kind): ([u8; 32], ShareKind),
        (user, worker): (&UserIdentity, Option<WorkerName>),
    ) -> Self {
        Self {
            work: Arc::clone(work),
            version: share.version,
            ntime: share.ntime,
            nonce: share.nonce,
            extranonce,
            hash,
            kind,
            user: user.clone(),
            worker,
        }
    }
}

//! The transactions of declared jobs, for whoever finds a block on one elsewhere.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_channel::DeclarationId;
use adit_pool::server::DeclaredBlocks;
use adit_share::{HEADER_LEN, Tip};
use bitcoin::BlockHash;

use super::shelf::{KEPT_MAX, Owner, Shelf};
use crate::server::DeclaredJob;

/// Most jobs that are remembered. Of an account that has an eighth of them, and else of the address that has most, the oldest is
/// forgotten first.
pub const TEMPLATES_KEPT: usize = KEPT_MAX;

/// The jobs that were declared lately and found good, shared by cloning.
///
/// A pool in the same process looks a block up here that was found through it; those of the present and the former tip are there.
#[derive(Clone, Debug, Default)]
pub struct DeclaredTemplates {
    shared: Arc<Mutex<Jobs>>,
}

#[derive(Debug, Default)]
struct Jobs {
    kept: Shelf<Arc<DeclaredJob>>,
    tips: [Option<BlockHash>; 2],
}

impl DeclaredTemplates {
    /// The job of that declaration, if it is remembered.
    #[must_use]
    pub fn find(&self, id: DeclarationId) -> Option<Arc<DeclaredJob>> {
        self.jobs().kept.find(id).map(Arc::clone)
    }

    /// The block of that header on a declared job, with this whole extranonce in its coinbase, consensus-serialised.
    #[must_use]
    pub fn block(&self, id: DeclarationId, header: &[u8; HEADER_LEN], extranonce: &[u8]) -> Option<Vec<u8>> {
        let job = self.find(id)?;
        Some(job.declaration().block(header, extranonce, job.transactions()))
    }

    /// How many jobs are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs().kept.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a job that was declared from this address.
    pub(super) fn keep(&self, from: IpAddr, job: Arc<DeclaredJob>) {
        let owner = Owner { from, account: job.user().account().into() };
        self.jobs().kept.keep(job.id(), owner, job.held(), job);
    }

    /// Forgets the jobs that can win no more.
    pub(super) fn set_tip(&self, tip: &Tip) {
        let mut jobs = self.jobs();
        let [present, _] = jobs.tips;
        if present == Some(tip.prev_hash) {
            return;
        }
        jobs.tips = [Some(tip.prev_hash), present];
        let Jobs { kept, tips } = &mut *jobs;
        kept.retain(|job| tips.contains(&Some(job.tip().prev_hash)));
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeclaredBlocks for DeclaredTemplates {
    fn block(&self, id: DeclarationId, header: &[u8; HEADER_LEN], extranonce: &[u8]) -> Option<Vec<u8>> {
        Self::block(self, id, header, extranonce)
    }
}

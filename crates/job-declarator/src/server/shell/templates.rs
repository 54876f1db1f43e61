//! The transactions of declared jobs, for whoever finds a block on one elsewhere.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_channel::DeclarationId;
use adit_pool::server::DeclaredBlocks;
use adit_share::{HEADER_LEN, Tip};
use bitcoin::BlockHash;

use crate::server::DeclaredJob;

/// Most jobs that are remembered; the oldest is forgotten first.
pub const TEMPLATES_KEPT: usize = 1_024;

/// The jobs that were declared lately and found good, shared by cloning.
///
/// A pool in the same process looks a block up here that was found through it; those of the present and the former tip are there.
#[derive(Clone, Debug, Default)]
pub struct DeclaredTemplates {
    shared: Arc<Mutex<Jobs>>,
}

#[derive(Debug, Default)]
struct Jobs {
    by_id: HashMap<DeclarationId, Arc<DeclaredJob>>,
    /// The oldest first.
    order: VecDeque<DeclarationId>,
    tips: [Option<BlockHash>; 2],
}

impl DeclaredTemplates {
    /// The job of that declaration, if it is remembered.
    #[must_use]
    pub fn find(&self, id: DeclarationId) -> Option<Arc<DeclaredJob>> {
        self.jobs().by_id.get(&id).map(Arc::clone)
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
        self.jobs().by_id.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a job.
    pub(super) fn keep(&self, job: Arc<DeclaredJob>) {
        let mut jobs = self.jobs();
        let id = job.id();
        if jobs.by_id.insert(id, job).is_none() {
            jobs.order.push_back(id);
        }
        if jobs.order.len() > TEMPLATES_KEPT
            && let Some(oldest) = jobs.order.pop_front()
        {
            jobs.by_id.remove(&oldest);
        }
    }

    /// Forgets the jobs that can win no more.
    pub(super) fn set_tip(&self, tip: &Tip) {
        let mut jobs = self.jobs();
        let [present, _] = jobs.tips;
        if present == Some(tip.prev_hash) {
            return;
        }
        jobs.tips = [Some(tip.prev_hash), present];
        let Jobs { by_id, order, tips } = &mut *jobs;
        by_id.retain(|_, job| tips.contains(&Some(job.tip().prev_hash)));
        order.retain(|id| by_id.contains_key(id));
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

//! How much memory the jobs that a miner has made may take on its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::CustomJob;
use crate::session::Session;

/// Most bytes of the jobs that one connection has made, those that wait among them.
///
/// A job takes little more than one KiB as a rule, so this is enough for one on each of 256 channels, or on few channels for all that could
/// earn and those of the tip before. Where it is not enough, the oldest jobs go first, but never the newest of a channel.
pub const CUSTOM_BYTES_MAX: usize = 512 * 1024;

/// What a connection has left for jobs.
#[derive(Debug, Default)]
pub(super) struct Budget {
    taken: Arc<AtomicUsize>,
}

/// A part of a budget, which it has back when this is dropped: jobs may be held by several channels, and go from each at another time.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    taken: Arc<AtomicUsize>,
}

impl Budget {
    fn take(&self, bytes: usize) -> Option<Room> {
        let left = CUSTOM_BYTES_MAX.saturating_sub(self.taken.load(Ordering::Relaxed));
        (bytes <= left).then(|| {
            self.taken.fetch_add(bytes, Ordering::Relaxed);
            Room { bytes, taken: Arc::clone(&self.taken) }
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Session {
    /// Room for so many bytes of jobs, for which the oldest jobs may have to go that are not the newest of a channel; `None` if there is none
    /// even so.
    pub(super) fn make_room(&mut self, bytes: usize) -> Option<Room> {
        let Self { custom: Some(custom), channels, .. } = self else { return None };
        loop {
            if let Some(room) = custom.budget.take(bytes) {
                return Some(room);
            }
            let tables = channels.iter_mut().filter_map(|open| open.own_jobs.as_deref_mut());
            let spare = tables.filter_map(|jobs| jobs.oldest_spare().map(|id| (id, jobs)));
            let (_, jobs) = spare.min_by_key(|&(id, _)| id)?;
            jobs.drop_oldest();
        }
    }
}

impl CustomJob {
    /// About how many bytes a job takes whose coinbase and merkle path have so many, with the token that it comes with.
    pub(super) const fn size(contents: usize) -> usize {
        size_of::<Self>()
            + size_of::<adit_channel::CustomShare>()
            + size_of::<adit_channel::Token>()
            + contents
    }
}

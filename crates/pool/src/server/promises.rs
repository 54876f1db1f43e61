//! Which shares may be acknowledged: those on stable storage, up to the first block that is in this process alone.

use core::future::pending;
use std::collections::VecDeque;

use bitcoin::BlockHash;

use super::FoundBlocks;

/// The acknowledgements that one connection may give.
///
/// The record of a share can be durable before the block that it made is: the log and the store of blocks are two files, and a
/// node may take its time. Were that share acknowledged and the process killed, its miner would be told of a block that nobody has.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// How many records of the connection are on stable storage.
    durable: u64,
    /// Blocks that were neither on disk nor with a node when last looked at, oldest first, each with the number of its record. Boxed,
    /// because hardly any connection ever has one.
    #[expect(clippy::box_collection, reason = "every connection has this field")]
    held: Option<Box<VecDeque<(u64, BlockHash)>>>,
}

impl Promises {
    /// So many records are on stable storage.
    pub(super) fn note_durable(&mut self, count: u64) {
        self.durable = count;
    }

    /// The `record`-th share is this block, which may be lost with the process.
    pub(super) fn hold(&mut self, record: u64, block: BlockHash) {
        self.held.get_or_insert_default().push_back((record, block));
    }

    /// How many records may be acknowledged.
    pub(super) fn kept(&self) -> u64 {
        let safe = self.oldest().map_or(u64::MAX, |(record, _)| record.saturating_sub(1));
        self.durable.min(safe)
    }

    /// Waits until the oldest such block is safe; for ever if there is none. Cancel safe.
    pub(super) async fn released(&mut self, blocks: &FoundBlocks) {
        let Some((_, block)) = self.oldest() else { return pending().await };
        // On the heap as well: there is room for this in the task of every connection.
        Box::pin(blocks.safe(block)).await;
        self.let_go();
    }

    fn oldest(&self) -> Option<(u64, BlockHash)> {
        self.held.as_ref()?.front().copied()
    }

    fn let_go(&mut self) {
        let Some(held) = &mut self.held else { return };
        held.pop_front();
        if held.is_empty() {
            self.held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn nothing_is_promised_from_a_block_on_that_is_only_here() {
        let mut promises = Promises::default();
        promises.note_durable(4);
        assert_eq!(promises.kept(), 4);
        promises.hold(6, BlockHash::all_zeros());
        promises.note_durable(9);
        assert_eq!(promises.kept(), 5, "what came before the block is as good as ever");
        promises.hold(8, BlockHash::all_zeros());
        promises.let_go();
        assert_eq!(promises.kept(), 7);
        promises.let_go();
        assert_eq!(promises.kept(), 9);
    }
}

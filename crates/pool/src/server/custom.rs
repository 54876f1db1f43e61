//! What all connections share about jobs that miners make: which tokens were used, and who knows the transactions of a block.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use adit_channel::{DeclarationId, Token, Used, UsedTokens};
use adit_share::HEADER_LEN;
use adit_units::Now;

use crate::{FoundCustomBlock, Work};

/// Knows the transactions of jobs that miners have declared, like a job declarator server in the same process.
pub trait DeclaredBlocks: fmt::Debug + Send + Sync {
    /// The block of that header on a declared job, with this whole extranonce in its coinbase, consensus-serialised; `None` if the job's
    /// transactions are not known.
    fn block(&self, id: DeclarationId, header: &[u8; HEADER_LEN], extranonce: &[u8]) -> Option<Vec<u8>>;
}

/// What connections ask about custom jobs. Both questions are rare, so that a lock does no harm.
#[derive(Debug)]
pub(super) struct CustomDesk {
    used: Mutex<UsedTokens>,
    declared: Option<Arc<dyn DeclaredBlocks>>,
}

impl CustomDesk {
    pub(super) fn new(declared: Option<Arc<dyn DeclaredBlocks>>) -> Self {
        Self { used: Mutex::default(), declared }
    }

    /// Uses a token, unless that was done before.
    pub(super) fn use_up(&self, token: &Token, now: Now) -> Result<(), Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).use_up(token, now)
    }

    /// The whole of a block that was found on a miner's own job, if its transactions are known: there are none, they were declared here, or
    /// they are those of the work that everybody else does.
    pub(super) fn complete(&self, found: &FoundCustomBlock, work: Option<&Work>) -> Option<Vec<u8>> {
        let FoundCustomBlock { declaration, header, extranonce, .. } = found;
        if declaration.merkle_path().is_empty() {
            return Some(declaration.block(header, extranonce.as_bytes(), &[]));
        }
        let id = DeclarationId(declaration.id());
        let declared = self.declared.as_ref();
        declared.and_then(|declared| declared.block(id, header, extranonce.as_bytes())).or_else(|| {
            let template = work?.template();
            let is_ours = template.merkle_path == declaration.merkle_path();
            is_ours.then(|| declaration.block(header, extranonce.as_bytes(), &template.transactions))
        })
    }
}

#[cfg(test)]
mod tests {
    use adit_channel::UserIdentity;
    use adit_share::{CoinbaseFields, Declaration, DeclaredCoinbase, Extranonce};
    use adit_units::ChannelId;
    use bitcoin::hashes::Hash as _;
    use bitcoin::{Block, BlockHash, CompactTarget, consensus};

    use super::*;

    #[test]
    fn a_block_without_transactions_needs_nobody_who_knows_them() {
        let outputs = [&[1][..], &5_000_000_000_u64.to_le_bytes(), &[1, 0x51]].concat();
        let fields = CoinbaseFields {
            version: 2,
            script_prefix: &[1, 101],
            sequence: u32::MAX,
            outputs: &outputs,
            lock_time: 0,
        };
        let coinbase = DeclaredCoinbase::from_fields(fields, 4).unwrap();
        let tip = (BlockHash::all_zeros(), CompactTarget::from_consensus(0x207f_ffff));
        let found = FoundCustomBlock {
            declaration: Declaration::new(0x2000_0000, tip, coinbase, Vec::new()).unwrap(),
            header: [0; HEADER_LEN],
            extranonce: Extranonce::join(&[7; 4], &[]),
            channel: ChannelId(2),
            user: UserIdentity::from_wire(b"farm").unwrap(),
            worker: None,
            record: 1,
        };
        let bytes = CustomDesk::new(None).complete(&found, None).expect("there is nothing to know");
        let block: Block = consensus::deserialize(&bytes).unwrap();
        assert_eq!(block.txdata.len(), 1);
        assert!(block.txdata[0].input[0].script_sig.as_bytes().ends_with(&[7; 4]));
    }
}

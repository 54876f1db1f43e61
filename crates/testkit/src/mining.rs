//! A block of a template, mined at once: for tests of those who take blocks.

use std::sync::Arc;

use adit_share::{Block, CoinbaseSpec, FULL_EXTRANONCE_LEN, Job, Template};
use adit_units::{JobId, JobTag};
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, TxMerkleNode, TxOut};

/// The job whose coinbase pays everything to `payout`.
///
/// # Panics
///
/// If the template leaves no room for that coinbase.
#[must_use]
pub fn job(template: &Template, payout: ScriptBuf) -> Job {
    let value = Amount::from_sat(template.coinbase_value.to_sats());
    let spec = CoinbaseSpec {
        payouts: vec![TxOut { value, script_pubkey: payout }],
        signature: "adit test".to_owned(),
        tag: JobTag { instance: 1, boot: 1, job: JobId(1) },
        extranonce_len: FULL_EXTRANONCE_LEN,
    };
    Job::new(JobId(1), template, &spec).expect("a template has room for one payout")
}

/// Mines a block of `template` that pays everything to `payout`; takes seconds from some ten million hashes on.
///
/// # Panics
///
/// If no nonce makes a block, which is certain when the target is out of a test's reach.
#[must_use]
pub fn mine(template: &Arc<Template>, payout: ScriptBuf) -> Block {
    mine_job(&job(template, payout), template, [1; FULL_EXTRANONCE_LEN])
}

/// Mines a block on a job that was made of `template`, with this extranonce.
///
/// # Panics
///
/// As [`mine`].
#[must_use]
pub fn mine_job(job: &Job, template: &Arc<Template>, extranonce: [u8; FULL_EXTRANONCE_LEN]) -> Block {
    let root = job.merkle_root(&extranonce).expect("the extranonce has the length that the job asked for");
    let mut header = Header {
        version: Version::from_consensus(template.version.cast_signed()),
        prev_blockhash: template.tip.prev_hash,
        merkle_root: TxMerkleNode::from_byte_array(root),
        time: template.time,
        bits: template.tip.nbits,
        nonce: 0,
    };
    while !template.tip.target.is_met_by(&header.block_hash().to_byte_array()) {
        header.nonce = header.nonce.checked_add(1).expect("a nonce makes a block of this target");
    }
    let header = serialize(&header).try_into().expect("a header has 80 bytes");
    job.block(template, header, &extranonce)
}

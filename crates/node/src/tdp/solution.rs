//! From a client's solution to a block.

use std::sync::Arc;

use adit_messages::template_distribution::SubmitSolution;
use adit_share::{Block, HEADER_LEN, Template};
use bitcoin::block::{Header, Version};
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};
use bitcoin::{Transaction, TxMerkleNode, Witness};

/// A solution that makes no block; the client is at fault, unless the template was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SolutionError {
    /// Nobody knows what it is a solution of.
    #[error("its template is unknown or forgotten")]
    UnknownTemplate,
    /// There is no coinbase in it.
    #[error("its coinbase is not a transaction: {0}")]
    Coinbase(String),
    /// Its hash is not small enough, so the coinbase, the template or the header are not what was hashed.
    #[error("its hash does not meet the network's target")]
    Work,
}

/// The block that a solution of `template` makes.
///
/// Only what costs an attacker nothing is refused here. Everything else is for the node to say: a block that our own eyes dislike is still
/// worth sending when it has the work.
pub(super) fn assemble(
    template: &Arc<Template>,
    solution: &SubmitSolution<'_>,
) -> Result<Block, SolutionError> {
    let mut coinbase: Transaction = deserialize(solution.coinbase_tx.as_bytes())
        .map_err(|error| SolutionError::Coinbase(error.to_string()))?;
    restore_witness(&mut coinbase, template);
    let root = merkle_root(&coinbase, &template.merkle_path);
    let header = Header {
        version: Version::from_consensus(solution.version.cast_signed()),
        prev_blockhash: template.tip.prev_hash,
        merkle_root: root,
        time: solution.header_timestamp,
        bits: template.tip.nbits,
        nonce: solution.header_nonce,
    };
    if !template.tip.target.is_met_by(&header.block_hash().to_byte_array()) {
        return Err(SolutionError::Work);
    }
    Ok(Block::from_coinbase(header_bytes(&header), serialize(&coinbase), Arc::clone(template)))
}

fn header_bytes(header: &Header) -> [u8; HEADER_LEN] {
    serialize(header).try_into().expect("a header has 80 bytes")
}

/// Gives the coinbase the witness that the template's commitment was made with (spec 7.2), where a client has stripped it.
///
/// The specification wants it left on here and stripped in jobs (spec 3.7), which is easily confused; and without it the block is lost.
/// A coinbase that commits to nothing, which a block without transactions may have, is lost with it.
fn restore_witness(coinbase: &mut Transaction, template: &Template) {
    let commits = template.has_witness_commitment()
        && template.required_outputs.iter().any(|required| coinbase.output.contains(required));
    if let (true, [input]) = (commits, coinbase.input.as_mut_slice())
        && input.witness.is_empty()
    {
        input.witness = Witness::from_slice(&[[0_u8; 32]]);
    }
}

/// The root over the coinbase and its neighbours up the tree.
pub(super) fn merkle_root(coinbase: &Transaction, path: &[[u8; 32]]) -> TxMerkleNode {
    let leaf = coinbase.compute_txid().to_raw_hash();
    let root = path.iter().fold(leaf, |left, right| {
        let mut engine = sha256d::Hash::engine();
        engine.input(left.as_byte_array());
        engine.input(right);
        sha256d::Hash::from_engine(engine)
    });
    TxMerkleNode::from_raw_hash(root)
}

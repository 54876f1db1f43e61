//! What a node's answers to JSON-RPC calls say, whichever way they came.

use adit_share::Tip;
use adit_units::Height;
use bitcoin::{BlockHash, CompactTarget, Network, Work};
use serde::Deserialize;

use super::template::check_challenge;
use super::{NodeError, TemplateRefused};
use crate::sources::ChainEnd;
use crate::{Fate, NodeInfo, Submitted};

/// How many blocks have the same difficulty.
const RETARGET_INTERVAL: u32 = 2_016;
/// Words of `submitblock` that are no verdict: the same block may be taken later.
const UNDECIDED: [&str; 4] = ["inconclusive", "duplicate-inconclusive", "prev-blk-not-found", "time-too-new"];
/// Error numbers of Bitcoin nodes.
pub(crate) mod code {
    /// An address or key that is not known, here: a block.
    pub(crate) const NOT_FOUND: i64 = -5;
    /// No peers.
    pub(crate) const NOT_CONNECTED: i64 = -9;
    /// Initial block download.
    pub(crate) const INITIAL_DOWNLOAD: i64 = -10;
    /// Bytes that cannot be decoded.
    pub(crate) const DESERIALIZATION: i64 = -22;
    /// Not started yet.
    pub(crate) const IN_WARMUP: i64 = -28;
}

/// An answer that gives nothing to go on with.
pub(crate) enum Unread {
    /// It is not an answer to that call. With what is wrong with it.
    Garbled(serde_json::Error),
    /// The node says no.
    Refused(NodeError),
}

/// The answer to any call.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default = "Option::default")]
    result: Option<T>,
    #[serde(default)]
    error: Option<Fault>,
}

/// What went wrong with it.
#[derive(Deserialize)]
struct Fault {
    code: i64,
    #[serde(default)]
    message: String,
}

/// The answer to `getblockchaininfo`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct ChainInfo {
    chain: String,
    blocks: u32,
    bestblockhash: String,
    #[serde(default)]
    initialblockdownload: bool,
    #[serde(default)]
    chainwork: Option<String>,
    #[serde(default)]
    signet_challenge: Option<String>,
}

/// The answer to `getnetworkinfo`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct NetworkInfo {
    subversion: String,
    #[serde(default)]
    connections: u32,
}

/// The answer to `getblockheader`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct BlockHeader {
    confirmations: i64,
}

/// The answer to `getblockheader`, as far as it says what the next block must be.
#[derive(Deserialize)]
pub(crate) struct TipHeader {
    height: u32,
    mediantime: u32,
    bits: String,
}

/// What the node answered to `method`, if anything, or why it did not.
pub(crate) fn read<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    method: &'static str,
) -> Result<Option<T>, Unread> {
    let answer: Answer<T> = serde_json::from_slice(body).map_err(Unread::Garbled)?;
    let Some(Fault { code, message }) = answer.error else { return Ok(answer.result) };
    Err(Unread::Refused(match (code, method) {
        (code::IN_WARMUP, _) => NodeError::WarmingUp(message),
        (code::NOT_CONNECTED, "getblocktemplate") => NodeError::NoPeers,
        (code::INITIAL_DOWNLOAD, "getblocktemplate") => NodeError::Syncing,
        (code, method) => NodeError::Fault { method, code, message },
    }))
}

impl ChainInfo {
    /// The node's network, which must be the `expected` one.
    pub(crate) fn network(&self, expected: Option<Network>) -> Result<Network, NodeError> {
        let found =
            Network::from_core_arg(&self.chain).map_err(|_| NodeError::UnknownNetwork(self.chain.clone()))?;
        match expected {
            Some(expected) if expected != found => Err(NodeError::WrongNetwork { expected, found }),
            Some(_) | None => Ok(found),
        }
    }

    /// Fails on a signet whose blocks need a signature, where the node tells.
    pub(crate) fn check_challenge(&self) -> Result<(), TemplateRefused> {
        check_challenge(self.signet_challenge.as_deref())
    }

    /// Where the chain ends, or why that cannot be read.
    pub(crate) fn end(&self) -> Result<ChainEnd, String> {
        let work = self.chainwork.as_deref().and_then(|hex| Work::from_unprefixed_hex(hex).ok());
        Ok(ChainEnd { hash: block_hash(&self.bestblockhash)?, height: Height(self.blocks), work })
    }

    /// What the node says of itself, but for its `trouble`.
    pub(crate) fn info(&self, network: Network, peers: NetworkInfo) -> Result<NodeInfo, String> {
        Ok(NodeInfo {
            network,
            height: Height(self.blocks),
            best_block: block_hash(&self.bestblockhash)?,
            initial_block_download: self.initialblockdownload,
            user_agent: peers.subversion,
            peers: Some(peers.connections),
            trouble: None,
        })
    }
}

/// Reads a block's hash, or says that it is none.
pub(crate) fn block_hash(hex: &str) -> Result<BlockHash, String> {
    hex.parse().map_err(|_| format!("{hex:?} is not a block hash"))
}

/// Where the block is whose header the node was asked for.
pub(crate) fn fate(header: Result<BlockHeader, NodeError>) -> Fate {
    match header {
        Ok(BlockHeader { confirmations }) => match u32::try_from(confirmations) {
            Ok(confirmations @ 1..) => Fate::InChain { confirmations },
            Ok(0) | Err(_) => Fate::Stale,
        },
        Err(NodeError::Fault { code: code::NOT_FOUND, .. }) => Fate::Unknown,
        Err(error) => Fate::Unreachable(error.to_string()),
    }
}

/// What follows from a header for the block on top of it.
pub(crate) fn tip_on(hash: BlockHash, header: &TipHeader, network: Network) -> Option<Tip> {
    let height = header.height.checked_add(1)?;
    match network {
        Network::Bitcoin | Network::Signet | Network::Regtest => {}
        // There the difficulty depends on how long ago the last block was.
        Network::Testnet | Network::Testnet4 => return None,
    }
    if height % RETARGET_INTERVAL == 0 {
        return None;
    }
    let nbits = CompactTarget::from_unprefixed_hex(&header.bits).ok()?;
    Some(Tip::new(hash, Height(height), nbits, header.mediantime.checked_add(1)?))
}

/// What the word of `submitblock` means (BIP 22).
pub(crate) fn submitted(word: Option<String>) -> Submitted {
    match word {
        None => Submitted::Accepted,
        Some(word) if word == "duplicate" => Submitted::AlreadyKnown,
        // A node that has fallen behind does not know the block below yet, and one whose clock is behind will take the block
        // later; neither says anything against this one.
        Some(word) if UNDECIDED.contains(&&*word) => Submitted::Undecided(word),
        Some(reason) => Submitted::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn next(height: u32, network: Network) -> Option<Tip> {
        let header = TipHeader { height, mediantime: 1_700_000_000, bits: "1702f128".to_owned() };
        tip_on(BlockHash::all_zeros(), &header, network)
    }

    #[test]
    fn a_tip_follows_from_the_header_below() {
        let tip = next(900_000, Network::Bitcoin).unwrap();
        let nbits = CompactTarget::from_consensus(0x1702_f128);
        assert_eq!(tip, Tip::new(BlockHash::all_zeros(), Height(900_001), nbits, 1_700_000_001));
        assert_eq!(next(900_000, Network::Regtest), Some(tip));
        assert_eq!(next(900_000, Network::Signet), Some(tip));
    }

    #[test]
    fn where_the_difficulty_may_change_no_tip_is_guessed() {
        assert_eq!(next(2_015, Network::Bitcoin), None, "the next block is the first of a new difficulty");
        assert!(next(2_016, Network::Bitcoin).is_some() && next(2_014, Network::Bitcoin).is_some());
        assert_eq!(next(900_000, Network::Testnet4), None);
        assert_eq!(next(u32::MAX, Network::Bitcoin), None);
    }
}

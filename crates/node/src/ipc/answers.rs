//! Answers to those who hold the handle, put together from what the node offers.

use core::cell::RefCell;
use std::sync::Arc;

use adit_units::Height;
use bitcoin::{BlockHash, Network};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::debug;

use super::config::IpcConfig;
use super::held::{Found, Held};
use super::link::{BlockRef, Caller, Dialect, breaks};
use crate::rpc::answer::{self, BlockHeader, ChainInfo, NetworkInfo, Unread};
use crate::{Checked, Fate, NodeError, NodeInfo, Submitted, rpc};

/// What a node says of bytes that are no block.
const NO_BLOCK: &str = "Block decode failed";

/// The network that the node is on, which must be the configured one.
pub(super) async fn network(caller: &Caller, config: &IpcConfig) -> Result<Network, NodeError> {
    let expected = config.network;
    if caller.has_rpc() {
        let chain = chain_info(caller).await?;
        let network = chain.network(expected)?;
        chain.check_challenge()?;
        return Ok(network);
    }
    let Some(beside) = &config.rpc else { return network_by_socket(caller, expected).await };
    // An older node tells no more than whether it is on a test network; beside the socket it tells which, and who may mine on it.
    match rpc::Client::new(beside).network().await {
        Ok(found) => match expected {
            Some(expected) if expected != found => Err(NodeError::WrongNetwork { expected, found }),
            Some(_) | None => Ok(found),
        },
        Err(
            error @ (NodeError::WrongNetwork { .. } | NodeError::UnknownNetwork(_) | NodeError::Template(_)),
        ) => Err(error),
        Err(error) => {
            debug!(%error, "which network the node is on is not known for sure");
            network_by_socket(caller, expected).await
        }
    }
}

async fn network_by_socket(caller: &Caller, expected: Option<Network>) -> Result<Network, NodeError> {
    match (caller.is_test_chain().await?, expected) {
        (false, None | Some(Network::Bitcoin)) => Ok(Network::Bitcoin),
        (false, Some(expected)) => Err(NodeError::WrongNetwork { expected, found: Network::Bitcoin }),
        (true, Some(Network::Bitcoin)) => Err(NodeError::TestNetwork(Network::Bitcoin)),
        // An older node does not tell which one; its templates must pay that network's subsidy.
        (true, Some(expected)) => Ok(expected),
        (true, None) => Err(NodeError::SomeTestNetwork),
    }
}

/// Fails while the node is downloading the chain; a chain for tests may be short and old, and is mined on all the same, as over
/// JSON-RPC.
pub(super) async fn in_sync(caller: &Caller) -> Result<(), NodeError> {
    if caller.is_initial_block_download().await? && !caller.is_test_chain().await? {
        return Err(NodeError::Syncing);
    }
    Ok(())
}

/// The node's last block.
pub(super) async fn tip(caller: &Caller) -> Result<BlockRef, NodeError> {
    let none = || NodeError::WarmingUp("it has no block yet".to_owned());
    caller.tip().await?.ok_or_else(none)
}

/// What the node says of itself, but for its trouble.
pub(super) async fn info(caller: &Caller, config: &IpcConfig) -> Result<NodeInfo, NodeError> {
    let network = network(caller, config).await?;
    if caller.has_rpc() {
        let peers: NetworkInfo = execute(caller, "getnetworkinfo", &json!([])).await?;
        let chain = chain_info(caller).await?;
        return chain.info(network, peers).map_err(|reason| caller.malformed(reason));
    }
    let BlockRef { hash, height } = tip(caller).await?;
    Ok(NodeInfo {
        network,
        height: Height(height),
        best_block: hash,
        initial_block_download: caller.is_initial_block_download().await?,
        user_agent: match caller.dialect() {
            Dialect::V30 => "Bitcoin Core 30".to_owned(),
            Dialect::V31 => "Bitcoin Core 31 or later".to_owned(),
        },
        peers: None,
        trouble: None,
    })
}

/// Where a block is. A node that takes no JSON-RPC over its socket can tell no more than whether it is the last one.
pub(super) async fn fate(caller: &Caller, hash: BlockHash) -> Result<Fate, NodeError> {
    if !caller.has_rpc() {
        let last = tip(caller).await?.hash == hash;
        let in_chain = Fate::InChain { confirmations: 1 };
        return if last { Ok(in_chain) } else { Err(NodeError::Unsupported { method: "getblockheader" }) };
    }
    let header = execute::<BlockHeader>(caller, "getblockheader", &json!([hash.to_string(), true])).await;
    match header {
        Err(error) if breaks(&error) => Err(error),
        header => Ok(answer::fate(header)),
    }
}

/// Whether an unsolved block keeps every rule.
pub(super) async fn check(caller: &Caller, block: &[u8]) -> Result<Checked, NodeError> {
    match caller.check_block(block).await {
        Ok(judgement) => Ok(Checked::from_word(judgement.word())),
        Err(NodeError::Exception { .. }) if Found::read(block).is_none() => {
            Ok(Checked::Refused(NO_BLOCK.to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// Hands a block to the node: by its coinbase alone where the node keeps the template, otherwise whole.
pub(super) async fn submit(
    caller: &Caller,
    held: &RefCell<Held>,
    block: Arc<[u8]>,
    found: Option<Found>,
) -> Result<Submitted, NodeError> {
    // Whatever the node has against a call, the whole block is at hand, and nothing is lost by offering that, too.
    let (by_coinbase, objection) = match &found {
        Some(found) => match complete(caller, held, found).await {
            Ok(by_coinbase) => (by_coinbase, None),
            Err(error) if breaks(&error) => return Err(error),
            Err(error) => (None, Some(error)),
        },
        None => (None, None),
    };
    if by_coinbase == Some(Submitted::Accepted) {
        return Ok(Submitted::Accepted);
    }
    // Whole, the node says what is wrong with it.
    let error = match caller.submit_block(&block).await {
        Ok(judgement) => {
            let whole = answer::submitted(judgement.word());
            // It is known because it was made there just now.
            let known = whole == Submitted::AlreadyKnown;
            return Ok(by_coinbase.filter(|_| known).unwrap_or(whole));
        }
        Err(error @ (NodeError::Unsupported { .. } | NodeError::Exception { .. })) => error,
        Err(error) => return Err(error),
    };
    if by_coinbase.is_some() || found.is_some() {
        // That a node takes no whole blocks will not change; what it said of the solution may.
        return by_coinbase.ok_or_else(|| objection.unwrap_or(error));
    }
    // Some milliseconds for a full block.
    let read = tokio::task::spawn_blocking(move || Found::read(&block)).await;
    match read.map_err(|error| NodeError::Gone(error.to_string()))? {
        None => Ok(Submitted::Refused(NO_BLOCK.to_owned())),
        Some(found) => complete(caller, held, &found).await?.ok_or(error),
    }
}

/// Makes a block of a template that the node keeps; `None` when it keeps none of that content.
pub(super) async fn complete(
    caller: &Caller,
    held: &RefCell<Held>,
    found: &Found,
) -> Result<Option<Submitted>, NodeError> {
    let Some(template) = held.borrow().find(found.content()) else { return Ok(None) };
    let taken = caller.submit_solution(&template, &found.solution()).await?;
    let last = match tip(caller).await {
        Ok(tip) => tip.hash == found.hash(),
        Err(error) if breaks(&error) => return Err(error),
        // What became of the block is asked again later.
        Err(_) => false,
    };
    Ok(Some(match (taken, last) {
        (_, true) => Submitted::Accepted,
        (true, false) => Submitted::Undecided("inconclusive".to_owned()),
        (false, false) => Submitted::Refused("the node does not say why".to_owned()),
    }))
}

async fn chain_info(caller: &Caller) -> Result<ChainInfo, NodeError> {
    execute(caller, "getblockchaininfo", &json!([])).await
}

/// A JSON-RPC call over the socket whose answer is there.
async fn execute<T: DeserializeOwned>(
    caller: &Caller,
    method: &'static str,
    params: &Value,
) -> Result<T, NodeError> {
    let request = json!({ "jsonrpc": "1.0", "id": "adit", "method": method, "params": params }).to_string();
    let answer = caller.execute_rpc(&request).await?;
    let read = answer::read(answer.as_bytes(), method).map_err(|unread| match unread {
        Unread::Refused(error) => error,
        Unread::Garbled(error) => caller.malformed(format!("{method} gave {error}")),
    });
    read?.ok_or_else(|| caller.malformed(format!("{method} gave nothing")))
}

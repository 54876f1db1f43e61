//! Transactions of the node's mempool by their hashes, over JSON-RPC: an index of it, and a batch of calls.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use adit_net::Clock;
use adit_share::{MAX_BLOCK_WEIGHT, RawTransaction};
use adit_units::Monotonic;
use bitcoin::hex::FromHex as _;
use bitcoin::{Txid, Wtxid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, NodeError};
use crate::transactions::{Gathered, RawOrNone};

/// How old the index may be when something is missing in it: the whole mempool is sent for it.
const INDEX_AGE: Duration = Duration::from_secs(2);
/// How long no other index is asked for after one did not come; it may be longer than what is read of an answer.
const INDEX_PAUSE: Duration = Duration::from_secs(60);
/// How many calls are made at once.
const BATCH_MAX: usize = 256;

/// What waits in a node's mempool, as it was asked last.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    entries: Arc<HashMap<Wtxid, Entry>>,
    /// When it may be asked for again.
    next: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    txid: Txid,
    weight: u64,
}

/// An entry of the answer to `getrawmempool`, as far as it matters here.
#[derive(Deserialize)]
struct RawEntry<'a> {
    wtxid: &'a str,
    #[serde(default)]
    weight: u64,
}

/// One of the answers to a batch.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    result: Option<&'a str>,
}

impl Client {
    /// The transactions that the node's mempool has, in the order of their hashes; no more than about a block's worth of them.
    pub(crate) async fn transactions(&self, wtxids: &[Wtxid]) -> Result<RawOrNone, NodeError> {
        let mut gathered = Gathered::new(wtxids);
        let entries = self.index_of(wtxids).await?;
        let mut weight = 0;
        let known = wtxids.iter().filter_map(|wtxid| entries.get(wtxid)).take_while(|entry| {
            let is_wanted = weight <= MAX_BLOCK_WEIGHT;
            weight += entry.weight;
            is_wanted
        });
        let txids: Vec<Txid> = known.map(|entry| entry.txid).collect();
        for part in txids.chunks(BATCH_MAX) {
            gathered.extend(self.raw_transactions(part).await?);
        }
        Ok(gathered.finish())
    }

    /// The index, asked for anew if one of the hashes is not in it and it may be.
    async fn index_of(&self, wtxids: &[Wtxid]) -> Result<Arc<HashMap<Wtxid, Entry>>, NodeError> {
        let now = Clock.monotonic();
        {
            let mut index = self.mempool.lock().unwrap_or_else(PoisonError::into_inner);
            let is_young = index.next.is_some_and(|next| now < next);
            if is_young || wtxids.iter().all(|wtxid| index.entries.contains_key(wtxid)) {
                return Ok(Arc::clone(&index.entries));
            }
            // Whoever comes meanwhile takes what there is.
            index.next = Some(now + INDEX_PAUSE);
        }
        let entries = Arc::new(self.fetch_index().await?);
        let mut index = self.mempool.lock().unwrap_or_else(PoisonError::into_inner);
        *index = Index { entries: Arc::clone(&entries), next: Some(Clock.monotonic() + INDEX_AGE) };
        Ok(entries)
    }

    async fn fetch_index(&self) -> Result<HashMap<Wtxid, Entry>, NodeError> {
        let method = "getrawmempool";
        let raw = self.exchange(method, &json!([true]), self.config().timing.template).await?;
        let read = move || -> Result<HashMap<Wtxid, Entry>, NodeError> {
            let entries: HashMap<&str, RawEntry<'_>> = raw.read(method)?.unwrap_or_default();
            let entry = |(txid, entry): (&str, RawEntry<'_>)| {
                let parsed = Entry { txid: txid.parse().ok()?, weight: entry.weight };
                Some((entry.wtxid.parse().ok()?, parsed))
            };
            Ok(entries.into_iter().filter_map(entry).collect())
        };
        // Tens of megabytes take a while to read; shares on other tasks need not wait for that.
        tokio::task::spawn_blocking(read).await.map_err(|error| NodeError::Gone(error.to_string()))?
    }

    /// Those of the transactions that the node still has.
    async fn raw_transactions(&self, txids: &[Txid]) -> Result<Vec<RawTransaction>, NodeError> {
        let call = |txid: &Txid| {
            let params = json!([txid.to_string(), false]);
            json!({ "jsonrpc": "1.0", "id": "adit", "method": "getrawtransaction", "params": params })
        };
        let body = Value::Array(txids.iter().map(call).collect()).to_string();
        let deadline = self.config().timing.template;
        let raw = self.exchange_body("getrawtransaction", body, deadline).await?;
        let read = move || -> Result<Vec<RawTransaction>, NodeError> {
            let answers: Vec<Answer<'_>> = raw.read_batch("getrawtransaction")?;
            let bytes = answers.iter().filter_map(|answer| Vec::from_hex(answer.result?).ok());
            Ok(bytes.filter_map(|bytes| RawTransaction::parse(bytes).ok()).collect())
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| NodeError::Gone(error.to_string()))?
    }
}

//! Transactions of the node's mempool by their hashes, over JSON-RPC: an index of it, and a batch of calls.

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use adit_net::Clock;
use adit_share::{MAX_BLOCK_WEIGHT, RawTransaction};
use adit_units::Monotonic;
use bitcoin::hex::FromHex as _;
use bitcoin::{Txid, Wtxid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, NodeError};
use crate::transactions::{Gathered, RawOrNone};

/// How old the index may be when something is missing in it: the numbers of all that waits are sent for it.
const INDEX_AGE: Duration = Duration::from_secs(2);
/// How long no other index is asked for after one did not come.
const INDEX_PAUSE: Duration = Duration::from_secs(60);
/// How long whoever reads the index may take over a part of it before somebody else does it instead.
const INDEX_PATIENCE: Duration = Duration::from_secs(10);
/// How many calls are made at once.
const BATCH_MAX: usize = 256;

/// What waits in a node's mempool, as far as the node has been asked.
///
/// A node describes all that waits in one answer, if asked to, but that answer has a kilobyte for each transaction, and the lock of its
/// mempool is held meanwhile: on the main network, a hundred megabytes and seconds. So the node is asked what waits, and of each transaction once.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Wtxid, Entry>,
    /// The same transactions by the other hash.
    known: HashMap<Txid, Wtxid>,
    /// When it may be asked for again.
    next: Option<Monotonic>,
}

impl Index {
    /// Whether all of these are in it.
    fn has_all(&self, wtxids: &[Wtxid]) -> bool {
        wtxids.iter().all(|wtxid| self.entries.contains_key(wtxid))
    }

    /// Forgets what waits no longer; what it has not got of what does.
    fn keep(&mut self, waiting: &HashSet<Txid>) -> Vec<Txid> {
        self.known.retain(|txid, _| waiting.contains(txid));
        self.entries.retain(|_, entry| waiting.contains(&entry.txid));
        waiting.iter().filter(|txid| !self.known.contains_key(*txid)).copied().collect()
    }

    fn insert(&mut self, wtxid: Wtxid, entry: Entry) {
        self.known.insert(entry.txid, wtxid);
        self.entries.insert(wtxid, entry);
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    txid: Txid,
    weight: u64,
}

/// The answer to `getmempoolentry`, as far as it matters here.
#[derive(Deserialize)]
struct RawEntry<'a> {
    wtxid: &'a str,
    #[serde(default)]
    weight: u64,
}

/// One of the answers to a batch.
#[derive(Deserialize)]
struct Answer<T> {
    /// The place of the question.
    id: usize,
    #[serde(default = "Option::default")]
    result: Option<T>,
}

impl Client {
    /// The transactions that the node's mempool has, in the order of their hashes; no more than about a block's worth of them.
    pub(crate) async fn transactions(&self, wtxids: &[Wtxid]) -> Result<RawOrNone, NodeError> {
        let mut gathered = Gathered::new(wtxids);
        self.refresh(wtxids).await?;
        for part in self.txids(wtxids).chunks(BATCH_MAX) {
            gathered.extend(self.raw_transactions(part).await?);
        }
        Ok(gathered.finish())
    }

    /// The other hashes of those that are in the index, of no more than about a block's worth.
    fn txids(&self, wtxids: &[Wtxid]) -> Vec<Txid> {
        let (index, mut weight) = (self.index(), 0);
        let known = wtxids.iter().filter_map(|wtxid| index.entries.get(wtxid)).take_while(|entry| {
            let is_wanted = weight <= MAX_BLOCK_WEIGHT;
            weight += entry.weight;
            is_wanted
        });
        known.map(|entry| entry.txid).collect()
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.mempool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the index up to date if one of the hashes is not in it and it is time; whoever comes meanwhile takes what there is.
    async fn refresh(&self, wtxids: &[Wtxid]) -> Result<(), NodeError> {
        let now = Clock.monotonic();
        {
            let mut index = self.index();
            if index.next.is_some_and(|next| now < next) || index.has_all(wtxids) {
                return Ok(());
            }
            index.next = Some(now + INDEX_PATIENCE);
        }
        let read = self.read_index(wtxids).await;
        let pause = if read.is_ok() { INDEX_AGE } else { INDEX_PAUSE };
        self.index().next = Some(Clock.monotonic() + pause);
        read
    }

    /// Reads of what waits what is not known yet, until all of the hashes are found. What has been read is there for the next one who
    /// asks, even if this one is not waited for.
    async fn read_index(&self, wtxids: &[Wtxid]) -> Result<(), NodeError> {
        let waiting = self.waiting().await?;
        let new = self.index().keep(&waiting);
        for part in new.chunks(BATCH_MAX) {
            let entries = self.entries(part).await?;
            let mut index = self.index();
            entries.into_iter().for_each(|(wtxid, entry)| index.insert(wtxid, entry));
            if index.has_all(wtxids) {
                break;
            }
            index.next = Some(Clock.monotonic() + INDEX_PATIENCE);
        }
        Ok(())
    }

    /// What waits in the mempool.
    async fn waiting(&self) -> Result<HashSet<Txid>, NodeError> {
        let method = "getrawmempool";
        let raw = self.exchange(method, &json!([false]), self.config().timing.template).await?;
        let read = move || -> Result<HashSet<Txid>, NodeError> {
            let txids: Vec<&str> = raw.read(method)?.unwrap_or_default();
            Ok(txids.into_iter().filter_map(|txid| txid.parse().ok()).collect())
        };
        // Megabytes take a while to read; shares on other tasks need not wait for that.
        tokio::task::spawn_blocking(read).await.map_err(|error| NodeError::Gone(error.to_string()))?
    }

    /// What the index says of those of the transactions that still wait.
    async fn entries(&self, txids: &[Txid]) -> Result<Vec<(Wtxid, Entry)>, NodeError> {
        let method = "getmempoolentry";
        let body = batch(method, txids, |txid| json!([txid.to_string()]));
        let raw = self.exchange_body(method, body, self.config().timing.template).await?;
        let answers: Vec<Answer<RawEntry<'_>>> = raw.read_batch(method)?;
        let entry = |answer: Answer<RawEntry<'_>>| {
            let (txid, raw) = (*txids.get(answer.id)?, answer.result?);
            Some((raw.wtxid.parse().ok()?, Entry { txid, weight: raw.weight }))
        };
        Ok(answers.into_iter().filter_map(entry).collect())
    }

    /// Those of the transactions that the node still has.
    async fn raw_transactions(&self, txids: &[Txid]) -> Result<Vec<RawTransaction>, NodeError> {
        let method = "getrawtransaction";
        let body = batch(method, txids, |txid| json!([txid.to_string(), false]));
        let raw = self.exchange_body(method, body, self.config().timing.template).await?;
        let read = move || -> Result<Vec<RawTransaction>, NodeError> {
            let answers: Vec<Answer<&str>> = raw.read_batch(method)?;
            let bytes = answers.iter().filter_map(|answer| Vec::from_hex(answer.result?).ok());
            Ok(bytes.filter_map(|bytes| RawTransaction::parse(bytes).ok()).collect())
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| NodeError::Gone(error.to_string()))?
    }
}

/// Calls of one method in one request, numbered by their places.
fn batch(method: &str, txids: &[Txid], params: impl Fn(&Txid) -> Value) -> String {
    let call = |(id, txid): (usize, &Txid)| {
        let params = params(txid);
        json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params })
    };
    Value::Array(txids.iter().enumerate().map(call).collect()).to_string()
}

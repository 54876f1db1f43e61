//! Calls to a node: one HTTP request each, with a deadline, a limit on the answer, and errors that say what to do.

use core::time::Duration;
use std::error::Error as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use adit_share::Tip;
use adit_units::{Height, TemplateId};
use bitcoin::{BlockHash, CompactTarget, Network, Work};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::debug;

use super::template::TemplateOffer;
use super::{Auth, NodeError, RpcConfig, RpcTemplate};
use crate::sources::ChainEnd;
use crate::zmq::{Notification, Zmq, ZmqAddress, discovered};
use crate::{Fate, NodeInfo, Submitted};

/// The longest answer that is read, in bytes. A template of a full block is about nine million; its JSON can at most triple that.
const MAX_ANSWER_LEN: usize = 64 << 20;
/// The longest cookie file that is read, in bytes.
const MAX_COOKIE_LEN: usize = 1024;
/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// After how long an idle connection is closed: sooner than by the node (`rpcservertimeout` is 30 s), so that none breaks in use.
const IDLE: Duration = Duration::from_secs(10);
/// How often the system makes sure that a silent connection is alive, which is what a long poll needs.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Words of `submitblock` that are no verdict: the same block may be taken later.
const UNDECIDED: [&str; 4] = ["inconclusive", "duplicate-inconclusive", "prev-blk-not-found", "time-too-new"];
/// Error numbers of Bitcoin nodes.
mod code {
    /// An address or key that is not known, here: a block.
    pub(super) const NOT_FOUND: i64 = -5;
    /// No peers.
    pub(super) const NOT_CONNECTED: i64 = -9;
    /// Initial block download.
    pub(super) const INITIAL_DOWNLOAD: i64 = -10;
    /// Bytes that cannot be decoded.
    pub(super) const DESERIALIZATION: i64 = -22;
    /// Not started yet.
    pub(super) const IN_WARMUP: i64 = -28;
}

/// A way to call one node.
#[derive(Debug)]
pub(crate) struct Client {
    config: RpcConfig,
    http: reqwest::Client,
    /// Name and password, once known. Held only to copy them.
    credentials: Mutex<Option<Arc<Credentials>>>,
    templates: AtomicU64,
}

struct Credentials {
    user: String,
    password: String,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// The answer to any call.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default = "Option::default")]
    result: Option<T>,
    #[serde(default)]
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: i64,
    #[serde(default)]
    message: String,
}

/// The answer to `getblockchaininfo`, as far as it matters here.
#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    bestblockhash: String,
    #[serde(default)]
    initialblockdownload: bool,
    #[serde(default)]
    chainwork: Option<String>,
}

/// How many blocks have the same difficulty.
const RETARGET_INTERVAL: u32 = 2_016;

/// The answer to `getnetworkinfo`, as far as it matters here.
#[derive(Deserialize)]
struct NetworkInfo {
    subversion: String,
    #[serde(default)]
    connections: u32,
}

/// The answer to `getblockheader`, as far as it matters here.
#[derive(Deserialize)]
struct BlockHeader {
    confirmations: i64,
}

/// The answer to `getblockheader`, as far as it says what the next block must be.
#[derive(Deserialize)]
struct TipHeader {
    height: u32,
    mediantime: u32,
    bits: String,
}

impl Client {
    pub(crate) fn new(config: &RpcConfig) -> Self {
        let http = reqwest::Client::builder()
            // A proxy for the web is not meant for a node.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE)
            .tcp_keepalive(KEEPALIVE)
            .tcp_nodelay(true)
            .build()
            .expect("a client without TLS and proxies has nothing that could fail");
        Self { config: config.clone(), http, credentials: Mutex::new(None), templates: AtomicU64::new(0) }
    }

    pub(crate) const fn config(&self) -> &RpcConfig {
        &self.config
    }

    /// The hash of the node's last block.
    pub(crate) async fn best_block_hash(&self) -> Result<BlockHash, NodeError> {
        let hash: String = self.call("getbestblockhash", &json!([]), self.config.timing.answer).await?;
        self.block_hash(&hash)
    }

    /// The network, which must be the configured one.
    pub(crate) async fn network(&self) -> Result<Network, NodeError> {
        self.network_of(&self.chain_info().await?)
    }

    /// Where the chain ends, if the network is the configured one.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        let chain = self.chain_info().await?;
        self.network_of(&chain)?;
        let work = chain.chainwork.as_deref().and_then(|hex| Work::from_unprefixed_hex(hex).ok());
        Ok(ChainEnd { hash: self.block_hash(&chain.bestblockhash)?, height: Height(chain.blocks), work })
    }

    /// A template, read and checked. With a `long_poll_id` the node answers when it has something else to say than then.
    pub(crate) async fn template(
        &self,
        network: Network,
        long_poll_id: Option<&str>,
    ) -> Result<RpcTemplate, NodeError> {
        let timing = &self.config.timing;
        let deadline = if long_poll_id.is_some() { timing.long_poll } else { timing.template };
        let method = "getblocktemplate";
        let raw = self.exchange(method, &template_request(long_poll_id), deadline).await?;
        let id = TemplateId(self.templates.fetch_add(1, Ordering::Relaxed) + 1);
        let reserve = self.config.coinbase;
        let read = move || -> Result<RpcTemplate, NodeError> {
            let offer: TemplateOffer<'_> = raw.read(method)?.ok_or_else(|| raw.empty(method))?;
            Ok(offer.check(id, network, reserve)?)
        };
        // A full block takes some milliseconds to read; shares on other tasks need not wait for that.
        tokio::task::spawn_blocking(read).await.map_err(|error| NodeError::Gone(error.to_string()))?
    }

    /// What the block on top of `hash` must be; `None` where its difficulty does not follow from the header below alone.
    pub(crate) async fn tip_on(&self, hash: BlockHash, network: Network) -> Result<Option<Tip>, NodeError> {
        let params = json!([hash.to_string(), true]);
        let header: TipHeader = self.call("getblockheader", &params, self.config.timing.answer).await?;
        Ok(tip_on(hash, &header, network))
    }

    /// Hands over a block in hexadecimal, trying a few times while the node does not answer.
    pub(crate) async fn submit(&self, hex: &str) -> Submitted {
        let timing = &self.config.timing;
        let params = json!([hex]);
        let mut pause = timing.first_retry;
        for _ in 1..timing.submit_tries {
            match self.submit_once(&params).await {
                // Whoever follows the block knows its hash, and tells the operator.
                Submitted::Unreachable(reason) => {
                    debug!(url = self.config.url(), reason, "a block could not be handed over")
                }
                answer => return answer,
            }
            sleep(pause).await;
            pause = (pause * 2).min(timing.max_retry);
        }
        self.submit_once(&params).await
    }

    async fn submit_once(&self, params: &Value) -> Submitted {
        match self.call_for_word("submitblock", params).await {
            Ok(word) => submitted(word),
            Err(NodeError::Fault { code: code::DESERIALIZATION, message, .. }) => Submitted::Refused(message),
            Err(error) => Submitted::Unreachable(error.to_string()),
        }
    }

    /// Where a block is.
    pub(crate) async fn fate(&self, hash: BlockHash) -> Fate {
        let params = json!([hash.to_string(), true]);
        match self.call::<BlockHeader>("getblockheader", &params, self.config.timing.answer).await {
            Ok(BlockHeader { confirmations }) => match u32::try_from(confirmations) {
                Ok(confirmations @ 1..) => Fate::InChain { confirmations },
                Ok(0) | Err(_) => Fate::Stale,
            },
            Err(NodeError::Fault { code: code::NOT_FOUND, .. }) => Fate::Unknown,
            Err(error) => Fate::Unreachable(error.to_string()),
        }
    }

    /// Where the node tells of new blocks, if it does.
    pub(crate) async fn zmq_address(&self) -> Result<Option<ZmqAddress>, NodeError> {
        match &self.config.zmq_hashblock {
            Zmq::At(address) => Ok(Some(address.clone())),
            Zmq::Discover if self.config.is_on_this_machine() => {
                let told: Vec<Notification> =
                    self.call("getzmqnotifications", &json!([]), self.config.timing.answer).await?;
                Ok(discovered(&told))
            }
            Zmq::Discover | Zmq::Off => Ok(None),
        }
    }

    /// What the node says of itself.
    pub(crate) async fn probe(&self) -> Result<NodeInfo, NodeError> {
        let chain = self.chain_info().await?;
        let network = self.network_of(&chain)?;
        let peers: NetworkInfo = self.call("getnetworkinfo", &json!([]), self.config.timing.answer).await?;
        Ok(NodeInfo {
            network,
            height: Height(chain.blocks),
            best_block: self.block_hash(&chain.bestblockhash)?,
            initial_block_download: chain.initialblockdownload,
            user_agent: peers.subversion,
            peers: Some(peers.connections),
            trouble: self.template(network, None).await.err().map(Arc::new),
        })
    }

    async fn chain_info(&self) -> Result<ChainInfo, NodeError> {
        self.call("getblockchaininfo", &json!([]), self.config.timing.answer).await
    }

    fn network_of(&self, chain: &ChainInfo) -> Result<Network, NodeError> {
        let found = Network::from_core_arg(&chain.chain)
            .map_err(|_| NodeError::UnknownNetwork(chain.chain.clone()))?;
        match self.config.network {
            Some(expected) if expected != found => Err(NodeError::WrongNetwork { expected, found }),
            Some(_) | None => Ok(found),
        }
    }

    fn block_hash(&self, hex: &str) -> Result<BlockHash, NodeError> {
        let reason = || format!("{hex:?} is not a block hash");
        hex.parse().map_err(|_| NodeError::NotANode { url: self.config.url(), reason: reason() })
    }

    /// A call whose answer is there.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
        deadline: Duration,
    ) -> Result<T, NodeError> {
        let raw = self.exchange(method, params, deadline).await?;
        raw.read(method)?.ok_or_else(|| raw.empty(method))
    }

    /// A call whose answer is a word or nothing, as that to `submitblock`.
    async fn call_for_word(&self, method: &'static str, params: &Value) -> Result<Option<String>, NodeError> {
        self.exchange(method, params, self.config.timing.template).await?.read(method)
    }

    /// Calls, and calls once more with a fresh cookie when the node does not accept the one that is known: it makes a new one at
    /// every start.
    async fn exchange(
        &self,
        method: &'static str,
        params: &Value,
        deadline: Duration,
    ) -> Result<RawAnswer, NodeError> {
        let body = json!({ "jsonrpc": "1.0", "id": "adit", "method": method, "params": params }).to_string();
        let known = self.known_credentials();
        let credentials = known.clone().map_or_else(|| self.fresh_credentials(), Ok)?;
        let mut answer = self.post(method, body.clone(), &credentials, deadline).await?;
        if answer.status == StatusCode::UNAUTHORIZED && known.is_some() {
            let credentials = self.fresh_credentials()?;
            answer = self.post(method, body, &credentials, deadline).await?;
        }
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(self.unauthorized()),
            StatusCode::FORBIDDEN => Err(NodeError::Forbidden { url: answer.url }),
            StatusCode::SERVICE_UNAVAILABLE => Err(NodeError::Busy { url: answer.url }),
            // Nodes report refused calls with various other codes, and always in the body.
            _ => Ok(answer),
        }
    }

    fn known_credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the cookie again, or takes the configured password.
    fn fresh_credentials(&self) -> Result<Arc<Credentials>, NodeError> {
        let credentials = Arc::new(match self.config.auth() {
            Auth::UserPass { user, password } => {
                Credentials { user: user.clone(), password: password.reveal().to_owned() }
            }
            Auth::Cookie(path) => {
                let wrong = |reason: String| NodeError::Cookie { path: path.clone(), reason };
                let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
                let pair = text.trim().split_once(':').filter(|_| text.len() <= MAX_COOKIE_LEN);
                let (user, password) =
                    pair.ok_or_else(|| wrong("it is not of the form user:password".to_owned()))?;
                Credentials { user: user.to_owned(), password: password.to_owned() }
            }
        });
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&credentials));
        Ok(credentials)
    }

    /// One request and its whole answer.
    async fn post(
        &self,
        method: &'static str,
        body: String,
        credentials: &Credentials,
        deadline: Duration,
    ) -> Result<RawAnswer, NodeError> {
        let failed = |error: reqwest::Error| self.failed(method, deadline, &error);
        let request = self.http.post(self.config.address().clone());
        let request = request
            .basic_auth(&credentials.user, Some(&credentials.password))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .timeout(deadline)
            .body(body);
        let mut response = request.send().await.map_err(failed)?;
        let mut answer = RawAnswer { url: self.config.url(), status: response.status(), body: Vec::new() };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if answer.body.len() + chunk.len() > MAX_ANSWER_LEN {
                return Err(
                    answer.not_a_node(format!("its answer to {method} has over {MAX_ANSWER_LEN} bytes"))
                );
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    fn unauthorized(&self) -> NodeError {
        let url = self.config.url();
        match self.config.auth() {
            Auth::Cookie(path) => NodeError::WrongCookie { url, path: path.clone() },
            Auth::UserPass { user, .. } => NodeError::WrongPassword { url, user: user.clone() },
        }
    }

    fn failed(&self, method: &'static str, deadline: Duration, error: &reqwest::Error) -> NodeError {
        let url = self.config.url();
        if error.is_timeout() && !error.is_connect() {
            return NodeError::Silent { url, method, secs: deadline.as_secs() };
        }
        // The outermost error repeats the address; the innermost says what the system said.
        let mut reason = error.source();
        while let Some(deeper) = reason.and_then(std::error::Error::source) {
            reason = Some(deeper);
        }
        NodeError::Unreachable { url, reason: reason.map_or_else(|| error.to_string(), ToString::to_string) }
    }
}

/// What came back over HTTP, unread.
struct RawAnswer {
    url: String,
    status: StatusCode,
    body: Vec<u8>,
}

impl RawAnswer {
    /// What the node answered, if anything, or why it did not.
    fn read<'a, T: Deserialize<'a>>(&'a self, method: &'static str) -> Result<Option<T>, NodeError> {
        let answer: Answer<T> = serde_json::from_slice(&self.body)
            .map_err(|error| self.not_a_node(format!("{method} gave HTTP {}, and {error}", self.status)))?;
        let Some(Fault { code, message }) = answer.error else { return Ok(answer.result) };
        Err(match (code, method) {
            (code::IN_WARMUP, _) => NodeError::WarmingUp(message),
            (code::NOT_CONNECTED, "getblocktemplate") => NodeError::NoPeers,
            (code::INITIAL_DOWNLOAD, "getblocktemplate") => NodeError::Syncing,
            (code, method) => NodeError::Fault { method, code, message },
        })
    }

    fn empty(&self, method: &'static str) -> NodeError {
        self.not_a_node(format!("{method} gave nothing"))
    }

    fn not_a_node(&self, reason: String) -> NodeError {
        NodeError::NotANode { url: self.url.clone(), reason }
    }
}

/// The parameters of `getblocktemplate` (BIP 22, 23, 145).
fn template_request(long_poll_id: Option<&str>) -> Value {
    // Naming a rule that a network does not have is allowed (BIP 9), and a signet insists on its own.
    let (capabilities, rules) = (["coinbasevalue", "longpoll"], ["segwit", "signet"]);
    match long_poll_id {
        None => json!([{ "capabilities": capabilities, "rules": rules }]),
        Some(id) => json!([{ "capabilities": capabilities, "rules": rules, "longpollid": id }]),
    }
}

/// What follows from a header for the block on top of it.
fn tip_on(hash: BlockHash, header: &TipHeader, network: Network) -> Option<Tip> {
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
fn submitted(word: Option<String>) -> Submitted {
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

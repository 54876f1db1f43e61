//! Calls to a node: one HTTP request each, with a deadline, a limit on the answer, and errors that say what to do.

use core::fmt::Write as _;
use core::time::Duration;
use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use adit_share::Tip;
use adit_units::TemplateId;
use bitcoin::hex::DisplayHex as _;
use bitcoin::{BlockHash, Network};
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::debug;

use super::answer::{self, ChainInfo, NetworkInfo, TipHeader, Unread, code};
use super::mempool::Index;
use super::template::TemplateOffer;
use super::{Auth, NodeError, RpcConfig, RpcTemplate};
use crate::sources::ChainEnd;
use crate::zmq::{Notification, Zmq, ZmqAddress, discovered};
use crate::{Checked, Fate, NodeInfo, Submitted};

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
/// The rules that blocks made here follow (BIP 9). Naming one that a network does not have is allowed, and a signet insists on its own.
const RULES: [&str; 2] = ["segwit", "signet"];

/// A way to call one node.
#[derive(Debug)]
pub(crate) struct Client {
    config: RpcConfig,
    http: reqwest::Client,
    /// Name and password, once known. Held only to copy them.
    credentials: Mutex<Option<Arc<Credentials>>>,
    templates: AtomicU64,
    /// What waits in the node's mempool. Held only to copy it.
    pub(super) mempool: Mutex<Index>,
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
        let (credentials, mempool) = (Mutex::new(None), Mutex::default());
        Self { config: config.clone(), http, credentials, templates: AtomicU64::new(0), mempool }
    }

    pub(crate) const fn config(&self) -> &RpcConfig {
        &self.config
    }

    /// The hash of the node's last block.
    pub(crate) async fn best_block_hash(&self) -> Result<BlockHash, NodeError> {
        let hash: String = self.call("getbestblockhash", &json!([]), self.config.timing.answer).await?;
        answer::block_hash(&hash).map_err(|reason| self.malformed(reason))
    }

    /// The network, which must be the configured one.
    pub(crate) async fn network(&self) -> Result<Network, NodeError> {
        let chain = self.chain_info().await?;
        let network = self.network_of(&chain)?;
        chain.check_challenge()?;
        Ok(network)
    }

    /// Where the chain ends, if the network is the configured one.
    pub(crate) async fn chain_end(&self) -> Result<ChainEnd, NodeError> {
        let chain = self.chain_info().await?;
        self.network_of(&chain)?;
        chain.end().map_err(|reason| self.malformed(reason))
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
        Ok(answer::tip_on(hash, &header, network))
    }

    /// Hands over a block, trying a few times while the node does not answer.
    pub(crate) async fn submit(&self, block: &[u8]) -> Submitted {
        let timing = &self.config.timing;
        let request = self.request(submission(block), timing.submit);
        let mut pause = timing.first_retry;
        for _ in 1..timing.submit_tries {
            match self.submit_once(again(&request)).await {
                // Whoever follows the block knows its hash, and tells the operator.
                Submitted::Unreachable(reason) => {
                    debug!(url = self.config.url(), reason, "a block could not be handed over")
                }
                answer => return answer,
            }
            sleep(pause).await;
            pause = (pause * 2).min(timing.max_retry);
        }
        self.submit_once(request).await
    }

    async fn submit_once(&self, request: RequestBuilder) -> Submitted {
        let (method, deadline) = ("submitblock", self.config.timing.submit);
        let answer = self.exchange_request(method, request, deadline).await;
        match answer.and_then(|answer| answer.read(method)) {
            Ok(word) => answer::submitted(word),
            Err(NodeError::Fault { code: code::DESERIALIZATION, message, .. }) => Submitted::Refused(message),
            Err(error) => Submitted::Unreachable(error.to_string()),
        }
    }

    /// Where a block is.
    pub(crate) async fn fate(&self, hash: BlockHash) -> Fate {
        let params = json!([hash.to_string(), true]);
        answer::fate(self.call("getblockheader", &params, self.config.timing.answer).await)
    }

    /// Whether an unsolved block keeps every rule, as far as this node can tell (BIP 23).
    pub(crate) async fn check(&self, hex: &str) -> Checked {
        let params = json!([{ "mode": "proposal", "data": hex, "rules": RULES }]);
        match self.call_for_word("getblocktemplate", &params, self.config.timing.template).await {
            Ok(word) => Checked::from_word(word),
            Err(NodeError::Fault { code: code::DESERIALIZATION, message, .. }) => Checked::Refused(message),
            Err(error) => Checked::Unreachable(error.to_string()),
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
        let mut info = chain.info(network, peers).map_err(|reason| self.malformed(reason))?;
        info.trouble = self.template(network, None).await.err().map(Arc::new);
        Ok(info)
    }

    async fn chain_info(&self) -> Result<ChainInfo, NodeError> {
        self.call("getblockchaininfo", &json!([]), self.config.timing.answer).await
    }

    fn network_of(&self, chain: &ChainInfo) -> Result<Network, NodeError> {
        chain.network(self.config.network)
    }

    /// What stands where something else should.
    fn malformed(&self, reason: String) -> NodeError {
        NodeError::NotANode { url: self.config.url(), reason }
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
    async fn call_for_word(
        &self,
        method: &'static str,
        params: &Value,
        deadline: Duration,
    ) -> Result<Option<String>, NodeError> {
        self.exchange(method, params, deadline).await?.read(method)
    }

    /// Calls, and calls once more with a fresh cookie when the node does not accept the one that is known: it makes a new one at
    /// every start.
    pub(super) async fn exchange(
        &self,
        method: &'static str,
        params: &Value,
        deadline: Duration,
    ) -> Result<RawAnswer, NodeError> {
        let body = json!({ "jsonrpc": "1.0", "id": "adit", "method": method, "params": params }).to_string();
        self.exchange_body(method, body, deadline).await
    }

    /// As [`Self::exchange`], with a body that may be several calls of that method.
    pub(super) async fn exchange_body(
        &self,
        method: &'static str,
        body: String,
        deadline: Duration,
    ) -> Result<RawAnswer, NodeError> {
        self.exchange_request(method, self.request(body, deadline), deadline).await
    }

    /// A request without credentials.
    fn request(&self, body: String, deadline: Duration) -> RequestBuilder {
        let request = self.http.post(self.config.address().clone());
        request.header(reqwest::header::CONTENT_TYPE, "application/json").timeout(deadline).body(body)
    }

    async fn exchange_request(
        &self,
        method: &'static str,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<RawAnswer, NodeError> {
        let known = self.known_credentials();
        let credentials = match known.clone() {
            Some(known) => known,
            None => self.fresh_credentials().await?,
        };
        let mut answer = self.send(method, again(&request), &credentials, deadline).await?;
        if answer.status == StatusCode::UNAUTHORIZED && known.is_some() {
            let credentials = self.fresh_credentials().await?;
            answer = self.send(method, request, &credentials, deadline).await?;
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
    async fn fresh_credentials(&self) -> Result<Arc<Credentials>, NodeError> {
        let credentials = Arc::new(match self.config.auth() {
            Auth::UserPass { user, password } => {
                Credentials { user: user.clone(), password: password.reveal().to_owned() }
            }
            Auth::Cookie(path) => {
                let wrong = |reason: String| NodeError::Cookie { path: path.clone(), reason };
                let file = path.clone();
                // A disk may take its time, and nothing else is to wait for it.
                let read = tokio::task::spawn_blocking(move || read_cookie(&file)).await;
                let read = read.map_err(|error| NodeError::Gone(error.to_string()))?;
                let text = read.map_err(|error| wrong(error.to_string()))?;
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
    async fn send(
        &self,
        method: &'static str,
        request: RequestBuilder,
        credentials: &Credentials,
        deadline: Duration,
    ) -> Result<RawAnswer, NodeError> {
        let failed = |error: reqwest::Error| self.failed(method, deadline, &error);
        let request = request.basic_auth(&credentials.user, Some(&credentials.password));
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

/// The same request once more; the two share their body.
fn again(request: &RequestBuilder) -> RequestBuilder {
    request.try_clone().expect("a body that is there as a whole can be sent twice")
}

/// What hands a block over. It is eight million bytes long, and a copy of it is time in which others find a block too; so it is written once.
fn submission(block: &[u8]) -> String {
    const CALL: &str = r#"{"jsonrpc":"1.0","id":"adit","method":"submitblock","params":[""#;
    const END: &str = r#""]}"#;
    let mut body = String::with_capacity(CALL.len() + 2 * block.len() + END.len());
    body.push_str(CALL);
    write!(body, "{:x}", block.as_hex()).expect("a string takes whatever is written");
    body.push_str(END);
    body
}

/// Reads a cookie, and no more of a longer file than shows that it is none.
fn read_cookie(path: &Path) -> io::Result<String> {
    // Opening a pipe, say, would wait until somebody writes into it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_COOKIE_LEN as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// What came back over HTTP, unread.
pub(super) struct RawAnswer {
    url: String,
    status: StatusCode,
    body: Vec<u8>,
}

impl RawAnswer {
    /// What the node answered, if anything, or why it did not.
    pub(super) fn read<'a, T: Deserialize<'a>>(
        &'a self,
        method: &'static str,
    ) -> Result<Option<T>, NodeError> {
        answer::read(&self.body, method).map_err(|unread| match unread {
            Unread::Refused(error) => error,
            Unread::Garbled(error) => {
                self.not_a_node(format!("{method} gave HTTP {}, and {error}", self.status))
            }
        })
    }

    /// What the node answered to several calls at once.
    pub(super) fn read_batch<'a, T: Deserialize<'a>>(&'a self, method: &'static str) -> Result<T, NodeError> {
        let garbled =
            |error| self.not_a_node(format!("a batch of {method} gave HTTP {}, and {error}", self.status));
        serde_json::from_slice(&self.body).map_err(garbled)
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
    let capabilities = ["coinbasevalue", "longpoll"];
    match long_poll_id {
        None => json!([{ "capabilities": capabilities, "rules": RULES }]),
        Some(id) => json!([{ "capabilities": capabilities, "rules": RULES, "longpollid": id }]),
    }
}

//! A scripted node: an honest chain behind a small HTTP server that can be told to misbehave.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use adit_node::{Auth, BlockRefused, Devnet, DevnetConfig, Fate, Pace, Password, RpcConfig, Timing};
use adit_share::{Block, RawTransaction, Template};
use adit_testkit::mining::mine;
use adit_units::{Monotonic, Now, UnixTime, Work};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::{BlockHash, ScriptBuf};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// `user:password` in base64, as [`FakeNode::config`] sends it.
const CREDENTIALS: &str = "dXNlcjpwYXNzd29yZA==";

/// What a method does instead of its work.
#[derive(Clone, Debug)]
pub(crate) enum Trick {
    /// Answers with this result.
    Result(Value),
    /// Answers with an error of this number and text.
    Fault(i64, &'static str),
    /// Answers with this status and body.
    Http(u16, &'static str),
    /// Never answers.
    Silence,
    /// Does its work, and closes the connection instead of answering.
    LoseAnswer,
    /// Answers honestly, but late, unless it is a long poll.
    LatePlainAnswer(Duration),
    /// Sends a body that never ends.
    Endless,
    /// Changes a field of the honest answer.
    Change(&'static str, Value),
}

/// What the server and the test share.
struct State {
    devnet: Devnet,
    now: Now,
    tricks: HashMap<&'static str, Trick>,
    calls: Vec<String>,
    /// The value of the header that lets somebody in.
    credentials: String,
    long_poll: bool,
}

/// A running fake; dropping it closes every connection.
pub(crate) struct FakeNode {
    state: Arc<Mutex<State>>,
    /// Says that there may be news for those who long poll.
    news: watch::Sender<u64>,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
}

impl FakeNode {
    pub(crate) async fn start() -> Self {
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(1_700_000_000) };
        let config = DevnetConfig {
            pace: Pace::Fixed(Work::from_hashes(2)),
            transactions: 8,
            arrival: Duration::from_secs(1),
            ..DevnetConfig::new([5; 32])
        };
        let state = State {
            devnet: Devnet::new(&config, now),
            now,
            tricks: HashMap::new(),
            calls: Vec::new(),
            credentials: CREDENTIALS.to_owned(),
            long_poll: true,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut fake =
            Self { state: Arc::new(Mutex::new(state)), news: watch::Sender::new(0), address, server: None };
        fake.serve(listener);
        fake
    }

    fn serve(&mut self, listener: TcpListener) {
        let (state, news) = (Arc::clone(&self.state), self.news.subscribe());
        self.server = Some(tokio::spawn(async move {
            // Aborting this task drops the set, and with it every connection.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&state), news.clone()));
            }
        }));
    }

    /// Ends as a killed process does: connections break, the port is free.
    pub(crate) async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
    }

    /// Comes back on the same port.
    pub(crate) fn revive(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(16).unwrap());
    }

    /// How to reach it, with short intervals, so that tests do not wait.
    pub(crate) fn config(&self) -> RpcConfig {
        let password = Password::from("password".to_owned());
        self.config_with(Auth::UserPass { user: "user".to_owned(), password })
    }

    pub(crate) fn config_with(&self, auth: Auth) -> RpcConfig {
        let mut config = RpcConfig::new(&self.address.to_string(), auth).unwrap();
        config.timing = Timing {
            tip_poll: Duration::from_millis(20),
            refresh: Duration::from_millis(50),
            answer: Duration::from_millis(1000),
            template: Duration::from_millis(1000),
            submit: Duration::from_millis(1000),
            first_retry: Duration::from_millis(10),
            max_retry: Duration::from_millis(50),
            ..Timing::default()
        };
        config
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on `method` does this instead.
    pub(crate) fn trick(&self, method: &'static str, trick: Trick) {
        self.state().tricks.insert(method, trick);
    }

    /// From now on `method` is honest again.
    pub(crate) fn honest(&self, method: &'static str) {
        self.state().tricks.remove(method);
    }

    /// From now on templates carry no id to long poll with.
    pub(crate) fn without_long_poll(&self) {
        self.state().long_poll = false;
    }

    /// From now on only this lets in; the text is `user:password`.
    pub(crate) fn set_credentials(&self, text: &str) {
        let encoded = match text {
            "user:password" => CREDENTIALS.to_owned(),
            "__cookie__:one" => "X19jb29raWVfXzpvbmU=".to_owned(),
            "__cookie__:two" => "X19jb29raWVfXzp0d28=".to_owned(),
            other => panic!("write the base64 of {other} here"),
        };
        self.state().credentials = encoded;
    }

    /// The calls until now, by method.
    pub(crate) fn calls(&self, method: &str) -> usize {
        self.state().calls.iter().filter(|call| *call == method).count()
    }

    pub(crate) fn best_block(&self) -> BlockHash {
        self.state().devnet.best_block()
    }

    pub(crate) fn template(&self) -> Template {
        let mut state = self.state();
        let now = state.now;
        state.devnet.template(now)
    }

    /// Lets time pass, and with it transactions come.
    pub(crate) fn wait(&self, time: Duration) {
        let mut state = self.state();
        state.now = state.now.after(time);
        drop(state);
        self.news.send_modify(|news| *news += 1);
    }

    /// Takes a block that came from a peer.
    pub(crate) fn take(&self, block: &Block) {
        let mut state = self.state();
        let now = state.now;
        state.devnet.submit_block(&block.to_bytes(), now).unwrap();
        drop(state);
        self.news.send_modify(|news| *news += 1);
    }

    /// Mines a block that nobody submitted, and gives its hash.
    pub(crate) fn mine(&self) -> BlockHash {
        self.wait(Duration::from_secs(1));
        let block = solved(&Arc::new(self.template()));
        let mut state = self.state();
        let now = state.now;
        state.devnet.submit_block(&block.to_bytes(), now).unwrap();
        drop(state);
        self.news.send_modify(|news| *news += 1);
        block.hash
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// A file as the node writes it for those on its machine, and the folder that holds it.
pub(crate) fn cookie(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".cookie");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// A block of `template` that pays nobody in particular.
pub(crate) fn solved(template: &Arc<Template>) -> Block {
    let block = mine(template, ScriptBuf::new());
    block.check().unwrap();
    block
}

/// The answer to `getblocktemplate` that offers `template`.
pub(crate) fn offer(template: &Template) -> Value {
    let transactions: Vec<Value> = template
        .transactions
        .iter()
        .enumerate()
        .map(|(index, transaction)| {
            // The sums are what matters; the first transaction stands for all.
            let of_all = |sum: u64| if index == 0 { sum } else { 0 };
            json!({
                "data": transaction.as_bytes().to_lower_hex_string(),
                "txid": transaction.txid().to_string(),
                "hash": transaction.wtxid().to_string(),
                "fee": of_all(template.fees.to_sats()),
                "sigops": of_all(template.sigops.into()),
                "weight": transaction.weight(),
                "depends": [],
            })
        })
        .collect();
    json!({
        "capabilities": ["proposal"],
        "version": template.version,
        "rules": ["csv", "!segwit", "taproot"],
        "previousblockhash": template.tip.prev_hash.to_string(),
        "transactions": transactions,
        "coinbaseaux": {},
        "coinbasevalue": template.coinbase_value.to_sats(),
        "longpollid": long_poll_id(template),
        "target": template.tip.target.to_string(),
        "mintime": template.tip.min_ntime,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": 80_000,
        "sizelimit": 4_000_000,
        "weightlimit": 4_000_000,
        "curtime": template.time,
        "bits": format!("{:08x}", template.tip.nbits.to_consensus()),
        "height": template.tip.height.0,
        "default_witness_commitment": template.required_outputs[0].script_pubkey.to_hex_string(),
    })
}

fn long_poll_id(template: &Template) -> String {
    format!("{}{}", template.tip.prev_hash, template.transactions.len())
}

/// Serves one connection.
async fn converse(stream: TcpStream, state: Arc<Mutex<State>>, mut news: watch::Receiver<u64>) {
    let mut stream = BufReader::new(stream);
    while let Some((credentials, request)) = read_request(&mut stream).await {
        if let Some(calls) = request.as_array() {
            let answers = answer_batch(calls, &mut state.lock().unwrap());
            if reply(&mut stream, 200, &answers).await.is_err() {
                return;
            }
            continue;
        }
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let trick = {
            let mut state = state.lock().unwrap();
            state.calls.push(method.clone());
            if !request["params"][0]["longpollid"].is_null() {
                state.calls.push("long poll".to_owned());
            }
            if credentials != state.credentials {
                Some(Trick::Http(401, ""))
            } else {
                state.tricks.get(method.as_str()).cloned()
            }
        };
        let late = matches!(trick, Some(Trick::LatePlainAnswer(_)));
        if method == "getblocktemplate" && (trick.is_none() || late) {
            hold_long_poll(&request["params"][0]["longpollid"], &state, &mut news).await;
        }
        let honest = || respond(&method, &request["params"], &mut state.lock().unwrap());
        let answered = match trick {
            None => reply(&mut stream, 200, &honest()).await,
            Some(Trick::Result(result)) => {
                reply(&mut stream, 200, &json!({ "result": result, "error": null })).await
            }
            Some(Trick::Fault(code, message)) => reply(&mut stream, 500, &fault(code, message)).await,
            Some(Trick::Http(status, body)) => write(&mut stream, status, body).await,
            Some(Trick::Silence) => std::future::pending().await,
            Some(Trick::LoseAnswer) => {
                honest();
                return;
            }
            Some(Trick::LatePlainAnswer(delay)) => {
                let answer = honest();
                if request["params"][0]["longpollid"].is_null() {
                    tokio::time::sleep(delay).await;
                }
                reply(&mut stream, 200, &answer).await
            }
            Some(Trick::Endless) => return endless(&mut stream).await,
            Some(Trick::Change(field, value)) => {
                let mut answer = honest();
                answer["result"][field] = value;
                reply(&mut stream, 200, &answer).await
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Waits until there is something else to offer than what `id` names, if it names anything.
async fn hold_long_poll(id: &Value, state: &Mutex<State>, news: &mut watch::Receiver<u64>) {
    let Some(id) = id.as_str() else { return };
    loop {
        news.mark_unchanged();
        {
            let mut state = state.lock().unwrap();
            let now = state.now;
            if long_poll_id(&state.devnet.template(now)) != id {
                return;
            }
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// The credentials and the body of the next request.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut body = vec![0; field("content-length:")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    let credentials = field("authorization:")?.trim_start_matches("Basic ").to_owned();
    Some((credentials, serde_json::from_slice(&body).ok()?))
}

async fn reply(stream: &mut BufReader<TcpStream>, status: u16, answer: &Value) -> std::io::Result<()> {
    write(stream, status, &answer.to_string()).await
}

async fn write(stream: &mut BufReader<TcpStream>, status: u16, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all((head + body).as_bytes()).await
}

async fn endless(stream: &mut BufReader<TcpStream>) {
    let mut sent =
        stream.get_mut().write_all(b"HTTP/1.1 200 -\r\nContent-Length: 1000000000000\r\n\r\n").await;
    while sent.is_ok() {
        sent = stream.get_mut().write_all(&[b' '; 1 << 16]).await;
    }
}

fn fault(code: i64, message: &str) -> Value {
    json!({ "result": null, "error": { "code": code, "message": message } })
}

/// The honest answers to several calls at once, in another order than the calls.
fn answer_batch(calls: &[Value], state: &mut State) -> Value {
    let answer = |call: &Value| {
        let method = call["method"].as_str().unwrap();
        state.calls.push(format!("{method} in a batch"));
        let mut answer = respond(method, &call["params"], state);
        answer["id"] = call["id"].clone();
        answer
    };
    calls.iter().rev().map(answer).collect()
}

/// The honest answer.
fn respond(method: &str, params: &Value, state: &mut State) -> Value {
    let now = state.now;
    let result = match method {
        "getblockchaininfo" => json!({
            "chain": "regtest",
            "blocks": state.devnet.height().0,
            "bestblockhash": state.devnet.best_block().to_string(),
            "initialblockdownload": false,
        }),
        "getnetworkinfo" => json!({ "version": 290_000, "subversion": "/Fake:1.0/", "connections": 3 }),
        "getbestblockhash" => json!(state.devnet.best_block().to_string()),
        "getblocktemplate" => {
            let mut answer = offer(&state.devnet.template(now));
            if !state.long_poll {
                answer.as_object_mut().unwrap().remove("longpollid");
            }
            answer
        }
        "submitblock" => {
            let block = Vec::from_hex(params[0].as_str().unwrap()).unwrap();
            match state.devnet.submit_block(&block, now) {
                Ok(_) => Value::Null,
                Err(BlockRefused::AlreadyKnown(_)) => json!("duplicate"),
                Err(BlockRefused::Encoding(_)) => return fault(-22, "Block decode failed"),
                Err(BlockRefused::Stale(_)) => json!("inconclusive"),
                Err(reason) => json!(reason.to_string().split(':').next()),
            }
        }
        "getblockheader" => match state.devnet.fate(&params[0].as_str().unwrap().parse().unwrap()) {
            Fate::InChain { confirmations } => {
                // Only the last block is asked for more than this.
                let tip = state.devnet.template(state.now).tip;
                json!({
                    "confirmations": confirmations,
                    "height": tip.height.0 - 1,
                    "mediantime": tip.min_ntime - 1,
                    "bits": format!("{:08x}", tip.nbits.to_consensus()),
                })
            }
            Fate::Stale | Fate::Unknown | Fate::Unreachable(_) => return fault(-5, "Block not found"),
        },
        "getrawmempool" if params[0] == json!(false) => {
            let (now, txid) = (state.now, |known: &RawTransaction| known.txid().to_string());
            state.devnet.template(now).transactions.iter().map(txid).collect()
        }
        // Described as a whole, the mempool of the main network is longer than what is read of an answer.
        "getrawmempool" => return fault(-1, "too long"),
        "getmempoolentry" | "getrawtransaction" => {
            let now = state.now;
            let transactions = state.devnet.template(now).transactions;
            match transactions.iter().find(|known| known.txid().to_string() == params[0].as_str().unwrap()) {
                None => return fault(-5, "Transaction not in mempool"),
                Some(known) if method == "getrawtransaction" => json!(known.as_bytes().to_lower_hex_string()),
                Some(known) => json!({ "wtxid": known.wtxid().to_string(), "weight": known.weight() }),
            }
        }
        _ => return fault(-32601, "Method not found"),
    };
    json!({ "result": result, "error": null, "id": "adit" })
}

//! Pools, a translator and SV1 machines to test with.

use core::time::Duration;
use std::sync::Arc;

use adit_net::{Bound, Clock, Limits};
use adit_node::Node;
use adit_testkit::stage::{self, RATE, SPEED, free};
pub(crate) use adit_testkit::stage::{Pool, eventually, height, script};
use adit_translator::server::{Doors, Mode, Tls, Translator, TranslatorConfig, UpstreamTarget};
use adit_translator::{MachineConfig, Status};
use adit_units::{Difficulty, Monotonic, Target, Work};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What a block costs: little enough for a processor, and many times what a share costs.
const BLOCK: Work = Work::from_hashes(1 << 23);

/// A chain on which blocks are found every few seconds.
pub(crate) fn chain() -> Node {
    stage::chain(BLOCK)
}

/// A chain on which no processor finds a block.
pub(crate) fn quiet_chain() -> Node {
    stage::chain(Work::from_hashes(1 << 60))
}

/// A pool as a translator names it.
pub(crate) fn upstream(pool: &Pool) -> UpstreamTarget {
    UpstreamTarget { pool: pool.url().into(), user: "farm.house".to_owned(), password: None, expects: None }
}

/// What a translator goes by in these tests: shares that a processor finds several of in a second.
pub(crate) fn config(mode: Mode, upstreams: &[UpstreamTarget]) -> TranslatorConfig {
    let machine = MachineConfig { rate: RATE, ..MachineConfig::default() };
    TranslatorConfig {
        upstreams: upstreams.to_vec(),
        mode,
        machine,
        keepalive: Duration::from_secs(30),
        first_guess: SPEED,
        limits: Limits::default(),
        insecure: false,
        allows_public: false,
        expects_proxy: false,
        rest: None,
    }
}

/// A translator that machines reach over TLS too.
pub(crate) fn translator_with_tls(config: TranslatorConfig, tls: Tls) -> Translator {
    let [plain, encrypted] = [free(), free()].map(|address| Bound::new(address).unwrap());
    Translator::start(config, Doors { plain, tls: Some((encrypted, tls)) }).unwrap()
}

pub(crate) fn translator(config: TranslatorConfig) -> Translator {
    Translator::start(config, Bound::new(free()).unwrap()).unwrap()
}

/// Ends a translator in order, and then its pools.
pub(crate) async fn stop(translator: Translator, pools: impl IntoIterator<Item = Pool>) {
    translator.shutdown().await;
    for pool in pools {
        pool.stop().await;
    }
}

/// The numbers of a translator as they come.
pub(crate) fn status(translator: &Translator) -> impl Fn() -> Arc<Status> + use<> {
    let numbers = translator.numbers();
    move || numbers.status()
}

/// What a machine has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) accepted: u64,
    pub(crate) refused: Vec<String>,
    pub(crate) extranonces: Vec<String>,
    pub(crate) jobs: Vec<String>,
    /// The same with all their parameters, and when they came.
    pub(crate) notifies: Vec<(Monotonic, Value)>,
    /// That it was sent away, or the connection ended.
    pub(crate) ended: bool,
}

/// How long a machine only listens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    None,
    /// Until its newest job is the one before under another number.
    UntilRenewed,
}

impl Patience {
    fn has_ended(self, note: &tokio::sync::watch::Sender<Seen>) -> bool {
        match self {
            Self::None => true,
            Self::UntilRenewed => note.borrow().is_renewed(),
        }
    }
}

impl Seen {
    /// Whether nothing is new about the newest job but its number and its time.
    pub(crate) fn is_renewed(&self) -> bool {
        let [.., (_, before), (_, newest)] = self.notifies.as_slice() else { return false };
        (1..=6).all(|part| before[part] == newest[part])
    }
}

/// A machine that mines until it is dropped.
pub(crate) struct Machine {
    seen: tokio::sync::watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Machine {
    /// Connects and mines.
    pub(crate) fn start(translator: &Translator, user: &str) -> Self {
        Self::start_as(translator, user, Patience::None)
    }

    /// Connects and mines, at once or later.
    pub(crate) fn start_as(translator: &Translator, user: &str, patience: Patience) -> Self {
        let address = translator.address();
        Self::run(async move { TcpStream::connect(address).await.unwrap() }, user, patience)
    }

    /// Mines over a stream of any kind.
    pub(crate) fn start_over<S: Stream>(
        connecting: impl Future<Output = S> + Send + 'static,
        user: &str,
    ) -> Self {
        Self::run(connecting, user, Patience::None)
    }

    fn run<S: Stream>(
        connecting: impl Future<Output = S> + Send + 'static,
        user: &str,
        patience: Patience,
    ) -> Self {
        let (note, seen) = tokio::sync::watch::channel(Seen::default());
        let user = user.to_owned();
        let task = tokio::spawn(async move {
            let stream = connecting.await;
            let mut rig = Rig::new(stream, user, note);
            rig.log_in().await;
            while !patience.has_ended(&rig.note) && rig.listen().await.is_some() {}
            while rig.mine().await.is_some() {}
            rig.note.send_modify(|seen| seen.ended = true);
        });
        Self { seen, task }
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.seen.borrow().accepted
    }

    pub(crate) fn seen(&self) -> tokio::sync::watch::Ref<'_, Seen> {
        self.seen.borrow()
    }
}

/// What a machine can be connected by.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// The machine's own side of the connection.
struct Rig<S> {
    lines: BufReader<S>,
    user: String,
    note: tokio::sync::watch::Sender<Seen>,
    next_id: u64,
    extranonce1: Vec<u8>,
    extranonce2: u64,
    /// Bytes of it, as the server wants them.
    extranonce2_len: usize,
    target: Target,
    job: Option<Value>,
}

impl<S: Stream> Rig<S> {
    fn new(stream: S, user: String, note: tokio::sync::watch::Sender<Seen>) -> Self {
        let lines = BufReader::new(stream);
        Self {
            lines,
            user,
            note,
            next_id: 0,
            extranonce1: Vec::new(),
            extranonce2: 0,
            extranonce2_len: 0,
            target: Target::ZERO,
            job: None,
        }
    }

    async fn log_in(&mut self) {
        let rolling = json!([["version-rolling"], { "version-rolling.mask": "1fffe000" }]);
        self.call("mining.configure", &rolling).await.unwrap();
        let subscribed = self.call("mining.subscribe", &json!(["cpuminer/2.5.1"])).await.unwrap();
        let extranonce1 = subscribed["result"][1].as_str().unwrap().to_owned();
        self.extranonce1 = Vec::from_hex(&extranonce1).unwrap();
        self.extranonce2_len = subscribed["result"][2].as_u64().unwrap().try_into().unwrap();
        self.note.send_modify(|seen| seen.extranonces.push(extranonce1));
        let user = self.user.clone();
        let answer = self.call("mining.authorize", &json!([user, "x"])).await.unwrap();
        assert_eq!(answer["result"], json!(true));
    }

    /// Looks for a share and submits it; `None` when the connection is over.
    async fn mine(&mut self) -> Option<()> {
        let Some(job) = self.job.clone() else { return self.listen().await };
        self.extranonce2 += 1;
        let counted = self.extranonce2.to_be_bytes();
        let extranonce2 = &counted[counted.len() - self.extranonce2_len..];
        let mut header = header(&job, &self.extranonce1, extranonce2);
        // Version bits of every kind are rolled.
        let rolled = u16::try_from(self.extranonce2 & 0xffff).unwrap();
        let bits = u32::from(rolled) << 13 & 0x1fff_e000;
        let version = u32::from_str_radix(job[5].as_str().unwrap(), 16).unwrap() & !0x1fff_e000 | bits;
        header[..4].copy_from_slice(&version.to_le_bytes());
        let target = self.target;
        let found = tokio::task::spawn_blocking(move || {
            (0..100_000_u32).find(|nonce| {
                header[76..].copy_from_slice(&nonce.to_le_bytes());
                target.is_met_by(&sha256d::Hash::hash(&header).to_byte_array())
            })
        });
        let Some(nonce) = found.await.unwrap() else { return Some(()) };
        let share = json!([
            self.user,
            job[0],
            extranonce2.to_lower_hex_string(),
            job[7],
            format!("{nonce:08x}"),
            format!("{bits:08x}")
        ]);
        let answer = self.call("mining.submit", &share).await?;
        self.note.send_modify(|seen| match answer["result"] == json!(true) {
            true => seen.accepted += 1,
            false => seen.refused.push(answer["error"].to_string()),
        });
        Some(())
    }

    /// Reads one line that is no answer.
    async fn listen(&mut self) -> Option<()> {
        let message = self.read().await?;
        self.take(&message);
        Some(())
    }

    async fn call(&mut self, method: &str, params: &Value) -> Option<Value> {
        self.next_id += 1;
        let line = format!("{}\n", json!({ "id": self.next_id, "method": method, "params": params }));
        self.lines.get_mut().write_all(line.as_bytes()).await.ok()?;
        loop {
            let message = self.read().await?;
            if message["id"] == json!(self.next_id) {
                return Some(message);
            }
            self.take(&message);
        }
    }

    async fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).await.ok()?;
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    fn take(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str().unwrap() {
            "mining.notify" => {
                self.job = Some(params.clone());
                self.note.send_modify(|seen| {
                    seen.jobs.push(params[0].as_str().unwrap().to_owned());
                    seen.notifies.push((Clock.monotonic(), params.clone()));
                });
            }
            "mining.set_difficulty" => {
                self.target = params[0].to_string().parse::<Difficulty>().unwrap().to_target();
            }
            "mining.set_version_mask" => {}
            other => panic!("unexpected {other}"),
        }
    }
}

/// The header of a job, with a nonce of zero.
fn header(job: &Value, extranonce1: &[u8], extranonce2: &[u8]) -> [u8; 80] {
    let bytes = |value: &Value| Vec::from_hex(value.as_str().unwrap()).unwrap();
    let coinbase = [bytes(&job[2]).as_slice(), extranonce1, extranonce2, &bytes(&job[3])].concat();
    let leaf = sha256d::Hash::hash(&coinbase).to_byte_array().to_vec();
    let root =
        job[4].as_array().unwrap().iter().fold(leaf, |root, step| {
            sha256d::Hash::hash(&[root, bytes(step)].concat()).to_byte_array().to_vec()
        });
    // Numbers are written big-endian; the previous hash is eight of them.
    let turned = |value: &Value| {
        bytes(value).chunks(4).flat_map(|word| word.iter().rev().copied()).collect::<Vec<_>>()
    };
    let fields = [turned(&job[5]), turned(&job[1]), root, turned(&job[7]), turned(&job[6]), vec![0; 4]];
    fields.concat().try_into().unwrap()
}

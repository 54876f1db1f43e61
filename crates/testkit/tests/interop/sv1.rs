//! A small SV1 miner, to stand behind a translator.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use adit_units::{Target, Work};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use serde_json::{Value, json};

/// How many jobs in a row may turn out to be outdated.
const TRIES: usize = 20;
/// The SV1 error code of a share on a job that is no more.
const JOB_NOT_FOUND: u32 = 21;

/// How long the translator may say nothing, in seconds; a new job comes at least once a minute.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// The expected hashes of difficulty one.
const DIFFICULTY_1: f64 = 4_295_032_833.0;

/// The translator's config: one upstream, by its address and key; SV1 miners on `address`, on one channel for all if it `aggregates`.
pub(crate) fn translator_config(
    (upstream, authority): (&str, &str),
    aggregates: bool,
    address: &str,
) -> String {
    let split = |address: &str| {
        let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
        (host.to_owned(), port.to_owned())
    };
    let ((host, port), (pool_host, pool_port)) = (split(address), split(upstream));
    format!(
        r#"
downstream_address = "{host}"
downstream_port = {port}
max_supported_version = 2
min_supported_version = 2
downstream_extranonce2_size = 4
verify_payout = false
aggregate_channels = {aggregates}
supported_extensions = [0x0002]

[downstream_difficulty_config]
min_individual_miner_hashrate = 200_000.0
shares_per_minute = 60.0
enable_vardiff = false
job_keepalive_interval_secs = 60

[[upstreams]]
address = "{pool_host}"
port = {pool_port}
authority_pubkey = "{authority}"
user_identity = "translator"
"#
    )
}

/// A connected miner.
pub(crate) struct Miner {
    lines: BufReader<TcpStream>,
    user: String,
    next_id: u64,
    extranonce1: Vec<u8>,
    extranonce2_len: usize,
    extranonce2: u64,
    target: Target,
    /// The parameters of the last `mining.notify`.
    job: Option<Value>,
}

impl Miner {
    pub(crate) fn connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self {
            lines: BufReader::new(stream),
            user: String::new(),
            next_id: 0,
            extranonce1: Vec::new(),
            extranonce2_len: 0,
            extranonce2: 0,
            target: Target::ZERO,
            job: None,
        })
    }

    /// Subscribes and authorizes, and waits for the first job.
    pub(crate) fn log_in(&mut self, user: &str) {
        user.clone_into(&mut self.user);
        let subscribed = self.call("mining.subscribe", &json!(["adit-interop"]));
        self.extranonce1 = Vec::from_hex(text(&subscribed[1])).expect("extranonce1 is hexadecimal");
        let len = subscribed[2].as_u64().and_then(|len| usize::try_from(len).ok());
        self.extranonce2_len = len.expect("the extranonce2's length is a small number");
        assert_eq!(self.call("mining.authorize", &json!([user, "x"])), json!(true));
        while self.job.is_none() || self.target == Target::ZERO {
            let message = self.read();
            self.note(&message);
        }
    }

    /// Hashes until a header meets the target, and submits it; the answer must be yes.
    pub(crate) fn mine_a_share(&mut self) {
        for _ in 0..TRIES {
            let share = self.find_a_share();
            let answer = self.ask("mining.submit", &share);
            if answer["error"][0] != json!(JOB_NOT_FOUND) {
                assert_eq!(answer["result"], json!(true), "the translator refused {share}: {answer}");
                return;
            }
            // The share before this one was a block, and the next job has come while this one was mined.
        }
        panic!("the translator knows none of its own jobs");
    }

    /// The parameters of a submission that meets the target.
    fn find_a_share(&mut self) -> Value {
        let job = self.job.clone().expect("a job came at log-in");
        self.extranonce2 += 1;
        let extranonce2 = self.extranonce2.to_le_bytes()[..self.extranonce2_len.min(8)].to_vec();
        let mut padded = extranonce2;
        padded.resize(self.extranonce2_len, 0);
        let mut header = header(&job, &self.extranonce1, &padded);
        for nonce in 0..u32::MAX {
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            if self.target.is_met_by(&sha256d::Hash::hash(&header).to_byte_array()) {
                return json!([
                    self.user,
                    job[0],
                    padded.to_lower_hex_string(),
                    job[7],
                    format!("{nonce:08x}")
                ]);
            }
        }
        panic!("four billion hashes and no share; is the target {} right?", self.target);
    }

    /// Sends a request and reads until its answer comes, which must be no error.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Sends a request and reads until its answer comes, taking in notifications.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next_id += 1;
        let request = json!({ "id": self.next_id, "method": method, "params": params });
        writeln!(self.lines.get_mut(), "{request}").expect("the translator listens");
        loop {
            let message = self.read();
            if message["id"] == json!(self.next_id) && message.get("method").is_none_or(Value::is_null) {
                return message;
            }
            self.note(&message);
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the translator says something within two minutes");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("not JSON ({e}): {line:?}"))
    }

    /// Takes in a notification.
    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("mining.notify") => self.job = Some(params.clone()),
            Some("mining.set_difficulty") => {
                let hashes = params[0].as_f64().expect("a difficulty is a number") * DIFFICULTY_1;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a small positive number"
                )]
                let work = Work::from_hashes(hashes.ceil() as u128 + 1);
                self.target = Target::from_work(work);
            }
            Some("mining.set_extranonce") => {
                self.extranonce1 = Vec::from_hex(text(&params[0])).expect("extranonce1 is hexadecimal");
                let len = params[1].as_u64().and_then(|len| usize::try_from(len).ok());
                self.extranonce2_len = len.expect("the extranonce2's length is a small number");
            }
            Some(_) | None => {}
        }
    }
}

/// The 80 bytes to hash, nonce zero, from the parameters of `mining.notify`:
/// job, previous hash, coinbase's two parts, merkle path, version, bits, time.
fn header(job: &Value, extranonce1: &[u8], extranonce2: &[u8]) -> [u8; 80] {
    let bytes = |value: &Value| Vec::from_hex(text(value)).expect("fields of a job are hexadecimal");
    let mut coinbase = bytes(&job[2]);
    coinbase.extend_from_slice(extranonce1);
    coinbase.extend_from_slice(extranonce2);
    coinbase.extend(bytes(&job[3]));
    let mut root = sha256d::Hash::hash(&coinbase).to_byte_array();
    for sibling in job[4].as_array().expect("the merkle path is a list") {
        root = sha256d::Hash::hash(&[&root[..], &bytes(sibling)].concat()).to_byte_array();
    }
    let mut header = [0; 80];
    header[..4].copy_from_slice(&reversed(&bytes(&job[5])));
    // SV1 writes the previous hash with the bytes of each word turned around.
    for (word, place) in bytes(&job[1]).chunks(4).zip(header[4..36].chunks_mut(4)) {
        place.copy_from_slice(&reversed(word));
    }
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&reversed(&bytes(&job[7])));
    header[72..76].copy_from_slice(&reversed(&bytes(&job[6])));
    header
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

//! A real Bitcoin node for one test: started on a private chain in a folder of its own, and gone when the test is.

mod blocking_rpc;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{
    Address, Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Txid, Witness, absolute, opcodes, transaction,
};
use serde_json::{Value, json};

pub use blocking_rpc::CallError;

/// A node program that tests know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bitcoin Knots, or another `bitcoind` that is spoken to over JSON-RPC.
    Knots,
    /// Bitcoin Core's `bitcoin-node`, which also takes connections at a socket (IPC).
    Core,
}

impl Kind {
    /// The environment variable that names the program, and the script that sets it.
    const fn variable(self) -> (&'static str, &'static str) {
        match self {
            Self::Knots => ("ADIT_BITCOIND", "scripts/lib/knots.sh"),
            Self::Core => ("ADIT_CORE", "scripts/lib/core.sh"),
        }
    }

    /// The program; `None` when such nodes are not asked for.
    #[must_use]
    pub fn command(self) -> Option<PathBuf> {
        let (variable, _) = self.variable();
        std::env::var_os(variable).filter(|name| !name.is_empty()).map(PathBuf::from)
    }

    /// As [`Self::command`]; when no program is named, says on the terminal that `test` was left out.
    ///
    /// The line goes around the capture of the test harness, so that a run without a node never looks like one with it.
    #[must_use]
    pub fn command_for(self, test: &str) -> Option<PathBuf> {
        let command = self.command();
        if command.is_none() {
            let (variable, script) = self.variable();
            let line = format!("LEFT OUT: {test}: {variable} names no node ({script} has one)\n");
            // There is nobody to tell when the terminal is gone.
            drop(std::io::stderr().write_all(line.as_bytes()));
        }
        command
    }

    /// Starts a node on an empty chain, with more command-line `arguments`, and waits until it answers; without a program, says that
    /// `test` was left out.
    ///
    /// # Panics
    ///
    /// If the program that is named for tests does not start.
    #[must_use]
    pub fn start(self, test: &str, chain: Chain, arguments: &[&str]) -> Option<Bitcoind> {
        let command = self.command_for(test)?;
        let own: &[&str] = match self {
            Self::Knots => &[],
            Self::Core => &["-ipcbind=unix"],
        };
        let started = Bitcoind::start_with(&command, chain, &[own, arguments].concat());
        Some(started.unwrap_or_else(|error| panic!("the node that is named for tests: {error}")))
    }
}

/// How often a starting or stopping node is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How many looks a node has to answer its first call, or to exit when told to: a minute.
const MAX_LOOKS: u32 = 1200;
/// How often a start is tried again when somebody else took the free port first.
const MAX_STARTS: u32 = 3;
/// How many blocks must lie on top of a coinbase before it can be spent.
const COINBASE_MATURITY: u32 = 100;
/// What a transaction of [`Bitcoind::send_transactions`] leaves to the miner, in satoshis.
pub const TRANSACTION_FEE: Amount = Amount::from_sat(10_000);
/// What a transaction of [`Bitcoind::send_large_transactions`] leaves to the miner, in satoshis.
pub const LARGE_TRANSACTION_FEE: Amount = Amount::from_sat(200_000);
/// How many outputs such a transaction has: it weighs 397 thousand units then, and nodes relay up to 400.
const LARGE_TRANSACTION_OUTPUTS: usize = 3200;
/// The version that takes any block over its socket, and JSON-RPC too: it is not released, and sources before a release end in 99.
const FIRST_WITH_ALL_OVER_ITS_SOCKET: u32 = 319_900;
/// How many nonces the node may try for one block of [`Bitcoind::generate`]; a private signet needs about five million.
const MAX_TRIES: u32 = 2_000_000_000;

/// What every node here is started with: no peers, its log where we find it, and little memory.
const ARGUMENTS: [&str; 8] = [
    "-server",
    "-listen=0",
    "-connect=0",
    "-dnsseed=0",
    "-fixedseeds=0",
    "-printtoconsole=1",
    "-dbcache=16",
    "-par=1",
];

/// The private chain that a node is started on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Every second hash is a block.
    Regtest,
    /// A signet whose challenge is `OP_TRUE`: real difficulty (about five million hashes a block), no signature needed.
    PrivateSignet,
    /// The main network, of which a node without peers never gets to know more than the first block.
    Main,
}

impl Chain {
    /// The network whose addresses the chain uses.
    #[must_use]
    pub const fn network(self) -> Network {
        match self {
            Self::Regtest => Network::Regtest,
            Self::PrivateSignet => Network::Signet,
            Self::Main => Network::Bitcoin,
        }
    }

    /// The command-line arguments that choose the chain.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Regtest => &["-regtest"],
            Self::PrivateSignet => &["-signet", "-signetchallenge=51"],
            Self::Main => &["-chain=main"],
        }
    }

    /// The folder below the data folder where the node keeps the chain and its cookie.
    const fn folder(self) -> &'static str {
        match self {
            Self::Regtest => "regtest",
            Self::PrivateSignet => "signet",
            Self::Main => "",
        }
    }
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No folder, port or process to be had.
    #[error("cannot start {command}: {source}")]
    Io {
        /// The program.
        command: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node ended before it answered.
    #[error("the node ended while starting ({status}); the end of its log:\n{log}")]
    Ended {
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// The node runs but answers no call.
    #[error("the node did not answer within a minute; the end of its log:\n{log}")]
    Silent {
        /// The last lines that it wrote.
        log: String,
    },
}

/// A running node; dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Bitcoind {
    command: PathBuf,
    chain: Chain,
    extra: Vec<String>,
    folder: tempfile::TempDir,
    rpc_port: u16,
    /// `None` while the node is stopped.
    process: Option<Child>,
}

impl Bitcoind {
    /// Starts a node on an empty chain and waits until it answers.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, ends at once, or answers nothing for a minute.
    pub fn start(command: &Path, chain: Chain) -> Result<Self, StartError> {
        Self::start_with(command, chain, &[])
    }

    /// As [`Self::start`], with more command-line arguments; one of the same name as one of ours takes its place.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_with(command: &Path, chain: Chain, extra: &[&str]) -> Result<Self, StartError> {
        let io = |source| StartError::Io { command: command.to_owned(), source };
        let folder = tempfile::Builder::new().prefix("adit-node-").tempdir().map_err(io)?;
        let mut node = Self {
            command: command.to_owned(),
            chain,
            extra: extra.iter().map(ToString::to_string).collect(),
            folder,
            rpc_port: free_port().map_err(io)?,
            process: None,
        };
        for _ in 1..MAX_STARTS {
            match node.launch() {
                Err(StartError::Ended { .. }) => node.rpc_port = free_port().map_err(io)?,
                outcome => return outcome.map(|()| node),
            }
        }
        node.launch()?;
        Ok(node)
    }

    /// The chain that the node is on.
    #[must_use]
    pub const fn chain(&self) -> Chain {
        self.chain
    }

    /// Where the node takes RPC calls.
    #[must_use]
    pub fn rpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    /// The port of [`Self::rpc_url`].
    #[must_use]
    pub const fn rpc_port(&self) -> u16 {
        self.rpc_port
    }

    /// The folder given as `-datadir`.
    #[must_use]
    pub fn data_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with the credentials of the present run; a new run writes new ones.
    #[must_use]
    pub fn cookie_path(&self) -> PathBuf {
        self.folder.path().join(self.chain.folder()).join(".cookie")
    }

    /// The socket of a node that was started with `-ipcbind=unix`.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join(self.chain.folder()).join("node.sock")
    }

    /// The process id, for signals from outside; `None` while stopped.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Stops the node as an operator would, and waits until the process has ended.
    ///
    /// # Errors
    ///
    /// When the node does not take the call.
    pub fn stop(&mut self) -> Result<(), CallError> {
        self.call("stop", &json!([]))?;
        let mut looks = 0;
        while self.is_running() && looks < MAX_LOOKS {
            sleep(LOOK_INTERVAL);
            looks += 1;
        }
        self.kill();
        Ok(())
    }

    /// Ends the process at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself; then there is nothing left to do.
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Starts a stopped node again, on the same chain, folder and port.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn launch(&mut self) -> Result<(), StartError> {
        self.kill();
        // An old cookie would be taken for the new run's.
        drop(fs::remove_file(self.cookie_path()));
        let log = fs::File::create(self.log_path()).map_err(|source| self.io_error(source))?;
        let process = Command::new(&self.command)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|source| self.io_error(source))?)
            .stderr(log)
            .spawn()
            .map_err(|source| self.io_error(source))?;
        self.process = Some(process);
        self.wait_until_ready()
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.chain.arguments().iter().map(ToString::to_string).collect();
        arguments.push(format!("-datadir={}", self.folder.path().display()));
        arguments.push(format!("-rpcport={}", self.rpc_port));
        arguments.extend(ARGUMENTS.map(str::to_owned));
        let name = |argument: &str| argument.split('=').next().map(str::to_owned);
        arguments.retain(|ours| !self.extra.iter().any(|extra| name(extra) == name(ours)));
        arguments.extend_from_slice(&self.extra);
        arguments
    }

    /// Waits until the node takes calls.
    fn wait_until_ready(&mut self) -> Result<(), StartError> {
        for _ in 0..MAX_LOOKS {
            if let Some(status) = self.exit_status() {
                return Err(StartError::Ended { status, log: self.log_tail() });
            }
            if self.cookie_path().exists() && self.call("getblockcount", &json!([])).is_ok() {
                return Ok(());
            }
            sleep(LOOK_INTERVAL);
        }
        self.kill();
        Err(StartError::Silent { log: self.log_tail() })
    }

    fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// How the process ended, if it has.
    fn exit_status(&mut self) -> Option<String> {
        match self.process.as_mut()?.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn io_error(&self, source: std::io::Error) -> StartError {
        StartError::Io { command: self.command.clone(), source }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("output.log")
    }

    /// All that the node wrote since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The last lines of what the node wrote.
    #[must_use]
    pub fn log_tail(&self) -> String {
        const LINES: usize = 30;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }

    /// Calls any method of the node.
    ///
    /// # Errors
    ///
    /// When the node cannot be reached or refuses the call.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, CallError> {
        let cookie = fs::read_to_string(self.cookie_path()).map_err(CallError::Io)?;
        blocking_rpc::call(self.rpc_port, cookie.trim(), method, params)
    }

    /// The node's version, as six digits: 300200 is 30.2.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn version(&self) -> Result<u32, CallError> {
        let info = self.call("getnetworkinfo", &json!([]))?;
        info["version"]
            .as_u64()
            .and_then(|version| u32::try_from(version).ok())
            .ok_or_else(|| malformed(&info))
    }

    /// Whether it is a Bitcoin Core whose socket alone is not enough: one that takes only blocks of its own templates there, and tells
    /// neither where a block is nor which test network it is on. That is so up to version 31.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn needs_rpc_beside_its_socket(&self) -> Result<bool, CallError> {
        Ok(self.version()? < FIRST_WITH_ALL_OVER_ITS_SOCKET)
    }

    /// The height of the best chain.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn height(&self) -> Result<u32, CallError> {
        let count = self.call("getblockcount", &json!([]))?;
        count.as_u64().and_then(|count| u32::try_from(count).ok()).ok_or_else(|| malformed(&count))
    }

    /// The hash at the end of the best chain.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn best_block_hash(&self) -> Result<BlockHash, CallError> {
        parsed(&self.call("getbestblockhash", &json!([]))?)
    }

    /// The block of the best chain at `height`.
    ///
    /// # Errors
    ///
    /// As [`Self::call`]; also when there is none.
    pub fn block_at(&self, height: u32) -> Result<Block, CallError> {
        self.block(parsed(&self.call("getblockhash", &json!([height]))?)?)
    }

    /// The block with that hash.
    ///
    /// # Errors
    ///
    /// As [`Self::call`]; also when the node does not know it.
    pub fn block(&self, hash: BlockHash) -> Result<Block, CallError> {
        let hex = self.call("getblock", &json!([hash.to_string(), 0]))?;
        deserialize_hex(hex.as_str().unwrap_or_default()).map_err(|_| malformed(&hex))
    }

    /// How many transactions wait to be mined.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn mempool_len(&self) -> Result<usize, CallError> {
        let txids = self.call("getrawmempool", &json!([]))?;
        txids.as_array().map(Vec::len).ok_or_else(|| malformed(&txids))
    }

    /// Lets the node itself mine `count` blocks with what is in its mempool; anybody can spend their coinbases.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn generate(&self, count: u32) -> Result<Vec<BlockHash>, CallError> {
        let mut hashes = Vec::new();
        // One call per block: on a signet a call for many would run into the deadline of the call.
        for _ in 0..count {
            let address = Address::p2wsh(&anyone_can_spend(), self.chain.network());
            let mined = self.call("generatetoaddress", &json!([1, address.to_string(), MAX_TRIES]))?;
            hashes.push(parsed(&mined[0])?);
        }
        Ok(hashes)
    }

    /// Mines until `count` coinbases (at least) of [`Self::generate`] can be spent; quick on regtest only.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn mature_coinbases(&self, count: u32) -> Result<(), CallError> {
        let wanted = COINBASE_MATURITY - 1 + count;
        self.generate(wanted.saturating_sub(self.height()?)).map(drop)
    }

    /// Puts `count` transactions into the mempool, each spending one coinbase of [`Self::generate`] and leaving
    /// [`TRANSACTION_FEE`] to the miner.
    ///
    /// # Errors
    ///
    /// As [`Self::call`]; also when too few coinbases are mature and unspent.
    pub fn send_transactions(&self, count: usize) -> Result<Vec<Txid>, CallError> {
        self.send(count, 1, TRANSACTION_FEE)
    }

    /// As [`Self::send_transactions`], but ten transactions nearly fill a block, and each leaves [`LARGE_TRANSACTION_FEE`] and
    /// what does not divide evenly.
    ///
    /// # Errors
    ///
    /// As [`Self::send_transactions`].
    pub fn send_large_transactions(&self, count: usize) -> Result<Vec<Txid>, CallError> {
        self.send(count, LARGE_TRANSACTION_OUTPUTS, LARGE_TRANSACTION_FEE)
    }

    fn send(&self, count: usize, outputs: usize, fee: Amount) -> Result<Vec<Txid>, CallError> {
        let mut sent = Vec::new();
        let spendable = (self.height()? + 1).saturating_sub(COINBASE_MATURITY);
        for height in 1..=spendable {
            if sent.len() == count {
                break;
            }
            if let Some((outpoint, value)) = self.unspent_coinbase(height)? {
                let transaction = spend(outpoint, value - fee, outputs);
                let txid = self.call("sendrawtransaction", &json!([serialize_hex(&transaction)]))?;
                sent.push(parsed(&txid)?);
            }
        }
        if sent.len() < count {
            let message = format!("only {} of {count} coinbases can be spent; mine more first", sent.len());
            return Err(CallError::Refused { code: 0, message });
        }
        Ok(sent)
    }

    /// The first output of the coinbase at `height`; `None` when it is not ours or spent already.
    fn unspent_coinbase(&self, height: u32) -> Result<Option<(OutPoint, Amount)>, CallError> {
        let block = self.block_at(height)?;
        let Some(coinbase) = block.coinbase() else { return Ok(None) };
        let ours = |output: &&TxOut| output.script_pubkey == anyone_can_spend().to_p2wsh();
        let Some(output) = coinbase.output.first().filter(ours) else { return Ok(None) };
        let outpoint = OutPoint::new(coinbase.compute_txid(), 0);
        let unspent = self.call("gettxout", &json!([outpoint.txid.to_string(), outpoint.vout, true]))?;
        Ok((!unspent.is_null()).then_some((outpoint, output.value)))
    }

    /// Hands a block to the node; `None` means taken, else the node's reason.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn submit_block(&self, block: &Block) -> Result<Option<String>, CallError> {
        Ok(self.call("submitblock", &json!([serialize_hex(block)]))?.as_str().map(str::to_owned))
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The witness script of [`Bitcoind::generate`]'s coinbases.
fn anyone_can_spend() -> ScriptBuf {
    Builder::new().push_opcode(opcodes::OP_TRUE).into_script()
}

/// A transaction with a witness that pays `value` in equal `outputs`, each to a key hash of its own.
fn spend(outpoint: OutPoint, value: Amount, outputs: usize) -> Transaction {
    let script = anyone_can_spend();
    let payee = |number: usize| {
        let seed = [&outpoint.txid.to_byte_array()[..], &number.to_le_bytes()].concat();
        ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(&seed))
    };
    let value = value / u64::try_from(outputs).unwrap_or(u64::MAX);
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[script.as_bytes()]),
        }],
        output: (0..outputs).map(|number| TxOut { value, script_pubkey: payee(number) }).collect(),
    }
}

/// A port of the loopback that is free now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// An answer that is a text, as what the text says.
fn parsed<T: FromStr>(value: &Value) -> Result<T, CallError> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| malformed(value))
}

fn malformed(value: &Value) -> CallError {
    CallError::Malformed(value.to_string())
}

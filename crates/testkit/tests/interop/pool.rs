//! A pool as an operator runs it: `adit init`, `adit check`, `adit pool`, on a real node.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_channel::ShareRecord;
use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use bitcoin::{Address, ScriptBuf, Txid};
use tempfile::TempDir;
use toml::{Table, Value};

use crate::program::{self, Program, free_address, wait_for};

/// The number of the pool's server, which every block must carry.
pub(crate) const INSTANCE: u16 = 513;
/// The text that every block must carry.
pub(crate) const SIGNATURE: &str = "/interop/";
/// Transactions that wait in the node's mempool when mining starts.
const TRANSACTIONS: usize = 3;

/// A running pool and its node.
#[derive(Debug)]
pub(crate) struct Pool {
    // Before the node, so that it is dropped first.
    program: Program,
    /// The node that it mines on.
    pub(crate) node: Bitcoind,
    /// A second node, a peer of the first, that the pool falls back to.
    pub(crate) second: Option<Bitcoind>,
    /// Where block rewards go.
    pub(crate) payout: ScriptBuf,
    /// `HOST:PORT` that miners connect to.
    pub(crate) address: String,
    /// The authority's public key.
    pub(crate) authority: String,
    /// Both, as a miner's URL.
    pub(crate) url: String,
    /// The height of the node's chain before anything was mined through the pool.
    pub(crate) start_height: u32,
    /// What waited in the node's mempool then.
    pub(crate) transactions: Vec<Txid>,
    folder: TempDir,
}

impl Pool {
    /// Starts a node, configures a pool on it as an operator would, and starts that; `None` if no node is named for `test`.
    pub(crate) fn start(test: &str, kind: Kind, chain: Chain) -> Option<Self> {
        Some(Self::start_on((kind, kind.start(test, chain, &[])?), None))
    }

    /// As [`Self::start`], with a second node, a peer of the first, that the pool falls back to.
    pub(crate) fn start_on_two(test: &str, kinds: [Kind; 2], chain: Chain) -> Option<Self> {
        let (peer, [preferred, spare]) = (free_address(), kinds);
        let first = preferred.start(test, chain, &["-listen=1", &format!("-bind={peer}")])?;
        let second = spare.start(test, chain, &[&format!("-connect={peer}")])?;
        Some(Self::start_on((preferred, first), Some((spare, second))))
    }

    fn start_on((kind, node): (Kind, Bitcoind), second: Option<(Kind, Bitcoind)>) -> Self {
        let transactions = prepare(&node);
        let start_height = node.height().expect("a running node answers");
        let folder =
            tempfile::Builder::new().prefix("adit-interop-").tempdir().expect("a folder can be made");
        let payout = Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51; 3]), node.chain().network());

        let authority = init(folder.path(), &node, &payout);
        let mut nodes = vec![node_table(kind, &node)];
        if let Some((kind, second)) = &second {
            wait_for("the second node to have the chain", || {
                (second.height().ok() == Some(start_height)).then_some(())
            });
            nodes.push(node_table(*kind, second));
        }
        write_nodes(folder.path(), nodes);
        let address = free_address();
        let check = pool_command(folder.path(), "check", &address).output().expect("adit runs");
        assert!(check.status.success(), "adit check:\n{}", String::from_utf8_lossy(&check.stderr));
        let program =
            Program::start("adit pool", &mut pool_command(folder.path(), "pool", &address), folder.path());

        let mut pool = Self {
            program,
            node,
            second: second.map(|(_, second)| second),
            payout: payout.script_pubkey(),
            url: format!("stratum2+tcp://{address}/{authority}"),
            address,
            authority,
            start_height,
            transactions,
            folder,
        };
        wait_for("the pool's port", || {
            pool.assert_running();
            TcpStream::connect(&pool.address).ok()
        });
        pool
    }

    /// A folder that lives as long as the pool.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The height of the node's chain now.
    pub(crate) fn height(&self) -> u32 {
        self.node.height().expect("a running node answers")
    }

    /// All that the pool wrote so far.
    pub(crate) fn output(&self) -> String {
        self.program.output()
    }

    /// Fails the test if the pool has ended.
    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        self.program.assert_running();
    }

    /// Ends the pool as a service supervisor would; it must go in peace.
    pub(crate) fn stop(&mut self) {
        let status = self.program.stop();
        assert!(status.success(), "adit pool ended with {status}");
    }

    /// What stands in the share log while the pool writes to it.
    pub(crate) fn records_so_far(&self) -> Vec<ShareRecord> {
        records_so_far(&self.share_log())
    }

    /// What stands in the share log of a pool that rests.
    pub(crate) fn records(&self) -> Vec<ShareRecord> {
        records(&self.share_log())
    }

    fn share_log(&self) -> PathBuf {
        self.folder().join("adit-data/shares")
    }
}

/// The records of a share log that may be written to meanwhile: those before the first that is not whole.
pub(crate) fn records_so_far(log: &Path) -> Vec<ShareRecord> {
    let records = adit_ledger::read(log).expect("the pool made its share log");
    records.map_while(Result::ok).map(|(_, record)| record).collect()
}

/// The records of a share log that nobody writes to, each of them whole.
pub(crate) fn records(log: &Path) -> Vec<ShareRecord> {
    let records = adit_ledger::read(log).expect("the pool made its share log");
    records.map(|record| record.expect("the share log is whole").1).collect()
}

/// Blocks that make the node leave its initial download, and on regtest transactions that wait to be mined.
pub(crate) fn prepare(node: &Bitcoind) -> Vec<Txid> {
    match node.chain() {
        Chain::Regtest => {
            node.mature_coinbases(3).expect("regtest blocks are found at once");
            node.send_transactions(TRANSACTIONS).expect("as many coinbases are mature")
        }
        Chain::PrivateSignet => {
            // The reference implementation's miner works with a clock a minute ahead, whatever it is told. Its first blocks must be few
            // enough among the last ones that their median, which the next block's time must exceed, stays behind that clock.
            node.generate(3).expect("signet blocks are found in seconds");
            Vec::new()
        }
        Chain::Main => panic!("nobody mines on the main network in a test"),
    }
}

/// Runs `adit init` and takes the authority's public key from what it prints.
fn init(folder: &Path, node: &Bitcoind, payout: &Address) -> String {
    let network = match node.chain() {
        Chain::Regtest => "regtest",
        Chain::PrivateSignet => "signet",
        Chain::Main => "mainnet",
    };
    let mut command = Command::new(program::adit());
    command.args(["init", "--network", network, "--payout-address", &payout.to_string()]);
    command.args(["--node-url", &node.rpc_url()]).arg("--node-cookie").arg(node.cookie_path());
    let output = command.arg("--dir").arg(folder).output().expect("adit runs");
    assert!(output.status.success(), "adit init:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("adit prints UTF-8");
    let url = text.split_whitespace().find(|word| word.starts_with("stratum2+tcp://"));
    let key = url.and_then(|url| url.rsplit('/').next()).expect("adit init prints the URL that miners need");
    key.to_owned()
}

/// How a node is named in the config.
pub(crate) fn node_table(kind: Kind, node: &Bitcoind) -> Table {
    let text = |path: PathBuf| Value::String(path.to_str().expect("a test's paths are UTF-8").to_owned());
    let mut table = Table::new();
    let beside = || node.needs_rpc_beside_its_socket().expect("a running node answers");
    if kind == Kind::Knots || beside() {
        table.insert("url".to_owned(), Value::String(node.rpc_url()));
        table.insert("cookie_file".to_owned(), text(node.cookie_path()));
    }
    if kind == Kind::Core {
        table.insert("ipc".to_owned(), text(node.socket_path()));
    }
    table
}

/// Puts a list of nodes in the place of the one that `adit init` has written.
fn write_nodes(folder: &Path, nodes: Vec<Table>) {
    let file = folder.join("adit.toml");
    let text = std::fs::read_to_string(&file).expect("adit init has written it");
    let mut config: Table = text.parse().expect("adit init writes TOML");
    config.remove("node").expect("adit init writes a node");
    config.insert("nodes".to_owned(), nodes.into());
    std::fs::write(&file, config.to_string()).expect("the test's folder can be written");
}

/// An `adit` command on the config that `init` wrote, with what the tests change in it.
fn pool_command(folder: &Path, subcommand: &str, address: &str) -> Command {
    let mut command = Command::new(program::adit());
    command.arg(subcommand).arg("--config").arg(folder.join("adit.toml"));
    command.env("ADIT__POOL__LISTEN", address).env("ADIT__POOL__INSTANCE", INSTANCE.to_string());
    command.env("ADIT__POOL__SIGNATURE", SIGNATURE).env("ADIT_LOG", "debug,hyper_util=warn");
    // Ten shares a second, so that a processor finds some before it finds a block.
    command.env("ADIT__POOL__SHARES_PER_MINUTE", "600");
    command
}

//! Job declaration on real nodes: our client and server with each other, and each with the reference implementation's other half.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_channel::ShareRecord;
use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use bitcoin::{Address, ScriptBuf};
use tempfile::TempDir;
use toml::Table;

use crate::pool::{self, node_table, prepare};
use crate::program::{self, Program, foreign, free_address, listens, wait_for};
use crate::reference_pool::{OwnDefect, POOL_PUBLIC_KEY, POOL_SECRET_KEY, ReferencePool, beginning_anew};
use crate::sv1;
use crate::template_provider::keys;

/// Blocks that show that it goes on.
const BLOCKS: u32 = 3;

/// Who is credited by the pool.
pub(crate) const USER: &str = "farm.house";

/// An address whose script says who is paid.
pub(crate) fn payee(byte: u8, chain: Chain) -> Address {
    Address::p2wsh(&ScriptBuf::from_bytes(vec![byte; 3]), chain.network())
}

pub(crate) const fn network(chain: Chain) -> &'static str {
    match chain {
        Chain::Regtest => "regtest",
        Chain::PrivateSignet => "signet",
        Chain::Main => "mainnet",
    }
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("the test's folder can be written");
}

/// A folder with a server key; gives the authority's public key.
fn with_keys(folder: &Path) -> String {
    fs::create_dir_all(folder.join("keys")).expect("the test's folder can be written");
    let printed = keys(folder, &["authority"]);
    keys(folder, &["server"]);
    printed.split_whitespace().last().expect("adit keys prints the public key").to_owned()
}

/// The authority's public key of the server key in that folder.
pub(crate) fn authority(folder: &Path) -> String {
    let shown = keys(folder, &["show", "keys/server.key"]);
    shown.lines().find_map(|line| line.strip_prefix("authority")).expect("it is shown").trim().to_owned()
}

/// The table of a node, as a config has it.
fn node_text(kind: Kind, node: &Bitcoind) -> String {
    let mut table = Table::new();
    table.insert("node".to_owned(), node_table(kind, node).into());
    table.to_string()
}

/// An upstream that a client can be pointed at.
pub(crate) struct Upstream {
    pub(crate) pool: String,
    pub(crate) declarator: String,
    pub(crate) key: String,
}

impl Upstream {
    fn new(key: String) -> Self {
        Self { pool: free_address(), declarator: free_address(), key }
    }
}

/// Our pool with a job declarator server in its process.
pub(crate) struct Pool {
    pub(crate) program: Program,
    pub(crate) upstream: Upstream,
    folder: PathBuf,
}

impl Pool {
    pub(crate) fn start(kind: Kind, node: &Bitcoind, folder: &Path) -> Self {
        let folder = folder.join("pool");
        let upstream = Upstream::new(with_keys(&folder));
        keys(&folder, &["token"]);
        let (chain, Upstream { pool, declarator, .. }) = (node.chain(), &upstream);
        let config = format!(
            "network = \"{}\"\n[pool]\nlisten = \"{pool}\"\npayout_address = \"{}\"\nshares_per_minute = 600\n[jds]\nlisten = \"{declarator}\"\n{}",
            network(chain),
            payee(0x51, chain),
            node_text(kind, node),
        );
        write(&folder.join("adit.toml"), &config);
        Self::run(upstream, folder)
    }

    /// Starts it again where it was.
    pub(crate) fn run(upstream: Upstream, folder: PathBuf) -> Self {
        let mut program = adit("adit pool", "pool", &folder);
        listens("the pool's port", &upstream.pool, &mut program);
        listens("the job declarator server's port", &upstream.declarator, &mut program);
        Self { program, upstream, folder }
    }

    /// Kills it; what is left is what [`Self::run`] takes.
    pub(crate) fn kill(self) -> (Upstream, PathBuf) {
        let Self { program, upstream, folder } = self;
        // Dropped, it is killed.
        drop(program);
        (upstream, folder)
    }

    /// What stands in the share log while the pool writes to it.
    pub(crate) fn records_so_far(&self) -> Vec<ShareRecord> {
        pool::records_so_far(&self.share_log())
    }

    /// What stands in the share log of a pool that rests.
    pub(crate) fn records(&self) -> Vec<ShareRecord> {
        pool::records(&self.share_log())
    }

    fn share_log(&self) -> PathBuf {
        self.folder.join("adit-data/shares")
    }
}

/// A role of our program in its folder.
fn adit(name: &'static str, role: &str, folder: &Path) -> Program {
    let mut command = Command::new(program::adit());
    command.current_dir(folder).arg(role).env("ADIT_LOG", "debug,hyper_util=warn");
    Program::start(name, &mut command, folder)
}

/// Our client, once it uses the upstream; gives the address for miners too.
pub(crate) fn client(
    kind: Kind,
    node: &Bitcoind,
    upstream: &Upstream,
    mode: &str,
    folder: &Path,
) -> (Program, String) {
    let (program, address) = start_client(kind, node, upstream, mode, folder);
    wait_for("the upstream to be used", || uses_upstream(&program).then_some(()));
    (program, address)
}

fn uses_upstream(client: &Program) -> bool {
    client.output().contains("miners work for this upstream")
}

fn start_client(
    kind: Kind,
    node: &Bitcoind,
    upstream: &Upstream,
    mode: &str,
    folder: &Path,
) -> (Program, String) {
    let folder = folder.join("jdc");
    with_keys(&folder);
    let (address, chain) = (free_address(), node.chain());
    let Upstream { pool, declarator, key } = upstream;
    let config = format!(
        "network = \"{}\"\n[jdc]\nlisten = \"{address}\"\nsolo_address = \"{}\"\nshares_per_minute = 600\n[upstream]\npool = \"stratum2+tcp://{pool}/{key}\"\njds = \"stratum2+tcp://{declarator}/{key}\"\nuser = \"{USER}\"\nmode = \"{mode}\"\n{}",
        network(chain),
        payee(0x52, chain),
        node_text(kind, node),
    );
    write(&folder.join("adit.toml"), &config);
    let mut program = adit("adit jdc", "jdc", &folder);
    listens("the client's port for miners", &address, &mut program);
    (program, address)
}

/// Our miner on a client of ours.
fn our_miner(address: &str, folder: &Path) -> Program {
    let mut command = Command::new(program::adit());
    command.args([
        "miner",
        "--insecure",
        "--url",
        &format!("stratum2+tcp://{address}"),
        "--user",
        "rig",
        "--threads",
        "1",
    ]);
    Program::start("adit miner", &mut command, folder)
}

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("adit-interop-").tempdir().expect("a folder can be made")
}

pub(crate) fn height(node: &Bitcoind) -> u32 {
    node.height().expect("a running node answers")
}

/// Waits until blocks were mined on top of `start`, while all programs run.
fn mined(node: &Bitcoind, start: u32, programs: &mut [&mut Program]) {
    wait_for("blocks", || {
        programs.iter_mut().for_each(|program| program.assert_running());
        (height(node) >= start + BLOCKS).then_some(())
    });
}

/// That a block pays all that it creates to somebody.
pub(crate) fn assert_pays(node: &Bitcoind, height: u32, payee: &Address) {
    let block = node.block_at(height).expect("the chain is that high");
    let coinbase = block.coinbase().expect("every block has one");
    let paid = coinbase.output.iter().filter(|output| output.value.to_sat() > 0);
    let scripts: Vec<_> = paid.map(|output| output.script_pubkey.clone()).collect();
    assert_eq!(scripts, [payee.script_pubkey()], "height {height}");
}

/// Two nodes, of which the first knows no transactions but those in blocks; `None` if one is not named for `test`.
fn two_nodes(test: &str, server: Kind) -> Option<(Bitcoind, Bitcoind)> {
    let peer = free_address();
    let first =
        server.start(test, Chain::Regtest, &["-listen=1", &format!("-bind={peer}"), "-blocksonly=1"])?;
    let second = Kind::Core.start(test, Chain::Regtest, &[&format!("-connect={peer}")])?;
    Some((first, second))
}

/// A transaction that only the miner's node knows is mined, paid to the pool, with the shares in its log under the miner's name.
fn what_only_the_miner_knows_is_mined(test: &str, server: Kind, mode: &str) {
    let Some((pool_node, own_node)) = two_nodes(test, server) else { return };
    let transactions = prepare(&own_node);
    let start = height(&own_node);
    wait_for("the pool's node to have the chain", || (height(&pool_node) == start).then_some(()));
    assert_eq!(pool_node.mempool_len().expect("a running node answers"), 0, "it must not know them");
    let folder = folder();
    let mut pool = Pool::start(server, &pool_node, folder.path());
    let (mut jdc, address) = client(Kind::Core, &own_node, &pool.upstream, mode, folder.path());
    let mut miner = our_miner(&address, folder.path());
    mined(&pool_node, start, &mut [&mut pool.program, &mut jdc, &mut miner]);
    wait_for("shares in the pool's log", || (pool.records_so_far().len() >= 3).then_some(()));
    for program in [&mut miner, &mut jdc, &mut pool.program] {
        program.stop();
    }
    let mut found = Vec::new();
    for height in start + 1..=start + BLOCKS {
        assert_pays(&pool_node, height, &payee(0x51, Chain::Regtest));
        let block = pool_node.block_at(height).expect("the chain is that high");
        found.extend(block.txdata.iter().map(bitcoin::Transaction::compute_txid));
    }
    assert!(
        transactions.iter().all(|txid| found.contains(txid)),
        "the miner's transactions are not in the blocks"
    );
    for record in pool.records() {
        let worker = record.worker.as_ref().map(|worker| worker.as_str());
        assert_eq!((record.user.as_str(), worker), (USER, Some("rig")));
        let custom = record.custom.as_ref().expect("a job of the miner's own");
        assert_eq!(custom.pays_pool, custom.value);
    }
}

#[test]
fn our_client_mines_what_only_its_node_knows_in_full_template_mode() {
    let test = "our_client_mines_what_only_its_node_knows_in_full_template_mode";
    what_only_the_miner_knows_is_mined(test, Kind::Core, "full-template");
}

#[test]
fn our_client_mines_what_only_its_node_knows_in_coinbase_only_mode() {
    let test = "our_client_mines_what_only_its_node_knows_in_coinbase_only_mode";
    what_only_the_miner_knows_is_mined(test, Kind::Core, "coinbase-only");
}

#[test]
fn our_client_mines_what_only_its_node_knows_with_knots_at_the_server() {
    let test = "our_client_mines_what_only_its_node_knows_with_knots_at_the_server";
    what_only_the_miner_knows_is_mined(test, Kind::Knots, "full-template");
}

/// One node for both sides, with a difficulty that shares can stay below.
fn signet(test: &str) -> Option<Bitcoind> {
    let node = Kind::Core.start(test, Chain::PrivateSignet, &[])?;
    prepare(&node);
    Some(node)
}

/// Where the reference implementation's programs take their templates from.
pub(crate) fn reference_templates(node: &Bitcoind) -> String {
    format!(
        "[template_provider_type.BitcoinCoreIpc]\nversion = 31\nnetwork = \"{}\"\ndata_dir = \"{}\"\nfee_threshold = 100\nmin_interval = 5\n",
        network(node.chain()),
        node.data_folder().display()
    )
}

/// The reference implementation's client on our pool; gives the address for miners too, who know it by the key of its sample configs.
pub(crate) fn reference_client(
    program: &Path,
    node: &Bitcoind,
    pool: &Pool,
    mode: &str,
    folder: &Path,
) -> (Program, String) {
    let address = free_address();
    let ports = [&pool.upstream.pool, &pool.upstream.declarator]
        .map(|address| address.rsplit(':').next().expect("an address has a port").to_owned());
    let config = format!(
        "listening_address = \"{address}\"\nmax_supported_version = 2\nmin_supported_version = 2\nauthority_public_key = \"{POOL_PUBLIC_KEY}\"\nauthority_secret_key = \"{POOL_SECRET_KEY}\"\ncert_validity_sec = 3600\nshares_per_minute = 60.0\nshare_batch_size = 1\nmode = \"{mode}\"\njdc_signature = \"interop\"\ncoinbase_reward_script = \"addr({})\"\nsupported_extensions = []\n[[upstreams]]\nauthority_pubkey = \"{}\"\npool_address = \"127.0.0.1\"\npool_port = {}\njds_address = \"127.0.0.1\"\njds_port = {}\nuser_identity = \"{USER}\"\n{}",
        payee(0x52, node.chain()),
        pool.upstream.key,
        ports[0],
        ports[1],
        reference_templates(node),
    );
    let file = folder.join("jdc.toml");
    write(&file, &config);
    let mut command = Command::new(program);
    let mut jdc = Program::start("jd_client_sv2", command.current_dir(folder).arg("-c").arg(&file), folder);
    listens("the reference client's port", &address, &mut jdc);
    (jdc, address)
}

/// The reference implementation's client on our pool, with its miner below; gives the pool as it was at the end.
fn the_reference_client_on_our_pool(test: &str, mode: &str) -> Option<(Pool, Bitcoind, u32, TempDir)> {
    let program = foreign(test, "ADIT_SRI_JD_CLIENT")?;
    let device = foreign(test, "ADIT_SRI_MINING_DEVICE")?;
    let node = signet(test)?;
    let (start, folder) = (height(&node), folder());
    let mut pool = Pool::start(Kind::Core, &node, folder.path());
    let (mut jdc, address) = reference_client(&program, &node, &pool, mode, folder.path());
    let mut command = Command::new(device);
    command.args(["--address-pool", &address, "--pubkey-pool", POOL_PUBLIC_KEY]);
    command.args(["--id-device", "device", "--id-user", "sri.device", "--cores", "1"]);
    let mut miner = Program::start("mining_device", &mut command, folder.path());
    mined(&node, start, &mut [&mut pool.program, &mut jdc, &mut miner]);
    miner.stop();
    jdc.stop();
    pool.program.stop();
    for height in start + 1..=start + BLOCKS {
        assert_pays(&node, height, &payee(0x51, node.chain()));
    }
    Some((pool, node, start, folder))
}

#[test]
fn the_reference_client_mines_on_our_pool_in_full_template_mode() {
    const TEST: &str = "the_reference_client_mines_on_our_pool_in_full_template_mode";
    let Some((pool, _node, _start, _folder)) = the_reference_client_on_our_pool(TEST, "FULLTEMPLATE") else {
        return;
    };
    assert_declared(&pool.records());
}

/// That there are shares, all of them the client's and of jobs of its own.
fn assert_declared(records: &[ShareRecord]) {
    assert!(!records.is_empty());
    let is_declared = |record: &ShareRecord| record.user.as_str() == USER && record.custom.is_some();
    assert!(records.iter().all(is_declared), "{records:?}");
}

/// Version 0.6.0 of that client puts a job to the pool only when its channel is opened for the second time, so the blocks that it mines pay the
/// pool, but no share of them reaches it.
#[test]
fn the_reference_client_mines_on_our_pool_in_coinbase_only_mode() {
    const TEST: &str = "the_reference_client_mines_on_our_pool_in_coinbase_only_mode";
    let Some((pool, ..)) = the_reference_client_on_our_pool(TEST, "COINBASEONLY") else { return };
    let output = pool.program.output();
    assert!(!output.contains("custom job refused"), "{output}");
}

#[test]
fn our_client_mines_on_the_reference_pool() {
    const TEST: &str = "our_client_mines_on_the_reference_pool";
    let Some(program) = foreign(TEST, "ADIT_SRI_POOL") else { return };
    beginning_anew(TEST, || mine_on_the_reference_pool(TEST, &program));
}

fn mine_on_the_reference_pool(test: &str, program: &Path) -> Result<(), OwnDefect> {
    let Some(node) = signet(test) else { return Ok(()) };
    let (start, folder) = (height(&node), folder());
    let mut upstream = Upstream::new(POOL_PUBLIC_KEY.to_owned());
    let tables =
        format!("{}[jds]\nlisten_address = \"{}\"\n", reference_templates(&node), upstream.declarator);
    let payout = payee(0x51, node.chain());
    let mut pool = ReferencePool::start(program, folder.path(), &payout, &tables)?;
    upstream.pool.clone_from(&pool.address);
    let (mut jdc, address) = start_client(Kind::Core, &node, &upstream, "full-template", folder.path());
    pool.wait_for("the upstream to be used", &mut [], |_| uses_upstream(&jdc))?;
    let mut miner = our_miner(&address, folder.path());
    pool.wait_for("blocks", &mut [&mut jdc, &mut miner], |_| height(&node) >= start + BLOCKS)?;
    pool.wait_for("jobs that the reference pool accepts", &mut [], |_| {
        jdc.output().matches("job accepted upstream").count() > 2
    })?;
    miner.stop();
    jdc.stop();
    assert!(!jdc.output().contains("upstream failed"), "{}", jdc.output());
    // The first may have been found before the upstream's terms were known.
    assert_pays(&node, start + BLOCKS, &payout);
    Ok(())
}

#[test]
fn our_client_goes_solo_when_the_pool_is_killed_and_comes_back() {
    const TEST: &str = "our_client_goes_solo_when_the_pool_is_killed_and_comes_back";
    let Some(node) = signet(TEST) else { return };
    let folder = folder();
    let pool = Pool::start(Kind::Core, &node, folder.path());
    let (mut jdc, address) = client(Kind::Core, &node, &pool.upstream, "full-template", folder.path());
    let mut miner = our_miner(&address, folder.path());
    wait_for("shares in the pool's log", || (pool.records_so_far().len() > 3).then_some(()));
    let (upstream, kept) = pool.kill();
    wait_for("the miners to be on their own", || {
        jdc.output().contains("no upstream can be had").then_some(())
    });
    let start = height(&node) + 1;
    mined(&node, start, &mut [&mut jdc, &mut miner]);
    assert_pays(&node, start + 1, &payee(0x52, node.chain()));
    let mut pool = Pool::run(upstream, kept);
    wait_for("the miners to be back", || {
        (jdc.output().matches("miners work for this upstream").count() > 1).then_some(())
    });
    let start = height(&node) + 1;
    mined(&node, start, &mut [&mut pool.program, &mut jdc, &mut miner]);
    assert_pays(&node, start + 1, &payee(0x51, node.chain()));
    assert_eq!(miner.output().matches("connected, channel open").count(), 1, "the miner below has noticed");
    miner.stop();
    jdc.stop();
}

/// Two SV1 miners behind the reference implementation's translator on our client.
fn the_reference_translator_works_on_our_client(test: &str, aggregates: bool) {
    let Some(translator) = foreign(test, "ADIT_SRI_TRANSLATOR") else { return };
    let Some(node) = signet(test) else { return };
    let (folder, listen) = (folder(), free_address());
    let mut pool = Pool::start(Kind::Core, &node, folder.path());
    let (mut jdc, address) = client(Kind::Core, &node, &pool.upstream, "full-template", folder.path());
    let key = authority(&folder.path().join("jdc"));
    let file = folder.path().join("translator.toml");
    write(&file, &sv1::translator_config((&address, &key), aggregates, &listen));
    let mut command = Command::new(translator);
    let mut translator = Program::start("translator_sv2", command.arg("--config").arg(&file), folder.path());
    let mut miners = ["first", "second"].map(|user| {
        let mut miner = wait_for("the translator's SV1 port", || sv1::Miner::connect(&listen).ok());
        miner.log_in(user);
        miner
    });
    // The first ones are too easy for the pool, which has yet to hear how fast they are.
    while pool.records_so_far().len() < 10 {
        miners.iter_mut().for_each(sv1::Miner::mine_a_share);
    }
    for program in [&mut translator, &mut jdc, &mut pool.program] {
        program.assert_running();
        program.stop();
    }
    assert_declared(&pool.records());
}

#[test]
fn the_reference_translator_works_on_our_client_with_a_channel_for_each_miner() {
    const TEST: &str = "the_reference_translator_works_on_our_client_with_a_channel_for_each_miner";
    the_reference_translator_works_on_our_client(TEST, false);
}

#[test]
fn the_reference_translator_works_on_our_client_with_one_channel() {
    const TEST: &str = "the_reference_translator_works_on_our_client_with_one_channel";
    the_reference_translator_works_on_our_client(TEST, true);
}

//! The reference implementation's pool and miner, on templates that `adit template-provider` serves from a real node.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use bitcoin::{Address, ScriptBuf};

use crate::BLOCKS;
use crate::pool::prepare;
use crate::program::{self, Program, foreign, free_address, wait_for};

/// The key pair of the reference implementation's sample configs, by which its miner knows its pool.
pub(crate) const POOL_PUBLIC_KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
pub(crate) const POOL_SECRET_KEY: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

/// Runs `adit keys`, and gives what it prints.
pub(crate) fn keys(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program::adit()).current_dir(folder).arg("keys").args(arguments).output();
    let output = output.expect("adit runs");
    assert!(output.status.success(), "adit keys:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("adit prints UTF-8")
}

/// Starts `adit template-provider` on the node, with a config that has nothing about a pool; gives its authority's key too.
fn template_provider(node: &Bitcoind, folder: &Path, address: &str) -> (Program, String) {
    fs::create_dir(folder.join("keys")).expect("the test's folder can be written");
    let printed = keys(folder, &["authority"]);
    let key = printed.split_whitespace().last().expect("adit keys prints the public key").to_owned();
    keys(folder, &["server"]);
    let config = format!(
        "network = \"regtest\"\n[node]\nurl = \"{}\"\ncookie_file = \"{}\"\n[template_provider]\nlisten = \"{address}\"\n",
        node.rpc_url(),
        node.cookie_path().display(),
    );
    fs::write(folder.join("adit.toml"), config).expect("the test's folder can be written");
    let mut command = Command::new(program::adit());
    command.current_dir(folder).arg("template-provider").env("ADIT_LOG", "debug,hyper_util=warn");
    let mut provider = Program::start("adit template-provider", &mut command, folder);
    wait_for_port("the template provider's port", address, &mut provider);
    (provider, key)
}

/// Starts the reference implementation's pool on the template provider.
fn reference_pool(
    program: &Path,
    folder: &Path,
    (provider, key): (&str, &str),
    payout: &Address,
) -> (Program, String) {
    let address = free_address();
    let config = format!(
        r#"
authority_public_key = "{POOL_PUBLIC_KEY}"
authority_secret_key = "{POOL_SECRET_KEY}"
cert_validity_sec = 3600
listen_address = "{address}"
coinbase_reward_script = "addr({payout})"
server_id = 1
pool_signature = "interop"
shares_per_minute = 60.0
share_batch_size = 1

[template_provider_type.Sv2Tp]
address = "{provider}"
public_key = "{key}"
"#
    );
    let file = folder.join("pool.toml");
    fs::write(&file, config).expect("the test's folder can be written");
    let mut command = Command::new(program);
    command.current_dir(folder).arg("--config").arg(file);
    let mut pool = Program::start("pool_sv2", &mut command, folder);
    wait_for_port("the reference pool's port", &address, &mut pool);
    (pool, address)
}

fn wait_for_port(what: &str, address: &str, program: &mut Program) {
    wait_for(what, || {
        program.assert_running();
        TcpStream::connect(address).ok()
    });
}

/// Every block comes from the node's templates through the provider, and goes back to the node the same way.
#[test]
fn the_reference_pool_mines_on_our_template_provider() {
    const TEST: &str = "the_reference_pool_mines_on_our_template_provider";
    let Some(pool) = foreign(TEST, "ADIT_SRI_POOL") else { return };
    let Some(device) = foreign(TEST, "ADIT_SRI_MINING_DEVICE") else { return };
    // The node tells of each block at once, so that clients hear of it before there is a template on it.
    let publish = format!("-zmqpubhashblock=tcp://{}", free_address());
    let Some(node) = Kind::Knots.start(TEST, Chain::Regtest, &[&publish]) else { return };
    let waited = prepare(&node);
    let start = node.height().expect("a running node answers");
    let folder = tempfile::Builder::new().prefix("adit-interop-").tempdir().expect("a folder can be made");
    let payout = Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51; 3]), Chain::Regtest.network());

    let provider_address = free_address();
    let (mut provider, key) = template_provider(&node, folder.path(), &provider_address);
    let (mut pool, pool_address) = reference_pool(&pool, folder.path(), (&provider_address, &key), &payout);
    let start_miner = |name: &'static str| {
        let mut command = Command::new(&device);
        command.args(["--address-pool", &pool_address, "--pubkey-pool", POOL_PUBLIC_KEY]);
        command.args(["--id-device", name, "--id-user", &format!("sri.{name}"), "--cores", "1"]);
        Program::start(name, &mut command, folder.path())
    };
    let mut miners = vec![start_miner("first_device")];
    // Each newcomer begins with what the reference pool remembers of templates and tips.
    let mut newcomers = ["second_device", "third_device", "fourth_device"].into_iter();
    for blocks in 1..=BLOCKS {
        wait_for("blocks of the reference pool", || {
            miners.iter_mut().for_each(Program::assert_running);
            pool.assert_running();
            provider.assert_running();
            (node.height().expect("a running node answers") >= start + blocks).then_some(())
        });
        miners.extend(newcomers.next().map(start_miner));
    }
    for miner in &mut miners {
        miner.stop();
    }
    pool.stop();
    let status = provider.stop();
    assert!(status.success(), "adit template-provider ended with {status}");
    for height in start + 1..=start + BLOCKS {
        let block = node.block_at(height).expect("the chain is that high");
        let coinbase = block.coinbase().expect("every block has one");
        let paid = coinbase.output.iter().filter(|output| output.script_pubkey == payout.script_pubkey());
        assert!(paid.map(|output| output.value.to_sat()).sum::<u64>() > 0, "height {height}: {coinbase:?}");
        let holds = |txid| block.txdata.iter().any(|transaction| transaction.compute_txid() == txid);
        assert_eq!(waited.iter().all(|&txid| holds(txid)), height == start + 1, "height {height}");
    }
}

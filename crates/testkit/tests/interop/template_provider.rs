//! The reference implementation's pool and miner, on templates that `adit template-provider` serves from a real node.

use std::fs;
use std::path::Path;
use std::process::Command;

use adit_testkit::bitcoind::{Bitcoind, Chain, Kind};
use bitcoin::{Address, ScriptBuf};

use crate::BLOCKS;
use crate::pool::prepare;
use crate::program::{self, Program, foreign, free_address, listens};
use crate::reference_pool::{OwnDefect, POOL_PUBLIC_KEY, ReferencePool, beginning_anew};

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
    listens("the template provider's port", address, &mut provider);
    (provider, key)
}

/// Every block comes from the node's templates through the provider, and goes back to the node the same way.
#[test]
fn the_reference_pool_mines_on_our_template_provider() {
    const TEST: &str = "the_reference_pool_mines_on_our_template_provider";
    let Some(pool) = foreign(TEST, "ADIT_SRI_POOL") else { return };
    let Some(device) = foreign(TEST, "ADIT_SRI_MINING_DEVICE") else { return };
    beginning_anew(TEST, || mine(TEST, &pool, &device));
}

/// One run: blocks are mined while newcomers come, each of which begins with what the reference pool remembers of templates and tips.
fn mine(test: &str, pool: &Path, device: &Path) -> Result<(), OwnDefect> {
    // The node tells of each block at once, so that clients hear of it before there is a template on it.
    let publish = format!("-zmqpubhashblock=tcp://{}", free_address());
    let Some(node) = Kind::Knots.start(test, Chain::Regtest, &[&publish]) else { return Ok(()) };
    let waited = prepare(&node);
    let start = node.height().expect("a running node answers");
    let folder = tempfile::Builder::new().prefix("adit-interop-").tempdir().expect("a folder can be made");
    let payout = Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51; 3]), Chain::Regtest.network());

    let provider_address = free_address();
    let (mut provider, key) = template_provider(&node, folder.path(), &provider_address);
    let templates =
        format!("[template_provider_type.Sv2Tp]\naddress = \"{provider_address}\"\npublic_key = \"{key}\"\n");
    let mut pool = ReferencePool::start(pool, folder.path(), &payout, &templates)?;
    let pool_address = pool.address.clone();
    let start_miner = |name: &'static str| {
        let mut command = Command::new(device);
        command.args(["--address-pool", &pool_address, "--pubkey-pool", POOL_PUBLIC_KEY]);
        command.args(["--id-device", name, "--id-user", &format!("sri.{name}"), "--cores", "1"]);
        Program::start(name, &mut command, folder.path())
    };
    let mut miners = vec![start_miner("first_device")];
    let mut newcomers = ["second_device", "third_device", "fourth_device"].into_iter();
    for blocks in 1..=BLOCKS {
        let mut programs: Vec<_> = miners.iter_mut().chain([&mut provider]).collect();
        pool.wait_for("blocks of the reference pool", &mut programs, |_| {
            node.height().expect("a running node answers") >= start + blocks
        })?;
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
    Ok(())
}

//! The pool on real nodes, mined on by our miner and by the reference implementation's programs.
//!
//! `scripts/interop` fetches or builds those programs and names them in environment variables; a test whose programs are not
//! named says that it was left out.

#![expect(clippy::unwrap_in_result, reason = "what a test cannot go on without ends it")]

mod blocks;
mod declaration;
mod failover;
mod pool;
mod program;
mod reference_pool;
mod sv1;
mod template_provider;
mod translator;

use core::str::FromStr as _;
use std::process::Command;

use adit_channel::{Percent, RewardKind, ShareKind, ShareRecord};
use adit_testkit::bitcoind::{Chain, Kind};
use adit_units::Sats;
use bitcoin::Address;

use blocks::{assert_ours, assert_pays};
use pool::Pool;
use program::{Program, foreign, wait_for};

/// Blocks that a miner must find on regtest.
const BLOCKS: u32 = 5;
/// Shares that a miner must find on a signet before its block counts.
const SHARES: usize = 5;

/// An address of somebody who mines for himself (BIP 173).
const MINER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// Our miner on a channel of that kind.
fn our_miner(pool: &Pool, channel: &str) -> Program {
    our_miner_as(pool, channel, "ours.worker")
}

/// The same with another name.
fn our_miner_as(pool: &Pool, channel: &str, user: &str) -> Program {
    let mut command = Command::new(program::adit());
    command.args(["miner", "--url", &pool.url, "--user", user, "--threads", "1", "--channel", channel]);
    Program::start("adit miner", &mut command, pool.folder())
}

/// The reference implementation's miner, which opens a standard channel.
fn mining_device(pool: &Pool, command: &std::path::Path) -> Program {
    let mut command = Command::new(command);
    command.args(["--address-pool", &pool.address, "--pubkey-pool", &pool.authority]);
    command.args(["--id-device", "device", "--id-user", "sri.device", "--cores", "1"]);
    Program::start("mining_device", &mut command, pool.folder())
}

/// Blocks are found, each pays and is marked as configured, and the first took the transactions that waited.
fn mines_blocks_on_regtest(mut pool: Pool, user: &str, mut miner: Program) {
    let start = pool.start_height;
    wait_for("five blocks", || {
        miner.assert_running();
        pool.assert_running();
        (pool.height() >= start + BLOCKS).then_some(())
    });
    miner.stop();
    let waited = pool.transactions.clone();
    for height in start + 1..=start + BLOCKS {
        let block = assert_ours(&pool, height);
        let holds = |txid| block.txdata.iter().any(|transaction| transaction.compute_txid() == txid);
        assert_eq!(
            waited.iter().all(|&txid| holds(txid)),
            height == start + 1 && !waited.is_empty(),
            "height {height}"
        );
    }
    pool.stop();
    let records = pool.records();
    let found: Vec<_> = records
        .iter()
        .filter(|record| record.kind == ShareKind::Block)
        .map(|record| record.height.0)
        .collect();
    assert!(
        (start + 1..=start + BLOCKS).all(|height| found.contains(&height)),
        "blocks in the log: {found:?}"
    );
    assert!(records.iter().all(|record| record.user.as_str() == user), "{records:?}");
}

/// Shares that are no blocks stand in the log, then a block. Tells what the miner wrote and what the log holds.
fn mines_shares_and_a_block_on_a_signet(
    mut pool: Pool,
    user: &str,
    mut miner: Program,
) -> (String, Vec<ShareRecord>) {
    let start = pool.start_height;
    wait_for("shares in the log and a block", || {
        miner.assert_running();
        pool.assert_running();
        let shares = pool.records_so_far().iter().filter(|record| record.kind == ShareKind::Share).count();
        (shares >= SHARES && pool.height() > start).then_some(())
    });
    miner.stop();
    let block = assert_ours(&pool, start + 1);
    pool.stop();

    let records = pool.records();
    let hash = bitcoin::hashes::Hash::to_byte_array(block.block_hash());
    let found = records.iter().find(|record| record.hash == hash).expect("the block's share is in the log");
    assert_eq!(found.kind, ShareKind::Block);
    assert_eq!(found.height.0, start + 1);
    assert!(records.iter().all(|record| record.user.as_str() == user), "{records:?}");
    (miner.output(), records)
}

/// How many shares our miner says were acknowledged, in the last line that it wrote.
fn acknowledged(output: &str) -> usize {
    let count = output.rsplit("accepted ").next().and_then(|rest| rest.split_whitespace().next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in: {output}"))
}

/// Each of these is a test on each kind of node.
macro_rules! on_every_kind {
    ($($scenario:ident),* $(,)?) => {
        mod knots {
            $(
                #[test]
                fn $scenario() {
                    super::$scenario(concat!("knots::", stringify!($scenario)), adit_testkit::bitcoind::Kind::Knots);
                }
            )*
        }

        mod bitcoin_core {
            $(
                #[test]
                fn $scenario() {
                    super::$scenario(concat!("bitcoin_core::", stringify!($scenario)), adit_testkit::bitcoind::Kind::Core);
                }
            )*
        }
    };
}

on_every_kind!(
    our_miner_mines_on_regtest_with_an_extended_channel,
    our_miner_mines_on_regtest_with_a_standard_channel,
    our_miner_mines_on_a_signet,
    our_miner_is_paid_by_the_block_itself,
    the_reference_miner_mines_on_regtest,
    the_reference_miner_mines_on_a_signet,
    the_reference_translator_brings_an_sv1_miner_on_regtest,
    the_reference_translator_brings_an_sv1_miner_on_a_signet,
);

fn our_miner_mines_on_regtest_with_an_extended_channel(test: &str, kind: Kind) {
    let Some(pool) = Pool::start(test, kind, Chain::Regtest) else { return };
    let miner = our_miner(&pool, "extended");
    mines_blocks_on_regtest(pool, "ours.worker", miner);
}

fn our_miner_mines_on_regtest_with_a_standard_channel(test: &str, kind: Kind) {
    let Some(pool) = Pool::start(test, kind, Chain::Regtest) else { return };
    let miner = our_miner(&pool, "standard");
    mines_blocks_on_regtest(pool, "ours.worker", miner);
}

fn our_miner_mines_on_a_signet(test: &str, kind: Kind) {
    let Some(pool) = Pool::start(test, kind, Chain::PrivateSignet) else { return };
    let miner = our_miner(&pool, "extended");
    let (output, records) = mines_shares_and_a_block_on_a_signet(pool, "ours.worker", miner);
    let acknowledged = acknowledged(&output);
    assert!(acknowledged >= SHARES, "{acknowledged} shares were acknowledged");
    assert!(records.len() >= acknowledged, "{acknowledged} acknowledged, {} in the log", records.len());
}

fn our_miner_is_paid_by_the_block_itself(test: &str, kind: Kind) {
    let Some(mut pool) = Pool::start(test, kind, Chain::Regtest) else { return };
    let script = Address::from_str(MINER).expect("it has no mistake").assume_checked().script_pubkey();
    let part = Percent::new(30).expect("neither nothing nor all");
    let wishes = [
        (format!("sri/solo/{MINER}/rig"), "extended", RewardKind::Solo),
        (format!("sri/donate/30/{MINER}/rig"), "standard", RewardKind::Split(part)),
    ];
    for (user, channel, reward) in &wishes {
        let start = pool.height();
        let mut miner = our_miner_as(&pool, channel, user);
        wait_for("a block", || {
            miner.assert_running();
            pool.assert_running();
            (pool.height() > start).then_some(())
        });
        miner.stop();
        assert_pays(&pool, start + 1, |value| match reward {
            RewardKind::Split(_) => {
                let kept = part.of(Sats::from_sats(value)).to_sats();
                vec![(pool.payout.clone(), kept), (script.clone(), value - kept)]
            }
            RewardKind::Pooled | RewardKind::Donated | RewardKind::Solo => vec![(script.clone(), value)],
        });
    }
    pool.stop();
    let owed: Vec<_> =
        pool.records().iter().map(|record| (record.user.as_str().to_owned(), record.reward)).collect();
    for (user, _, reward) in wishes {
        assert!(owed.iter().any(|(who, _)| *who == user), "{owed:?}");
        assert!(owed.iter().filter(|(who, _)| *who == user).all(|(_, owes)| *owes == reward), "{owed:?}");
    }
}

fn the_reference_miner_mines_on_regtest(test: &str, kind: Kind) {
    let Some(device) = foreign(test, "ADIT_SRI_MINING_DEVICE") else { return };
    let Some(pool) = Pool::start(test, kind, Chain::Regtest) else { return };
    let miner = mining_device(&pool, &device);
    mines_blocks_on_regtest(pool, "sri.device", miner);
}

fn the_reference_miner_mines_on_a_signet(test: &str, kind: Kind) {
    let Some(device) = foreign(test, "ADIT_SRI_MINING_DEVICE") else { return };
    let Some(pool) = Pool::start(test, kind, Chain::PrivateSignet) else { return };
    let miner = mining_device(&pool, &device);
    mines_shares_and_a_block_on_a_signet(pool, "sri.device", miner);
}

fn the_reference_translator_brings_an_sv1_miner_on_regtest(test: &str, kind: Kind) {
    the_reference_translator_brings_an_sv1_miner(test, kind, Chain::Regtest);
}

fn the_reference_translator_brings_an_sv1_miner_on_a_signet(test: &str, kind: Kind) {
    the_reference_translator_brings_an_sv1_miner(test, kind, Chain::PrivateSignet);
}

/// An SV1 miner behind the reference implementation's translator, which opens an extended channel for it: shares, and a block.
fn the_reference_translator_brings_an_sv1_miner(test: &str, kind: Kind, chain: Chain) {
    let Some(translator) = foreign(test, "ADIT_SRI_TRANSLATOR") else { return };
    let Some(mut pool) = Pool::start(test, kind, chain) else { return };
    let address = program::free_address();
    let config = pool.folder().join("translator.toml");
    std::fs::write(&config, sv1::translator_config((&pool.address, &pool.authority), false, &address))
        .expect("the test's folder can be written");
    let mut command = Command::new(translator);
    command.arg("--config").arg(&config);
    let mut translator = Program::start("translator_sv2", &mut command, pool.folder());

    let mut miner = wait_for("the translator's SV1 port", || {
        translator.assert_running();
        sv1::Miner::connect(&address).ok()
    });
    miner.log_in("sv1.miner");
    for _ in 0..SHARES {
        miner.mine_a_share();
    }
    while pool.height() == pool.start_height {
        miner.mine_a_share();
    }
    wait_for("the shares in the log", || (pool.records_so_far().len() >= SHARES).then_some(()));
    assert_ours(&pool, pool.start_height + 1);
    drop(miner);
    translator.assert_running();
    translator.stop();
    pool.stop();
    let users: Vec<_> = pool.records().iter().map(|record| record.user.as_str().to_owned()).collect();
    assert!(users.iter().all(|user| user.starts_with("translator.")), "{users:?}");
}

//! The pool is killed within 50 ms of a share that is a block, again and again, and the blocks reach the node.
//!
//! What is promised, and asserted here for every single kill: a block whose share was acknowledged, and a block that is on disk,
//! reaches the node, at once or after the restart. Before either, there is a moment in which the bytes are in the process alone,
//! and no program can save what it has only read: a kill that hits it loses a share that nobody was told is accepted. The test counts
//! those, tells them from shares that the process had not even read (the kernel then resets the connection instead of closing it), and
//! goes on until a hundred blocks have arrived at a node that was well all the time, and a hundred at one that was away when they were
//! found.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use adit_net::IoError;
use adit_transport::AuthorityPublicKey;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use tokio::time::{sleep, timeout};

use fake::{FakeNode, Trick};
use miner::Miner;
use stage::PATIENCE;

#[expect(dead_code, reason = "the node's own tests need more of it")]
#[path = "../../node/tests/rpc/fake.rs"]
mod fake;

#[expect(dead_code, reason = "the tests of the pool's server need more of it")]
#[path = "../../pool/tests/server/miner.rs"]
mod miner;

/// What the miner takes from where it lives.
mod stage {
    /// Longer than anything should take on a busy machine.
    pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
}

/// Blocks that have to arrive, fewer than there are between two halvings of the subsidy on regtest.
const BLOCKS: u32 = 100;
/// Most kills for that.
const KILLS_MAX: u32 = 3 * BLOCKS;
/// The latest kill after the share was sent.
const LATEST: Duration = Duration::from_millis(50);
/// Of so many kills, at most one may hit a block in the process alone. It is one of hundreds, but for a machine that is busy with
/// other things while the pool is not let run.
const LUCK: u32 = 10;
/// Of so many kills, at most one may hit a pool that has not read the share yet. The first of them come without delay.
const UNREAD: u32 = 4;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A running `adit pool`.
struct Pool {
    child: Child,
    address: SocketAddr,
    authority: AuthorityPublicKey,
}

impl Pool {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command.arg("pool").current_dir(folder).env_remove("ADIT_CONFIG").env("ADIT_LOG", "info");
        command.env("ADIT__POOL__LISTEN", "127.0.0.1:0").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let started = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the pool ended: {said:?}")).unwrap();
            if line.contains("pool started") {
                break line;
            }
            said.push(line);
        };
        // What else it says is of no interest, but it must not have to wait for somebody to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let value = |name: &str| {
            let value = started.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.unwrap_or_else(|| panic!("no {name} in: {started}")).to_owned()
        };
        let (address, authority) = (value("address="), value("authority="));
        Self { child, address: address.parse().unwrap(), authority: authority.parse().unwrap() }
    }

    /// A miner at work on `tip`: the pool may have to hear of it first.
    async fn miner(&self, tip: BlockHash) -> Miner {
        let mut miner = Miner::connect(self.address, self.authority).await;
        miner.set_up().await;
        miner.open("alice.rig").await;
        miner.hear_until(|miner| miner.prev_hash() == Some(tip.to_byte_array())).await.unwrap();
        miner
    }
}

impl Drop for Pool {
    /// As `kill -9` does it.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A folder with a config that names the node.
fn configured(node: &FakeNode) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let url = node.config().url();
    let made = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["init", "--network", "regtest", "--payout-address", ADDRESS, "--node-url", &url])
        .args(["--node-user", "user", "--node-password", "password"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

/// The blocks on disk whose fate is not known.
fn pending(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder.join("adit-data/blocks")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with("pending")).collect()
}

/// What the miner saw of the end of its connection.
struct End {
    acknowledged: bool,
    /// The process had read everything that was sent.
    was_read: bool,
}

/// Reads what came before the connection ended.
async fn end_of(mut miner: Miner, number: u32) -> End {
    let reading = async {
        loop {
            miner.hear_until(|_| true).await.unwrap();
            match miner.connection.read().await {
                Ok(_) => {}
                Err(IoError::Closed) => return true,
                Err(IoError::Broken(_) | IoError::Deaf) => return false,
            }
        }
    };
    let was_read = timeout(PATIENCE, reading).await.expect("the pool is dead");
    End { acknowledged: miner.last_acknowledged == number, was_read }
}

/// Waits until the node has this block, which no other comes after.
async fn arrives(node: &FakeNode, hash: BlockHash, patience: Duration) -> bool {
    let arriving = async {
        while node.best_block() != hash {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(patience, arriving).await.is_ok()
}

/// What became of the blocks.
#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    /// Blocks that the node had when the pool was dead.
    at_once: u32,
    /// Blocks that it got from the next run.
    after_restart: u32,
    /// Those of them that the miner had been told of.
    acknowledged_after_restart: u32,
    /// Shares that the killed process had not read.
    unread: u32,
    /// Kills that hit a block in the process alone.
    in_the_air: u32,
}

impl Tally {
    fn arrived(&self) -> u32 {
        self.at_once + self.after_restart
    }
}

/// When the pool is killed, spread evenly and in no order.
fn delay(kill: u32) -> Duration {
    LATEST * (kill * 77 % 200) / 200
}

/// Kills the pool until enough blocks have arrived at a node that takes none while the pool lives if it `is_away`.
async fn kill_until_enough_have_arrived(is_away: bool) -> Tally {
    let node = FakeNode::start().await;
    let folder = configured(&node);
    let mut tally = Tally::default();
    let mut pool = Pool::start(folder.path());
    while tally.arrived() < BLOCKS && tally.kills < KILLS_MAX {
        let mut miner = pool.miner(node.best_block()).await;
        let on_disk = pending(folder.path());
        if is_away {
            node.trick("submitblock", Trick::Fault(-28, "Loading block index…"));
        }
        let number = miner.block();
        let hash = BlockHash::from_raw_hash(miner.hash());
        miner.flush().await;
        sleep(delay(tally.kills)).await;
        drop(pool);
        tally.kills += 1;

        let end = end_of(miner, number).await;
        node.honest("submitblock");
        // Whoever long polls is answered, and the calls of the dead pool end.
        node.wait(Duration::ZERO);
        let promised = end.acknowledged || !pending(folder.path()).is_subset(&on_disk);
        // What the kernel was given before the kill still reaches the node.
        let grace = Duration::from_millis(if promised || is_away { 5 } else { 200 });
        let at_once = arrives(&node, hash, grace).await;
        pool = Pool::start(folder.path());
        if at_once {
            tally.at_once += 1;
        } else if promised {
            let told = end.acknowledged;
            assert!(arrives(&node, hash, PATIENCE).await, "a block is lost, acknowledged: {told}, {tally:?}");
            tally.after_restart += 1;
            tally.acknowledged_after_restart += u32::from(told);
        } else if end.was_read {
            tally.in_the_air += 1;
        } else {
            tally.unread += 1;
        }
    }
    eprintln!("measured: node away: {is_away}, {tally:?}");
    assert_eq!(tally.arrived(), BLOCKS, "{tally:?}");
    assert!(tally.in_the_air * LUCK <= tally.kills, "too many blocks are in the process alone: {tally:?}");
    assert!(tally.unread * UNREAD <= tally.kills, "shares are read too late: {tally:?}");
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_blocks_reach_a_node_although_the_pool_is_killed_right_after_each() {
    kill_until_enough_have_arrived(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_blocks_reach_a_node_that_was_away_although_the_pool_is_killed_right_after_each() {
    let tally = kill_until_enough_have_arrived(true).await;
    assert_eq!(tally.after_restart, BLOCKS, "the node was not away: {tally:?}");
    assert!(
        tally.acknowledged_after_restart >= BLOCKS / 4,
        "hardly a block but on disk was acknowledged: {tally:?}"
    );
}

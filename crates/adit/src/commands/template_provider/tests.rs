//! Blocks of clients on their way to disk, and out again after a restart.

use std::path::Path;
use std::time::Duration;

use adit_node::{Auth, DevnetConfig, Fate, Pace, Password, RpcConfig};
use adit_testkit::mining::mine;
use adit_units::Work;
use bitcoin::ScriptBuf;
use tokio::time::{sleep, timeout};

use super::*;

/// How long anything may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn devnet() -> Node {
    let config = DevnetConfig { pace: Pace::Fixed(Work::from_hashes(2)), ..DevnetConfig::new([1; 32]) };
    Node::devnet(&config, || Clock.now())
}

/// Waits until as many files of the folder end like this.
async fn files(folder: &Path, end: &str, wanted: usize) {
    let count = || {
        let files = std::fs::read_dir(folder.join("blocks")).unwrap().flatten();
        files.filter(|file| file.path().to_string_lossy().ends_with(end)).count()
    };
    let waiting = async {
        while count() != wanted {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{wanted} files with {end}"));
}

/// It was kept nowhere, and was lost with the process, or when the node did not come back soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_block_that_no_node_has_taken_is_on_disk_and_goes_out_after_a_restart() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), devnet());
    let template = chain.templates().wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let block = mine(&template, ScriptBuf::from_bytes(vec![0x51]));
    let password =
        Auth::UserPass { user: "user".to_owned(), password: Password::from("password".to_owned()) };
    let away = Node::rpc(&RpcConfig::new("127.0.0.1:1", password).unwrap());
    let blocks = open_blocks(folder.path(), away).await.unwrap();
    Desk(blocks.clone()).take(block.clone()).await;
    Desk(blocks.clone()).take(block.clone()).await;
    files(folder.path(), ".pending", 1).await;
    assert_eq!(chain.fate(block.hash).await, Fate::Unknown);
    blocks.close().await;
    drop(blocks);

    let next = timeout(PATIENCE, async {
        // The folder is free when the last of the first run is gone.
        loop {
            match open_blocks(folder.path(), chain.clone()).await {
                Ok(blocks) => return blocks,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    });
    let next = next.await.expect("the folder is free in time");
    assert!(next.answered(PATIENCE).await);
    assert_eq!(chain.fate(block.hash).await, Fate::InChain { confirmations: 1 });
}

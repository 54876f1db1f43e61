//! The launcher of real nodes, tried on a real node when `ADIT_BITCOIND` names one.

use adit_testkit::bitcoind::{Bitcoind, Chain, Kind, StartError, TRANSACTION_FEE};
use bitcoin::Amount;

/// Starts a node, or says on the terminal that `test` was left out.
fn node(test: &str, chain: Chain) -> Option<Bitcoind> {
    Kind::Knots.start(test, chain, &[])
}

#[test]
fn mines_spends_and_survives_a_restart_on_regtest() {
    let Some(mut node) = node("a node restarts", Chain::Regtest) else { return };
    assert_eq!(node.height().unwrap(), 0);
    node.mature_coinbases(3).unwrap();
    assert_eq!(node.height().unwrap(), 102);
    let sent = node.send_transactions(3).unwrap();
    assert_eq!(node.mempool_len().unwrap(), 3);
    assert!(node.send_transactions(1).is_err(), "a coinbase must not be spent twice");

    let mined = node.generate(1).unwrap();
    let block = node.block_at(103).unwrap();
    assert_eq!(block.block_hash(), mined[0]);
    assert_eq!(node.best_block_hash().unwrap(), mined[0]);
    assert!(sent.iter().all(|txid| block.txdata.iter().any(|tx| tx.compute_txid() == *txid)));
    assert_eq!(block.txdata[0].output[0].value, Amount::from_btc(50.0).unwrap() + TRANSACTION_FEE * 3);

    node.stop().unwrap();
    assert!(node.height().is_err());
    node.launch().unwrap();
    assert_eq!(node.best_block_hash().unwrap(), mined[0]);
    assert_eq!(node.submit_block(&block).unwrap().as_deref(), Some("duplicate"));
}

#[test]
fn mines_on_a_private_signet() {
    let Some(node) = node("a node mines a signet", Chain::PrivateSignet) else { return };
    let mined = node.generate(1).unwrap();
    assert_eq!(node.best_block_hash().unwrap(), mined[0]);
    let work = node.block(mined[0]).unwrap().header.work();
    assert!(
        work > bitcoin::Work::from_be_bytes({
            let mut bytes = [0; 32];
            bytes[29] = 0x40;
            bytes
        }),
        "a block of this chain stands for millions of hashes"
    );
}

#[test]
fn dropping_the_node_ends_its_process_and_removes_its_folder() {
    let Some(node) = node("a node is dropped", Chain::Regtest) else { return };
    let (folder, port) = (node.data_folder().to_owned(), node.rpc_port());
    drop(node);
    assert!(!folder.exists());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_program_that_is_no_node_is_told_apart() {
    let ended = Bitcoind::start("false".as_ref(), Chain::Regtest).unwrap_err();
    assert!(matches!(ended, StartError::Ended { .. }), "{ended}");
    let missing = Bitcoind::start("/no/such/bitcoind".as_ref(), Chain::Regtest).unwrap_err();
    assert!(matches!(missing, StartError::Io { .. }), "{missing}");
}

//! What only a node that is spoken to over JSON-RPC does.

use adit_node::{Auth, NodeError, Password, RpcConfig, probe};
use adit_testkit::bitcoind::{Chain, Kind};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told() {
    let Some(bitcoind) = Kind::Knots.start("errors of a real node", Chain::Regtest, &[]) else { return };
    let wrong = Auth::UserPass { user: "me".to_owned(), password: Password::from("no".to_owned()) };
    let error = probe(&RpcConfig::new(&bitcoind.rpc_url(), wrong).unwrap()).await.unwrap_err();
    assert!(matches!(error, NodeError::WrongPassword { .. }), "{error}");
}

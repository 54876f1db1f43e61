//! What an operator reads when a node cannot be used, and that it works again when the cause is gone.

use adit_node::{Auth, Node, NodeError, Password, probe};
use bitcoin::Network;
use serde_json::json;

use crate::fake::{FakeNode, Trick, cookie};
use crate::{down, up};

/// A node that does `trick` says something with all the `words` in it, and is up again once it is honest.
async fn check(method: &'static str, trick: Trick, words: &[&str]) {
    let fake = FakeNode::start().await;
    fake.trick(method, trick);
    let node = Node::rpc(&fake.config());
    let reason = down(&node, words[0]).await;
    for word in words {
        assert!(reason.contains(word), "{reason:?} lacks {word:?}");
    }
    assert!(node.templates().borrow().is_none());
    fake.honest(method);
    up(&node).await;
}

#[tokio::test]
async fn states_of_the_node() {
    check("getblocktemplate", Trick::Fault(-10, "is in initial sync"), &["initial block download", "wait"])
        .await;
    check("getblocktemplate", Trick::Fault(-9, "is not connected!"), &["no peers"]).await;
    check(
        "getblockchaininfo",
        Trick::Fault(-28, "Loading block index"),
        &["still starting", "Loading block index"],
    )
    .await;
    check("getblocktemplate", Trick::Fault(-1, "odd"), &["refuses getblocktemplate", "odd", "-1"]).await;
    check("getblockchaininfo", Trick::Change("chain", json!("liquid")), &["unknown network", "liquid"]).await;
}

#[tokio::test]
async fn answers_of_something_else() {
    check(
        "getblockchaininfo",
        Trick::Http(404, "<html>hello</html>"),
        &["not the RPC of a Bitcoin node", "404", "port"],
    )
    .await;
    check("getblockchaininfo", Trick::Http(403, ""), &["403", "rpcallowip"]).await;
    check("getblockchaininfo", Trick::Http(503, "Work queue depth exceeded"), &["rpcworkqueue"]).await;
    check(
        "getblockchaininfo",
        Trick::Result(json!(null)),
        &["not the RPC of a Bitcoin node", "getblockchaininfo"],
    )
    .await;
    check("getblockchaininfo", Trick::Result(json!([1])), &["not the RPC of a Bitcoin node"]).await;
    check("getblocktemplate", Trick::LoseAnswer, &["no connection"]).await;
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    check("getblockchaininfo", Trick::Endless, &["not the RPC of a Bitcoin node", "67108864"]).await;
}

#[tokio::test]
async fn a_wrong_password_names_the_user_and_hides_the_password() {
    let fake = FakeNode::start().await;
    let password = Password::from("hunter2".to_owned());
    let config = fake.config_with(Auth::UserPass { user: "alice".to_owned(), password });
    let node = Node::rpc(&config);
    let reason = down(&node, "refuses user").await;
    assert!(reason.contains("alice") && reason.contains("rpcauth"), "{reason}");
    assert!(!format!("{reason} {config:?} {node:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_cookie_can_be_missing_broken_or_wrong() {
    let fake = FakeNode::start().await;
    fake.set_credentials("__cookie__:one");
    let (_folder, path) = cookie("nonsense");
    let node = Node::rpc(&fake.config_with(Auth::Cookie(path.clone())));
    let name = path.to_str().unwrap();
    assert!(down(&node, "user:password").await.contains(name));
    std::fs::remove_file(&path).unwrap();
    assert!(down(&node, "No such file").await.contains(name));
    std::fs::write(&path, "__cookie__:two").unwrap();
    assert!(down(&node, "refuses the cookie").await.contains(name));
    std::fs::write(&path, "__cookie__:one\n").unwrap();
    up(&node).await;
}

#[tokio::test]
async fn a_probe_tells_what_the_node_is() {
    let fake = FakeNode::start().await;
    let info = probe(&fake.config()).await.unwrap();
    assert_eq!((info.network, info.height.0, info.best_block), (Network::Regtest, 0, fake.best_block()));
    assert_eq!(
        (info.user_agent.as_str(), info.peers, info.initial_block_download),
        ("/Fake:1.0/", Some(3), false)
    );
    assert!(info.trouble.is_none());

    fake.trick("getblocktemplate", Trick::Fault(-10, "is in initial sync"));
    fake.trick("getblockchaininfo", Trick::Change("initialblockdownload", json!(true)));
    let info = Node::rpc(&fake.config()).probe().await.unwrap();
    assert!(info.initial_block_download);
    assert!(matches!(info.trouble.as_deref(), Some(NodeError::Syncing)), "{info:?}");
}

#[tokio::test]
async fn a_probe_says_why_it_failed() {
    let mut fake = FakeNode::start().await;
    let mut config = fake.config();
    config.network = Some(Network::Bitcoin);
    let wrong = probe(&config).await.unwrap_err();
    assert!(
        matches!(wrong, NodeError::WrongNetwork { expected: Network::Bitcoin, found: Network::Regtest }),
        "{wrong}"
    );
    fake.trick("getblockchaininfo", Trick::Silence);
    let silent = probe(&config).await.unwrap_err();
    assert!(matches!(silent, NodeError::Silent { method: "getblockchaininfo", secs: 1, .. }), "{silent}");
    fake.kill().await;
    let away = probe(&config).await.unwrap_err();
    assert!(matches!(away, NodeError::Unreachable { .. }), "{away}");
}

#[tokio::test]
async fn a_cookie_that_is_a_pipe_is_no_cookie_and_nothing_waits_for_it() {
    let fake = FakeNode::start().await;
    let (folder, _) = cookie("nothing");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let node = Node::rpc(&fake.config_with(Auth::Cookie(pipe)));
    assert!(down(&node, "it is no file").await.contains("pipe"));
}

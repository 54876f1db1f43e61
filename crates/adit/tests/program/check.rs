//! What `adit check` finds before it costs a block.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::node::{FakeNode, Trouble};
use crate::{ADDRESS, edit, initialised, initialised_for, run};

/// The one thing that is wrong, as the program says it, all else being in order.
fn only_failure(said: &str) -> &str {
    assert_eq!(said.matches("FAIL").count(), 1, "{said}");
    said.lines().find(|line| line.starts_with("FAIL")).expect("counted above")
}

#[test]
fn a_pool_in_order_passes() {
    let node = FakeNode::start(Trouble::None);
    let folder = initialised_for(&node.url);
    edit(folder.path(), |text| text.replace("[pool]", "[pool]\nlisten = \"127.0.0.1:0\""));
    let (done, said) = run(folder.path(), &["check"]);
    assert!(done, "{said}");
    assert!(said.contains("gives templates") && said.contains("ready: adit pool"), "{said}");
}

#[test]
fn a_node_that_is_not_there() {
    let folder = initialised();
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done, "{said}");
    let failure = only_failure(&said);
    assert!(failure.contains("no connection to the node at http://127.0.0.1:1"), "{failure}");
    assert!(failure.contains("check that it runs with server=1"), "{failure}");
}

#[test]
fn a_node_that_is_still_downloading_the_chain() {
    let node = FakeNode::start(Trouble::Syncing);
    let folder = initialised_for(&node.url);
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done, "{said}");
    let failure = only_failure(&said);
    assert!(failure.contains("still downloading the chain") && failure.contains("wait"), "{failure}");
}

#[test]
fn a_node_on_another_network() {
    let node = FakeNode::start(Trouble::OtherNetwork);
    let folder = initialised_for(&node.url);
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done, "{said}");
    let failure = only_failure(&said);
    assert!(failure.contains("the node is on the network main, but regtest is configured"), "{failure}");
}

#[test]
fn a_key_file_that_others_can_read() {
    let folder = initialised();
    let key = folder.path().join("keys/server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done && said.contains("its mode is 640; run chmod 600"), "{said}");
    let (done, said) = run(folder.path(), &["pool"]);
    assert!(!done && said.contains("its mode is 640"), "{said}");
}

#[test]
fn an_address_for_the_pools_numbers_that_is_not_of_this_machine() {
    let node = FakeNode::start(Trouble::None);
    let folder = initialised_for(&node.url);
    let keys = "[pool]\nlisten = \"127.0.0.1:0\"\napi = \"192.0.2.1:4080\"";
    edit(folder.path(), |text| text.replace("[pool]", keys));
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done, "{said}");
    assert!(only_failure(&said).contains("cannot listen at 192.0.2.1:4080"), "{said}");
}

#[test]
fn a_payout_address_of_another_network() {
    let folder = initialised();
    let mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    edit(folder.path(), |text| text.replace(ADDRESS, mainnet));
    for command in ["check", "pool"] {
        let (done, said) = run(folder.path(), &[command]);
        assert!(!done, "{said}");
        assert!(
            said.contains(&format!("pool.payout_address: {mainnet} is not an address of regtest")),
            "{said}"
        );
        assert!(said.contains("adit.toml:"), "the line is named: {said}");
    }
}

#[test]
fn an_unknown_key() {
    let folder = initialised();
    edit(folder.path(), |text| text.replace("[pool]", "[pool]\nlisten_on = 1"));
    for command in ["check", "pool"] {
        let (done, said) = run(folder.path(), &[command]);
        assert!(!done && said.contains("pool.listen_on: unknown key"), "{said}");
    }
}

/// The one failure that is found with these keys of a pool and of the job declarator server in it.
fn failure_of_a_pool_with_a_declarator(pool: &str, declarator: &str) -> String {
    let node = FakeNode::start(Trouble::None);
    let folder = initialised_for(&node.url);
    let (done, said) = run(folder.path(), &["keys", "token"]);
    assert!(done, "{said}");
    edit(folder.path(), |text| {
        text.replace("[pool]", &format!("[pool]\n{pool}")).replace("[jds]", &format!("[jds]\n{declarator}"))
    });
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done, "{said}");
    only_failure(&said).to_owned()
}

#[test]
fn the_key_of_a_job_declarator_server_in_the_pool_was_never_opened() {
    let declarator = "listen = \"127.0.0.1:0\"\nserver_key = \"keys/missing.key\"";
    let failure = failure_of_a_pool_with_a_declarator("listen = \"127.0.0.1:0\"", declarator);
    assert!(failure.contains("missing.key") && failure.contains("`adit keys server` makes one"), "{failure}");
}

#[test]
fn two_that_listen_in_one_process_were_given_the_same_address() {
    let (pool, declarator) = ("listen = \"127.0.0.1:34999\"", "listen = \"0.0.0.0:34999\"");
    let failure = failure_of_a_pool_with_a_declarator(pool, declarator);
    let told =
        "jds.listen 0.0.0.0:34999 is where `adit pool` listens already, by pool.listen 127.0.0.1:34999";
    assert!(failure.contains(told), "{failure}");
}

#[test]
fn a_pool_and_a_client_that_cannot_run_at_once_were_called_ready_without_a_word() {
    let node = FakeNode::start(Trouble::None);
    let folder = initialised_for(&node.url);
    // Outside of the range of ports that systems hand out, where another test may have any of them.
    let (upstream, port) = ("stratum2+tcp://127.0.0.1:1", "listen = \"127.0.0.1:24998\"");
    edit(folder.path(), |text| {
        // Without its title the translator's table, in which nothing is set, is none.
        text.replace("[translator]", "")
            .replace("[pool]", &format!("[pool]\n{port}"))
            .replace("[jdc]", &format!("[jdc]\n{port}\nsolo_address = \"{ADDRESS}\""))
            .replace(
                "[upstream]",
                &format!("[upstream]\npool = \"{upstream}\"\njds = \"{upstream}\"\nuser = \"farm\""),
            )
    });
    let (done, said) = run(folder.path(), &["check"]);
    assert!(done, "they may be meant for two machines: {said}");
    assert_eq!(said.matches("127.0.0.1:24998 is free").count(), 1, "{said}");
    let notes: Vec<_> =
        said.lines().filter(|line| line.contains("cannot run at once on this machine")).collect();
    assert_eq!(notes.len(), 2, "{said}");
    assert!(
        notes[0].starts_with("note  disk     `adit jdc` and `adit pool` both keep their blocks in"),
        "{said}"
    );
    assert!(notes[1].starts_with("note  listen   jdc.listen 127.0.0.1:24998 and pool.listen"), "{said}");
    assert_eq!(said.matches("is certified for").count(), 1, "one key is tried once: {said}");
}

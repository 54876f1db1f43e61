//! The program as a user runs it: exit codes, messages and signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod blocks;
mod check;
mod node;
mod service;
mod translator;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn adit(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.args(arguments).current_dir(folder).env_remove("ADIT_CONFIG");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = adit(folder, arguments).output().expect("the program was built");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// A folder with a config and keys, as `adit init` leaves it; nobody is at the node's address.
fn initialised() -> tempfile::TempDir {
    initialised_for("http://127.0.0.1:1")
}

/// [`initialised`] for a node at that address.
fn initialised_for(url: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let arguments = ["init", "--network", "regtest", "--payout-address", ADDRESS, "--node-url", url];
    let login = ["--node-user", "user", "--node-password", "password"];
    let (done, said) = run(folder.path(), &[&arguments[..], &login].concat());
    assert!(done, "{said}");
    folder
}

/// Changes the config in a folder.
fn edit(folder: &Path, change: impl FnOnce(String) -> String) {
    let file = folder.join("adit.toml");
    let text = fs::read_to_string(&file).expect("the config is there");
    fs::write(&file, change(text)).expect("the config can be written");
}

/// Asks a program to stop and tells whether it went in peace within some seconds.
fn stops(mut child: Child) -> bool {
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("it has not been waited for");
    for _ in 0..200 {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status.success();
        }
        sleep(Duration::from_millis(50));
    }
    child.kill().expect("it is ours");
    false
}

#[test]
fn the_demo_mines_a_block_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (done, said) = run(folder.path(), &["demo", "--blocks", "1"]);
    assert!(done, "{said}");
    assert!(said.contains("accepted by the node"), "{said}");
    let (done, said) = run(folder.path(), &["demo", "--blocks", "0"]);
    assert!(!done, "{said}");
    let (done, said) = run(folder.path(), &["demo", "--blocks", "1000", "--timeout", "1"]);
    assert!(!done && said.contains("within 1 s"), "{said}");
}

#[test]
fn init_writes_what_check_understands_and_replaces_nothing() {
    let folder = initialised();
    let config = fs::read_to_string(folder.path().join("adit.toml")).unwrap();
    let (done, said) = run(folder.path(), &["init", "--network", "regtest", "--payout-address", ADDRESS]);
    assert!(!done && said.contains("is there already"), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("adit.toml")).unwrap(), config);

    // Nobody listens at that port, so everything but the node is in order.
    let (done, said) = run(folder.path(), &["check"]);
    assert!(!done, "{said}");
    assert_eq!(said.matches("FAIL").count(), 1, "{said}");
    assert!(said.contains("FAIL  node"), "{said}");
}

#[test]
fn a_nodes_password_in_the_environment_kept_init_from_working() {
    let init = |login: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["init", "--network", "regtest", "--payout-address", ADDRESS];
        let mut command = adit(folder.path(), &[&arguments[..], login].concat());
        let output = command.env("ADIT_NODE_PASSWORD", "hunter2").output().unwrap();
        let config = fs::read_to_string(folder.path().join("adit.toml")).unwrap_or_default();
        (output.status.success(), config, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for login in [&[][..], &["--node-cookie", "cookie"]] {
        let (done, config, said) = init(login);
        assert!(done, "{said}");
        assert!(config.contains("\ncookie_file = ") && !config.contains("hunter2"), "{config}");
    }
    let (done, config, said) = init(&["--node-user", "alice"]);
    assert!(done && config.contains("password = \"hunter2\""), "{config}{said}");
    let (done, config, said) = init(&["--node-user", "alice", "--node-password", "written"]);
    assert!(done && config.contains("password = \"written\""), "{config}{said}");
    let (done, _, said) = init(&["--node-password", "written"]);
    assert!(!done && said.contains("--node-user"), "{said}");
}

#[test]
fn a_user_of_the_node_needs_a_password_from_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["init", "--network", "regtest", "--payout-address", ADDRESS, "--node-user", "alice"];
    let mut command = adit(folder.path(), &arguments);
    let output = command.env_remove("ADIT_NODE_PASSWORD").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--node-user needs --node-password"), "{said}");
    assert!(!folder.path().join("keys").exists(), "nothing is written");
}

#[test]
fn what_is_no_key_was_told_of_two_kinds_out_of_three() {
    let folder = initialised();
    let (done, said) = run(folder.path(), &["keys", "show", "adit.toml"]);
    assert!(!done && said.contains("authority, server or token"), "{said}");
    let (done, said) = run(folder.path(), &["keys", "show", "keys/server.key"]);
    let dates = said.lines().filter(|line| line.ends_with(" UTC")).count();
    assert!(done && dates == 2, "{said}");
}

#[test]
fn an_environment_that_is_not_text_is_no_panic() {
    let folder = initialised();
    let mut command = adit(folder.path(), &["check"]);
    let output = command.env("ODD", OsStr::from_bytes(b"\xff")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_stop_signal_is_never_missed() {
    let folder = initialised();
    let url = "stratum2+tcp://127.0.0.1:1/9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
    // The waits are spread around the moments at which the view is drawn, where a signal was missed once.
    for wait in [480, 500, 520] {
        let mut command = adit(folder.path(), &["miner", "--url", url, "--user", "x"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(wait));
        assert!(stops(child), "after {wait} ms");
    }
    let mut command = adit(folder.path(), &["pool"]);
    let child = command.env("ADIT__POOL__LISTEN", "127.0.0.1:0").stderr(Stdio::null()).spawn().unwrap();
    sleep(Duration::from_millis(700));
    assert!(stops(child), "a pool whose node is away");
}

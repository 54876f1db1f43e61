//! Blocks of an earlier run, in every role that keeps found ones: they go out whatever fails, and keep nobody from ending the program.

use std::path::Path;
use std::process::Command;

use adit_ledger::BlockStore;
use adit_units::Height;
use rustix::process::Signal;

use crate::node::{FakeNode, Trouble};
use crate::service::{Pool, declaring};
use crate::{adit, fs, initialised_for};

/// A folder for the roles of job declaration, with a block that an earlier run has left.
fn folder(node: &FakeNode) -> tempfile::TempDir {
    let folder = initialised_for(&node.url);
    declaring(folder.path());
    let store = BlockStore::open(&folder.path().join("adit-data/blocks")).unwrap();
    store.save([7; 32], Height(101), b"a block of an earlier run").unwrap();
    folder
}

fn fails(folder: &Path, role: &str) -> String {
    let output = adit(folder, &[role]).output().unwrap();
    assert!(!output.status.success(), "{role} started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The keys were read first, and whoever could not start ended before any block was handed over.
#[test]
fn a_block_of_an_earlier_run_goes_out_although_a_role_of_job_declaration_cannot_start() {
    for role in ["jds", "jdc"] {
        let node = FakeNode::start(Trouble::None);
        let folder = folder(&node);
        fs::remove_file(folder.path().join("keys/server.key")).unwrap();
        let said = fails(folder.path(), role);
        assert!(said.contains("server.key"), "{role}: {said}");
        assert!(node.blocks() > 0, "{role}: {said}");
    }
}

/// The server heard no second signal while it waited.
#[test]
fn a_second_signal_ends_a_role_of_job_declaration_that_waits_for_its_node() {
    for (role, name) in [("jds", "job declarator server"), ("jdc", "job declarator client")] {
        let node = FakeNode::start(Trouble::DeafToBlocks);
        let folder = folder(&node);
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command.arg(role);
        let service = Pool::run(folder.path(), command);
        service.says(&format!("{name} started"), 1);
        service.signal(Signal::TERM);
        service.says("stopping", 1);
        service.stops();
        let said = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(said.contains("ended at once"), "{role}: {said}");
    }
}

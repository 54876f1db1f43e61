//! Rules for the crates that take time, randomness and bytes as arguments.

use crate::repository::{Finding, TextFile};
use crate::sources::{code_of, contains_word};

/// Folders whose code decides and never acts.
pub(crate) const PURE_FOLDERS: &[&str] = &[
    "crates/units/src/",
    "crates/transport/src/",
    "crates/messages/src/",
    "crates/share/src/",
    "crates/channel/src/",
    "crates/node/src/tdp/",
    "crates/pool/src/",
    "crates/job-declarator/src/",
    "crates/translator/src/",
];

/// Parts of those folders that drive the pure code with real sockets and clocks.
const SHELLS: &[&str] = &[
    "crates/node/src/tdp/client/follow.rs",
    "crates/node/src/tdp/server.rs",
    "crates/node/src/tdp/server/",
    "crates/pool/src/server.rs",
    "crates/pool/src/server/",
    "crates/job-declarator/src/client/link.rs",
    "crates/job-declarator/src/client/shell",
    "crates/job-declarator/src/client/steward.rs",
    "crates/job-declarator/src/server/shell",
    "crates/translator/src/server",
    // Numbers for people, addresses of machines among them.
    "crates/translator/src/status.rs",
];

/// What pure code does not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "a runtime belongs to the shell that drives this code"),
    ("Instant", "time is an argument: take adit_units::Now or Monotonic"),
    ("SystemTime", "time is an argument: take adit_units::Now or UnixTime"),
    ("net", "sockets belong to the shell; take and return bytes"),
    ("fs", "files belong to the shell; take and return bytes"),
    ("thread", "tasks belong to the shell"),
    ("Mutex", "one owner holds the state, so there is nothing to lock"),
    ("RwLock", "one owner holds the state, so there is nothing to lock"),
    ("getrandom", "randomness is an argument: take `&mut impl rand_core::CryptoRng`"),
    ("async", "pure code is driven by calls; waiting belongs to the shell"),
];

/// Whether the rules of pure code hold for the file at `path`.
pub(crate) fn is_pure(path: &str) -> bool {
    PURE_FOLDERS.iter().any(|folder| path.starts_with(folder))
        && !SHELLS.iter().any(|shell| path.starts_with(shell))
        && !is_test(path)
}

/// Whether the whole file is compiled for tests only.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Every impure name in the code of one file, its tests left out.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    // By the order of a file in this house, tests come last.
    let code = file.text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    for (number, line) in code {
        for (name, lesson) in IMPURE {
            if names(code_of(line), name) {
                let lesson = format!("`{name}` in a pure crate; {lesson}");
                findings.push(Finding::on_line(file, number, lesson));
            }
        }
    }
    findings
}

/// Whether `code` names the item; `net`, `fs` and `thread` only count as modules of the standard library.
fn names(code: &str, item: &str) -> bool {
    match item {
        "net" | "fs" | "thread" => {
            contains_word(code, &format!("std::{item}"))
                || (item == "thread" && contains_word(code, "thread::spawn"))
        }
        _ => contains_word(code, item),
    }
}

#[test]
fn each_impure_name_is_caught() {
    let file = |line: &str| TextFile { path: "crates/share/src/lib.rs".to_owned(), text: line.to_owned() };
    for line in [
        "use tokio::time::sleep;",
        "let start = Instant::now();",
        "use std::time::SystemTime;",
        "use std::net::TcpStream;",
        "std::fs::read(path)",
        "thread::spawn(|| ());",
        "state: Mutex<State>,",
        "state: RwLock<State>,",
        "getrandom::fill(&mut key)",
        "pub async fn run()",
    ] {
        assert_eq!(check(&file(line)).len(), 1, "{line}");
        assert!(check(&file(&format!("// {line}"))).is_empty(), "{line}");
        assert!(check(&file(&format!("#[cfg(test)]\nmod tests {{\n{line}"))).is_empty(), "{line}");
    }
    assert!(check(&file("let net = fs(thread);")).is_empty());
}

#[test]
fn the_shell_of_the_pool_is_not_pure() {
    assert!(is_pure("crates/pool/src/session.rs"));
    assert!(is_pure("crates/pool/src/session/open.rs"));
    for path in [
        "crates/pool/src/server.rs",
        "crates/pool/src/server/board.rs",
        "crates/share/src/judge/tests.rs",
        "crates/net/src/lib.rs",
    ] {
        assert!(!is_pure(path), "{path}");
    }
}

//! Rules for the shape of one Rust file.

use crate::repository::{Finding, TextFile};

/// Most lines a file may have; its tests move to a file of their own before the limit is reached.
const LINES_MAX: usize = 700;

/// What may not stand in a line of code, and what to do instead. None of them is looked for in comments.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        "todo!",
        "nothing is left for later in this repository; write it, or leave it out and say so in the README",
    ),
    (
        "unimplemented!",
        "nothing is left for later in this repository; write it, or leave it out and say so in the README",
    ),
    ("unreachable!()", "say why the place cannot be reached: unreachable!(\"because ...\")"),
    ("panic!()", "say what went wrong: panic!(\"...\")"),
    (
        "#[ignore",
        "a test that does not run protects nothing; make it fast, or gate it by an environment variable and say so",
    ),
    ("#[allow(", "an exception must be noticed when it ends: #[expect(the_lint, reason = \"...\")]"),
    ("#![allow(", "an exception must be noticed when it ends: #![expect(the_lint, reason = \"...\")]"),
    ("pub fn get_", "a getter is named by what it returns, without `get_`"),
    ("pub(crate) fn get_", "a getter is named by what it returns, without `get_`"),
    ("pub(super) fn get_", "a getter is named by what it returns, without `get_`"),
    ("Manager", "name the type by what it is or holds; `Manager` says neither"),
];

/// Marks of unfinished work, looked for in comments too.
const UNFINISHED: &[&str] = &["FIXME", "XXX", "TODO", "HACK"];

/// Module names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["mod.rs", "utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs"];

/// Everything wrong with the shape of one Rust file.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_length(file, &mut findings);
    check_first_line(file, &mut findings);
    check_name(file, &mut findings);
    // These rules stand in this folder as text.
    if !file.path.starts_with("crates/testkit/tests/house_rules/") {
        check_lines(file, &mut findings);
    }
    findings
}

fn check_length(file: &TextFile, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        let lesson = format!(
            "{lines} lines, and {LINES_MAX} is the most; move its tests to a `tests.rs` beside it, or split it by subject"
        );
        findings.push(Finding::in_file(file, lesson));
    }
}

fn check_first_line(file: &TextFile, findings: &mut Vec<Finding>) {
    let first = file.text.lines().next().unwrap_or_default();
    let sentence = first.strip_prefix("//! ").unwrap_or_default();
    if sentence.split(' ').count() < 3 || !sentence.ends_with('.') || sentence.contains(". ") {
        let lesson = "a file opens with one `//!` sentence on its first line that says what lives there, with a full stop";
        findings.push(Finding::on_line(file, 0, lesson));
    }
}

fn check_name(file: &TextFile, findings: &mut Vec<Finding>) {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    if EMPTY_NAMES.contains(&name) {
        let lesson = "name a module by its subject; a parent module is `foo.rs` beside the folder `foo/`";
        findings.push(Finding::in_file(file, lesson));
    }
}

fn check_lines(file: &TextFile, findings: &mut Vec<Finding>) {
    for (number, line) in file.text.lines().enumerate() {
        let code = code_of(line);
        for (text, lesson) in FORBIDDEN {
            if code.contains(text) {
                findings.push(Finding::on_line(file, number, format!("`{text}`: {lesson}")));
            }
        }
        for mark in UNFINISHED {
            if contains_word(line, mark) {
                let lesson = format!(
                    "`{mark}` marks unfinished work; finish it, or write down as a fact what is not done and why"
                );
                findings.push(Finding::on_line(file, number, lesson));
            }
        }
    }
}

/// The line without its comment; good enough for code that keeps `//` out of string literals with forbidden words.
pub(crate) fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` stands in `text` with no letter, digit or underscore on either side.
pub(crate) fn contains_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let (before, rest) = text.split_at(start);
        let after = &rest[word.len()..];
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[test]
fn each_rule_catches_what_it_is_for() {
    let file = |text: &str| TextFile { path: "crates/x/src/lib.rs".to_owned(), text: text.to_owned() };
    let count = |text: &str| check(&file(text)).len();
    assert_eq!(count("//! Numbers with names.\nfn f() {} // the manager of nothing\n"), 0);
    for (text, _) in FORBIDDEN {
        assert_eq!(count(&format!("//! Numbers with names.\n    {text}\n")), 1, "{text}");
        assert_eq!(count(&format!("//! Numbers with names.\n// why there is no {text}\n")), 0, "{text}");
    }
    for mark in UNFINISHED {
        assert_eq!(count(&format!("//! Numbers with names.\n// {mark}: later\n")), 1, "{mark}");
    }
    for first in ["", "fn f() {}", "//! Numbers with names", "//! Numbers.", "//! One thing. And another."] {
        assert_eq!(count(first), 1, "{first:?}");
    }
    assert_eq!(count(&format!("//! Numbers with names.\n{}", "\n".repeat(LINES_MAX))), 1);
    let module =
        TextFile { path: "crates/x/src/mod.rs".to_owned(), text: "//! Numbers with names.".to_owned() };
    assert_eq!(check(&module).len(), 1);
}

#[test]
fn words_end_where_names_end() {
    assert!(contains_word("use std::time::Instant;", "Instant"));
    assert!(!contains_word("an Instantaneous InstantX", "Instant"));
    assert!(!contains_word("my_Instant", "Instant"));
}

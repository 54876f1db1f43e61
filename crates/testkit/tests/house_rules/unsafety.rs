//! Rules for unsafe code: one file has it, says why each time, and nobody else can.

use crate::repository::{Finding, Repository, TextFile};
use crate::sources::{code_of, contains_word};

/// The one file with unsafe code.
const THE_ONE: &str = "crates/share/src/sha256/sha_ni.rs";

/// The root of the one crate that does not forbid it.
const ITS_CRATE: &str = "crates/share/src/lib.rs";

/// What forbids unsafe code where nothing can lift it.
const FORBIDDEN: &str = "#![forbid(unsafe_code)]";

/// Every crate root that does not forbid unsafe code, and every file with some.
pub(crate) fn check(repository: &Repository) -> Vec<Finding> {
    assert!(has_unsafe(repository.text(THE_ONE)), "{THE_ONE} has no unsafe code any more; correct this rule");
    let rust = repository
        .files_with("rs")
        .filter(|file| !file.path.starts_with("crates/testkit/tests/house_rules/"));
    rust.flat_map(check_file).collect()
}

fn check_file(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_root(&file.path) && file.path != ITS_CRATE && !file.text.lines().any(|line| line == FORBIDDEN) {
        findings
            .push(Finding::in_file(file, format!("a crate's root says `{FORBIDDEN}` below its first words")));
    }
    if file.path == THE_ONE {
        findings.extend(unexplained(file));
    } else if has_unsafe(&file.text) {
        let lesson = format!("`unsafe` stands in {THE_ONE} only; find a safe way, or a crate that has one");
        findings.push(Finding::in_file(file, lesson));
    }
    findings
}

/// Whether a package is compiled from here: benches and tests are held by the workspace's lint alone.
fn is_root(path: &str) -> bool {
    let is_ours = path.starts_with("crates/") || path.starts_with("examples/");
    is_ours && (path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs") || path.contains("/src/bin/"))
}

fn has_unsafe(text: &str) -> bool {
    text.lines().any(|line| contains_word(code_of(line), "unsafe"))
}

/// Unsafe code without a sentence on why it is sound, on the line before it.
fn unexplained(file: &TextFile) -> Vec<Finding> {
    let before = std::iter::once("").chain(file.text.lines());
    let lines = before.zip(file.text.lines()).enumerate();
    let unsaid = lines.filter(|(_, (before, line))| {
        contains_word(code_of(line), "unsafe") && !before.trim_start().starts_with("// SAFETY: ")
    });
    let lesson = "the line before `unsafe` says why it is sound: `// SAFETY: ...`";
    unsaid.map(|(number, _)| Finding::on_line(file, number, lesson)).collect()
}

#[test]
fn unsafe_code_is_found_wherever_it_is() {
    let count =
        |path: &str, text: &str| check_file(&TextFile { path: path.to_owned(), text: text.to_owned() }).len();
    let good = format!("//! A thing.\n{FORBIDDEN}\n");
    for root in ["crates/x/src/lib.rs", "crates/x/src/main.rs", "examples/src/bin/x.rs"] {
        assert_eq!(count(root, &good), 0);
        assert_eq!(count(root, "//! A thing.\n"), 1, "{root}");
        assert_eq!(count(root, &format!("{good}unsafe {{ f() }}\n")), 1, "{root}");
    }
    assert_eq!(count(ITS_CRATE, "//! A thing.\n"), 0);
    assert_eq!(count(ITS_CRATE, "unsafe fn f() {}\n"), 1);
    assert_eq!(count("crates/x/benches/y.rs", "let x = unsafe { f() };"), 1);
    assert_eq!(count("crates/x/src/y.rs", "// nothing unsafe\n#[expect(unsafe_code)]"), 0);
    assert_eq!(count(THE_ONE, "    // SAFETY: it is.\n    unsafe { f() }\n"), 0);
    assert_eq!(count(THE_ONE, "    unsafe { f() }\n"), 1);
}

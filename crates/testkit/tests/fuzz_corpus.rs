//! Replays the stored fuzz inputs, and keeps targets, bodies and corpus folders in step.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use adit_testkit::fuzz::TARGETS;

/// A folder of the repository, named from its top.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The paths inside a folder, sorted; dot-files are not inputs.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display()));
    let mut paths: Vec<_> = listing.map(|entry| entry.expect("an open folder can be read").path()).collect();
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    paths
}

/// The last part of a path.
fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("names in this repository are UTF-8")
}

/// The file or folder names inside a folder, without `.rs`.
fn stems(folder: &str) -> BTreeSet<String> {
    entries(&repository(folder)).iter().map(|path| name(path).trim_end_matches(".rs").to_owned()).collect()
}

/// The names of the programs that `fuzz/Cargo.toml` declares.
fn declared_programs() -> BTreeSet<String> {
    let manifest = fs::read_to_string(repository("fuzz/Cargo.toml")).expect("the fuzz workspace is there");
    let names = manifest.split("[[bin]]").skip(1).map(|section| {
        let line = section.lines().find(|line| line.starts_with("name = ")).expect("each [[bin]] has a name");
        line.trim_start_matches("name = ").trim_matches('"').to_owned()
    });
    names.collect()
}

#[test]
fn every_target_has_a_body_a_program_and_a_corpus() {
    let table: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(table.len(), TARGETS.len(), "a name stands twice in adit_testkit::fuzz::TARGETS");
    for (place, names) in [
        ("files in crates/testkit/src/fuzz", stems("crates/testkit/src/fuzz")),
        ("files in fuzz/fuzz_targets", stems("fuzz/fuzz_targets")),
        ("[[bin]] sections of fuzz/Cargo.toml", declared_programs()),
        ("folders in fuzz/corpus", stems("fuzz/corpus")),
    ] {
        let missing: Vec<_> = table.difference(&names).collect();
        let surplus: Vec<_> = names.difference(&table).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "the table adit_testkit::fuzz::TARGETS and the {place} disagree: {missing:?} stand in the table only, \
             {surplus:?} there only; fuzz/README.md lists the five places a target has"
        );
    }
}

#[test]
fn every_stored_input_passes() {
    let mut failures = Vec::new();
    for target in TARGETS {
        let inputs = entries(&repository("fuzz/corpus").join(target.name));
        assert!(!inputs.is_empty(), "fuzz/corpus/{} holds no input; add at least one seed", target.name);
        (target.run)(&[]);
        for path in inputs {
            let bytes = fs::read(&path).unwrap();
            if panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
                failures.push(path.display().to_string());
            }
        }
    }
    assert!(failures.is_empty(), "these inputs break their target (the panics are above): {failures:#?}");
}

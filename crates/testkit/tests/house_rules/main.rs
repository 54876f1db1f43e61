//! The rules of the house that no lint can say, as tests whose messages tell what to do.
//!
//! `CONTRIBUTING.md` gives the reasons. A rule here is a pure function from a file's text to findings, so that each is itself
//! tested on a line that breaks it.

mod packages;
mod papers;
mod purity;
mod repository;
mod sources;
mod unsafety;
mod vectors;
mod words;

use repository::{Finding, Repository};

/// Fails with every finding at once, so that one run shows all there is to mend.
#[track_caller]
fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} broken house rule(s):\n{}\n", findings.len(), lines.join("\n"));
}

#[test]
fn rust_files_keep_the_house_style() {
    let repository = Repository::read();
    let rust: Vec<_> = repository.files_with("rs").collect();
    assert!(rust.len() > 20, "only {} Rust files found; is this the whole repository?", rust.len());
    assert_none(&rust.into_iter().flat_map(sources::check).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_stands_in_one_file() {
    assert_none(&unsafety::check(&Repository::read()));
}

#[test]
fn no_file_speaks_of_one_machine_or_of_how_it_was_made() {
    let repository = Repository::read();
    assert_none(&repository.files.iter().flat_map(words::check).collect::<Vec<_>>());
}

#[test]
fn pure_crates_name_no_clock_socket_task_or_lock() {
    let repository = Repository::read();
    let pure: Vec<_> = repository.files_with("rs").filter(|file| purity::is_pure(&file.path)).collect();
    for folder in purity::PURE_FOLDERS {
        assert!(
            pure.iter().any(|file| file.path.starts_with(folder)),
            "{folder} holds no pure source; has the crate moved? correct PURE_FOLDERS"
        );
    }
    assert_none(&pure.into_iter().flat_map(purity::check).collect::<Vec<_>>());
}

#[test]
fn the_pool_core_stands_without_tokio() {
    let tree = packages::dependency_tree("adit-pool", &["--no-default-features"]);
    assert_none(&packages::absent(
        "adit-pool without its server",
        &tree,
        &["tokio", "mio", "socket2", "hyper", "reqwest"],
    ));
}

#[test]
fn the_program_has_one_secp256k1_and_no_openssl() {
    let tree = packages::dependency_tree("adit", &[]);
    assert_none(&packages::absent("adit", &tree, &["openssl", "openssl-sys", "native-tls"]));
    let copies: Vec<_> = tree.iter().filter(|(name, _)| name == "secp256k1-sys").collect();
    assert_eq!(
        copies.len(),
        1,
        "adit must hold exactly one secp256k1-sys, the one of the bitcoin crate, but holds {copies:?}; \
         `cargo tree -p adit -e normal -i secp256k1-sys` shows who brings another (docs/decisions/0001)"
    );
}

#[test]
fn every_package_keeps_the_laws_of_the_workspace() {
    assert_none(&packages::check_manifests(&Repository::read()));
}

#[test]
fn decisions_are_numbered_without_gaps() {
    assert_none(&papers::check_decisions(&Repository::read()));
}

#[test]
fn links_to_papers_lead_somewhere() {
    let repository = Repository::read();
    let links = repository.files_with("md").flat_map(|file| papers::check_links(file, &repository));
    let sources =
        repository.files.iter().filter(|file| !file.path.starts_with("crates/testkit/tests/house_rules/"));
    let names = sources.flat_map(|file| papers::check_named_papers(file, &repository));
    assert_none(&links.chain(names).collect::<Vec<_>>());
}

#[test]
fn test_vectors_have_a_source_and_a_reader() {
    assert_none(&vectors::check(&Repository::read()));
}

#[test]
fn every_config_key_is_explained_to_operators() {
    assert_none(&papers::check_config_keys(&Repository::read()));
}

#[test]
fn every_example_is_listed() {
    assert_none(&papers::check_examples(&Repository::read()));
}

#[test]
fn operators_are_told_what_the_program_says() {
    assert_none(&papers::check_quoted_messages(&Repository::read()));
}

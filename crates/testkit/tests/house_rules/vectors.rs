//! Rules for the data in `test-vectors/`: each file says where it comes from, and a test reads it.

use std::fs;

use crate::repository::{Finding, Repository};

/// Every folder of vectors must have a README that names its files, and every file a Rust source that names it.
pub(crate) fn check(repository: &Repository) -> Vec<Finding> {
    let folders = names(repository, "test-vectors").into_iter().filter(|name| name != "README.md");
    folders.flat_map(|folder| check_folder(repository, &format!("test-vectors/{folder}"))).collect()
}

fn check_folder(repository: &Repository, folder: &str) -> Vec<Finding> {
    let readme = repository.files.iter().find(|file| file.path == format!("{folder}/README.md"));
    let mut findings = Vec::new();
    let mut find = |place: &str, lesson: &str| {
        findings.push(Finding { place: place.to_owned(), lesson: lesson.to_owned() });
    };
    if readme.is_none() {
        find(folder, "has no README.md; it must say for each file where every byte comes from");
    }
    for name in names(repository, folder).iter().filter(|name| *name != "README.md") {
        let place = format!("{folder}/{name}");
        if readme.is_some_and(|readme| !readme.text.contains(name.as_str())) {
            find(&place, "is not named in the README.md beside it; say there where every byte comes from");
        }
        if !repository.files_with("rs").any(|file| file.text.contains(name.as_str())) {
            find(&place, "is named in no Rust file; a vector that no test reads is not kept");
        }
    }
    findings
}

/// The names of what lies in a folder, sorted.
fn names(repository: &Repository, folder: &str) -> Vec<String> {
    let listing = fs::read_dir(repository.top.join(folder)).expect("the folder of test vectors is there");
    let mut names: Vec<String> = listing
        .map(|entry| entry.expect("an open folder can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

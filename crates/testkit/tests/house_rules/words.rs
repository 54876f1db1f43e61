//! Rules for the words in every file, papers and scripts included.

use crate::repository::{Finding, TextFile};

/// First folders of absolute paths that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["home", "root", "Users", "work", "tmp"];

/// The home of the account that runs a node, as node documentation has it; an example, not a path of ours.
const EXAMPLE_HOME: &str = "/home/bitcoin/";

/// Phrases about how a text came to be, which tell its reader nothing about the code.
const MAKING_OF: &[&str] =
    &["as requested", "the brief says", "this workplace", "previous session", "as discussed"];

/// Paths of one machine, and talk about the making.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.path.starts_with("crates/testkit/tests/house_rules/") {
        return findings;
    }
    for (number, line) in file.text.lines().enumerate() {
        if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| has_path_under(line, folder)) {
            let lesson = format!(
                "a path under /{folder}/ exists on one machine only; take it from an argument, an environment variable or a temporary folder"
            );
            findings.push(Finding::on_line(file, number, lesson));
        }
        let lower = line.to_lowercase();
        if let Some(phrase) = MAKING_OF.iter().find(|phrase| lower.contains(**phrase)) {
            let lesson =
                format!("\"{phrase}\" speaks of how the text was made; say what the code does and why");
            findings.push(Finding::on_line(file, number, lesson));
        }
    }
    findings
}

/// Whether `line` names an absolute path whose first folder is `folder`.
fn has_path_under(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    let line = line.replace(EXAMPLE_HOME, "");
    line.match_indices(&path)
        .any(|(start, _)| !line[..start].ends_with(|c: char| c.is_alphanumeric() || "_}.~*".contains(c)))
}

#[test]
fn paths_of_one_machine_are_found() {
    for folder in MACHINE_FOLDERS {
        assert!(has_path_under(&format!("see /{folder}/x"), folder));
        assert!(has_path_under(&format!("\"/{folder}/\""), folder));
        assert!(!has_path_under(&format!("https://example.org/{folder}/x"), folder));
        assert!(!has_path_under(&format!("$DIR/{folder}/ and ./{folder}/"), folder));
    }
}

#[test]
fn phrases_about_the_making_are_found() {
    for phrase in MAKING_OF {
        let file =
            TextFile { path: "README.md".to_owned(), text: format!("Sorted, {}.", phrase.to_uppercase()) };
        assert_eq!(check(&file).len(), 1, "{phrase}");
    }
}

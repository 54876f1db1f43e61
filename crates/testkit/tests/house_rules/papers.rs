//! Rules for the papers: decisions are numbered, links lead somewhere, and what repeats a fact repeats all of it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::repository::{Finding, Repository, TextFile};

/// `docs/decisions/NNNN-subject.md`, counted from 0001, each opening with its number and listed in the README.
pub(crate) fn check_decisions(repository: &Repository) -> Vec<Finding> {
    let list = repository.text("docs/decisions/README.md");
    let decisions: Vec<_> =
        repository.files.iter().filter(|file| file.path.starts_with("docs/decisions/0")).collect();
    assert!(!decisions.is_empty(), "docs/decisions/ holds no decision");
    let mut findings = Vec::new();
    for (number, file) in (1_usize..).zip(decisions) {
        let name = Path::new(&file.path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(&format!("{number:04}-")) {
            let lesson = format!("expected decision {number:04} here; numbers have no gaps and no doubles");
            findings.push(Finding::in_file(file, lesson));
        }
        if !file.text.starts_with(&format!("# {number}. ")) {
            let lesson = format!("a decision opens with its number and what was decided: `# {number}. ...`");
            findings.push(Finding::on_line(file, 0, lesson));
        }
        if !list.contains(&format!("[{number}]({name})")) {
            let lesson = format!("is not in docs/decisions/README.md; add the row `[{number}]({name})`");
            findings.push(Finding::in_file(file, lesson));
        }
    }
    findings
}

/// Every config key stands in the operator's table.
pub(crate) fn check_config_keys(repository: &Repository) -> Vec<Finding> {
    let operating = repository.text("docs/operating.md");
    let keys: Vec<&str> = config_keys(repository.text("crates/adit/src/config/key.rs")).collect();
    assert!(keys.len() > 5, "only {keys:?} found; has the table of keys moved? correct this rule");
    let missing = keys.into_iter().filter(|key| !operating.contains(&format!("`{key}`")));
    let finding = |key| Finding {
        place: "docs/operating.md".to_owned(),
        lesson: format!("the config key `{key}` is not in the table of keys; say what it means there"),
    };
    missing.map(finding).collect()
}

/// Every message that the operator's tables quote is one that the sources hold; `...` stands for what varies.
pub(crate) fn check_quoted_messages(repository: &Repository) -> Vec<Finding> {
    let ours = repository.files_with("rs").filter(|file| file.path.contains("/src/"));
    let sources: String = ours.map(|file| without_line_ends(&file.text)).collect();
    let quoted: Vec<&str> = quoted_messages(repository.text("docs/operating.md")).collect();
    assert!(
        quoted.len() > 10,
        "only {quoted:?} found; have the tables changed their shape? correct this rule"
    );
    let is_said = |message: &str| message.split("...").all(|part| sources.contains(part.trim()));
    let finding = |message| Finding {
        place: "docs/operating.md".to_owned(),
        lesson: format!("no source says `{message}`; quote what the program says now"),
    };
    quoted.into_iter().filter(|message| !is_said(message)).map(finding).collect()
}

/// A source whose string literals run on where a `\\` ended the line.
fn without_line_ends(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

/// What stands in backquotes in the first column of the tables below "What to watch", placeholders of commands left out.
fn quoted_messages(operating: &str) -> impl Iterator<Item = &str> {
    let tables = operating.split_once("## What to watch").map_or("", |(_, tables)| tables);
    let cells = tables.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

/// Every example stands in the list of examples, and every one listed is there.
pub(crate) fn check_examples(repository: &Repository) -> Vec<Finding> {
    const LIST: &str = "examples/README.md";
    let programs = repository.files_with("rs").filter_map(|file| file.path.strip_prefix("examples/src/bin/"));
    let programs: BTreeSet<&str> = programs.filter_map(|name| name.strip_suffix(".rs")).collect();
    let words = repository.text(LIST).split("--bin ").skip(1);
    let listed: BTreeSet<&str> = words.filter_map(|rest| rest.split(['`', ' ']).next()).collect();
    let finding = |name: &&str| Finding {
        place: LIST.to_owned(),
        lesson: format!("`{name}` is either here or in examples/src/bin, but must be in both"),
    };
    programs.symmetric_difference(&listed).map(finding).collect()
}

/// The dotted paths in the program's table of keys.
fn config_keys(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("path: \"")?.split_once('"'))
        .map(|(key, _)| key)
}

/// Relative links in a paper whose target is not in the repository.
pub(crate) fn check_links(file: &TextFile, repository: &Repository) -> Vec<Finding> {
    let folder = Path::new(&file.path).parent().unwrap_or_else(|| Path::new(""));
    let links = link_targets(&file.text).filter(|link| !link.contains("://") && !link.starts_with('#'));
    let missing = links.filter(|link| {
        let path = link.split('#').next().unwrap_or_default();
        !repository.top.join(folder).join(path).exists()
    });
    missing.map(|link| Finding::in_file(file, format!("the link to `{link}` leads nowhere"))).collect()
}

/// Papers that a source or script names and that are not there.
pub(crate) fn check_named_papers(file: &TextFile, repository: &Repository) -> Vec<Finding> {
    let missing = named_papers(&file.text).filter(|paper| !repository.top.join(paper).exists());
    missing.map(|paper| Finding::in_file(file, format!("names {paper}, which is not there"))).collect()
}

/// Words like `docs/glossary.md`.
fn named_papers(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = text.split(move |c: char| !is_part(c)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.starts_with("docs/") && word.ends_with(".md"))
}

/// The targets of `[text](target)` in Markdown.
fn link_targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn papers_are_found_where_sources_name_them() {
    let papers: Vec<_> = named_papers("//! See `docs/a.md`, docs/b-c.md.\n\"docs/\", docs/d.txt").collect();
    assert_eq!(papers, ["docs/a.md", "docs/b-c.md"]);
}

#[test]
fn links_are_read_from_markdown() {
    let targets: Vec<_> = link_targets("[a](b.md) text (c) [d](e.md#f)").collect();
    assert_eq!(targets, ["b.md", "e.md#f"]);
}

#[test]
fn messages_are_read_from_the_tables() {
    let paper = "| `a` | no |\n## What to watch\n| line | means |\n|---|---|\n| `block found`, then `ok ...` (WARN) | `b` |\n";
    assert_eq!(quoted_messages(paper).collect::<Vec<_>>(), ["block found", "ok ..."]);
    assert_eq!(without_line_ends("one \\\n    two"), "one two");
}

#[test]
fn keys_are_read_from_the_table() {
    let source = "    Key {\n        path: \"pool.listen\",\n        default: None,\n    },\n";
    assert_eq!(config_keys(source).collect::<Vec<_>>(), ["pool.listen"]);
}

//! The repository's own text files, and what a rule finds in them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A place where a rule is broken, and what to do about it.
#[derive(Debug)]
pub(crate) struct Finding {
    /// Path from the top of the repository, with a line number where there is one.
    pub(crate) place: String,
    /// The rule, and how to keep it.
    pub(crate) lesson: String,
}

impl Finding {
    /// A finding about a whole file.
    pub(crate) fn in_file(file: &TextFile, lesson: impl Into<String>) -> Self {
        Self { place: file.path.clone(), lesson: lesson.into() }
    }

    /// A finding on one line, counted from zero.
    pub(crate) fn on_line(file: &TextFile, line: usize, lesson: impl Into<String>) -> Self {
        Self { place: format!("{}:{}", file.path, line + 1), lesson: lesson.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {}", self.place, self.lesson)
    }
}

/// A text file of the repository.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Path from the top of the repository, with `/` between its parts.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// Everything written by hand: sources, papers, scripts and manifests.
#[derive(Debug)]
pub(crate) struct Repository {
    /// Where it is.
    pub(crate) top: PathBuf,
    /// Its files, sorted by path.
    pub(crate) files: Vec<TextFile>,
}

/// Folders and files that are made by programs, or are data.
const NOT_WRITTEN_BY_HAND: &[&str] = &[
    ".git",
    "Cargo.lock",
    "fuzz/Cargo.lock",
    "fuzz/artifacts",
    "fuzz/corpus",
    "fuzz/coverage",
    "fuzz/found",
    "adit-data",
];

impl Repository {
    /// Reads the repository that this test stands in.
    pub(crate) fn read() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .expect("the sources are there");
        let mut files = Vec::new();
        collect(&top, "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { top, files }
    }

    /// The files whose name ends in `.extension`.
    pub(crate) fn files_with(&self, extension: &'static str) -> impl Iterator<Item = &TextFile> {
        self.files
            .iter()
            .filter(move |file| Path::new(&file.path).extension().is_some_and(|e| e == extension))
    }

    /// The text of the file at `path`, which must be there.
    pub(crate) fn text(&self, path: &str) -> &str {
        let file = self.files.iter().find(|file| file.path == path);
        &file.unwrap_or_else(|| panic!("{path} is missing")).text
    }
}

/// Adds the text files under `folder` (a path from the top, empty for the top itself).
fn collect(top: &Path, folder: &str, files: &mut Vec<TextFile>) {
    let listing = fs::read_dir(top.join(folder)).unwrap_or_else(|e| panic!("cannot list {folder}: {e}"));
    for entry in listing {
        let entry = entry.expect("a folder that was opened can be read");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if NOT_WRITTEN_BY_HAND.contains(&path.as_str()) || path.ends_with("/target") || path == "target" {
            continue;
        }
        let kind = entry.file_type().expect("the entry's type can be read");
        if kind.is_dir() {
            collect(top, &path, files);
        } else if path.starts_with("test-vectors/") && !path.ends_with(".md") {
            // Data; `vectors` looks at it.
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.push(TextFile { path, text });
        }
    }
}

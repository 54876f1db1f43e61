//! What is wrong with a config, where, and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where a key got its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of the file, counted from one.
    Line(usize),
    /// An environment variable.
    Variable(String),
    /// An argument on the command line.
    Argument(String),
}

/// The origin of every key that has one, by dotted path.
pub(crate) type Origins = BTreeMap<String, Origin>;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The dotted path of the key, empty if the mistake is not about one.
    pub(crate) path: String,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

impl Mistake {
    /// A mistake about the key at `path`.
    pub(crate) fn at(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// Everything that is wrong with a config, ready to be read by a person.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistakes {
    file: PathBuf,
    found: Vec<(Option<Origin>, Mistake)>,
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    /// `mistakes`, in the order of the file, with where each key came from.
    ///
    /// A key has one mistake: what was noticed first leads to the others.
    pub(crate) fn new(mistakes: Vec<Mistake>, origins: &Origins) -> Self {
        let mut seen = BTreeSet::new();
        let mistakes = mistakes.into_iter().filter(|mistake| seen.insert(mistake.path.clone()));
        let mut found: Vec<_> =
            mistakes.map(|mistake| (origin_of(&mistake.path, origins), mistake)).collect();
        found.sort_by_key(|(origin, _)| match origin {
            Some(Origin::Line(line)) => *line,
            Some(Origin::Variable(_) | Origin::Argument(_)) | None => usize::MAX,
        });
        Self { file: PathBuf::new(), found }
    }

    /// A file that is not TOML at all: what is wrong at which line.
    pub(crate) fn syntax(line: Option<usize>, text: impl Into<String>) -> Self {
        Self { file: PathBuf::new(), found: vec![(line.map(Origin::Line), Mistake::at("", text))] }
    }

    /// A file that cannot be read, and what can be done instead of naming another one.
    pub(crate) fn unreadable(file: &Path, error: &io::Error, instead: &str) -> Self {
        let place = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let text = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no config at {}; name yours with --config, or {instead}", place.display())
            }
            _ => format!("cannot read the config: {error}"),
        };
        Self { file: file.to_owned(), found: vec![(None, Mistake::at("", text))] }
    }

    /// The same mistakes, named as those of `file`.
    pub(crate) fn in_file(self, file: &Path) -> Self {
        Self { file: file.to_owned(), ..self }
    }

    /// The same mistakes as those of the command line, whose argument for a key `argument` tells: there is no file that anybody could look into.
    pub(crate) fn of_arguments(self, argument: impl Fn(&str) -> Option<String>) -> Self {
        let mut found: Vec<(Option<Origin>, Mistake)> = Vec::new();
        for (_, Mistake { path, text }) in self.found {
            let mistake = match argument(&path) {
                Some(argument) => (Some(Origin::Argument(argument)), Mistake::at("", text)),
                None => (None, Mistake { path, text }),
            };
            // What is given once may be wrong for each of several pools.
            if !found.contains(&mistake) {
                found.push(mistake);
            }
        }
        Self { file: PathBuf::new(), found }
    }

    /// What cannot be used because of them.
    pub(crate) fn place(&self) -> &'static str {
        let is_argument = |origin: &Option<Origin>| matches!(origin, Some(Origin::Argument(_)));
        if self.found.iter().any(|(origin, _)| is_argument(origin)) {
            "these arguments"
        } else {
            "the config"
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }
}

/// The origin of the key, or of the nearest table above it.
fn origin_of(path: &str, origins: &Origins) -> Option<Origin> {
    let mut path = path;
    loop {
        if let Some(origin) = origins.get(path) {
            return Some(origin.clone());
        }
        (path, _) = path.rsplit_once('.')?;
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (origin, Mistake { path, text })) in self.found.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match origin {
                Some(Origin::Line(line)) => write!(f, "{}:{line}: ", self.file.display())?,
                Some(Origin::Variable(name)) => write!(f, "environment variable {name}: ")?,
                Some(Origin::Argument(name)) => write!(f, "{name}: ")?,
                None if self.file.as_os_str().is_empty() => {}
                None => write!(f, "{}: ", self.file.display())?,
            }
            if !path.is_empty() {
                write!(f, "{path}: ")?;
            }
            f.write_str(text)?;
        }
        Ok(())
    }
}

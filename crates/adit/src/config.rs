//! The config file: as written, as checked, and every mistake between the two.

mod checked;
mod key;
mod mistake;
mod written;

use std::path::Path;

pub(crate) use checked::Config;
pub(crate) use key::{KEYS, Key};
pub(crate) use mistake::Mistakes;

/// Reads, overrides from the environment, and checks the config at `path`.
///
/// # Errors
///
/// Every mistake that can be found without asking anybody, all at once.
pub(crate) fn load(path: &Path) -> Result<Config, Mistakes> {
    let text = std::fs::read_to_string(path).map_err(|error| Mistakes::unreadable(path, &error))?;
    // Variables that are not text cannot be ours; they are not looked at.
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(written::ENV_PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    parse(&text, environment, folder).map_err(|mistakes| mistakes.in_file(path))
}

/// [`load`] without the file system: `text` of a file that lies in `folder`, and `environment` as name and value.
fn parse(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    folder: &Path,
) -> Result<Config, Mistakes> {
    let (written, origins, mut mistakes) = written::read(text, environment)?;
    let checked = checked::check(written, folder, &mut mistakes);
    match checked {
        Some(config) if mistakes.is_empty() => Ok(config),
        _ => Err(Mistakes::new(mistakes, &origins)),
    }
}

#[cfg(test)]
mod tests;

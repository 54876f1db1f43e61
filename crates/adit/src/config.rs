//! The config file: as written, as checked, and every mistake between the two.

mod advice;
mod checked;
mod declaration;
mod key;
mod mistake;
mod node;
mod payee;
mod translator;
mod values;
mod written;

use std::path::Path;

pub(crate) use checked::{Config, ProviderSettings, Roles};
pub(crate) use declaration::{ClientConfig, DeclaratorConfig, DeclaratorSettings};
pub(crate) use key::{KEYS, Key, LIVE};
use mistake::Mistake;
pub(crate) use mistake::Mistakes;
pub(crate) use payee::named as payee;
pub(crate) use translator::{TlsSettings, TranslatorSettings};
pub(crate) use values::Values;
use written::{Reading, Written};

/// Reads, overrides from the environment, and checks the config of a pool at `path`; gives all values as they stand too, to hold later ones
/// against.
///
/// # Errors
///
/// Every mistake that can be found without asking anybody, all at once.
pub(crate) fn load_with_values(path: &Path) -> Result<(Config, Values), Mistakes> {
    load_both(path, checked::check, INIT)
}

/// [`load_with_values`] for the config of a template provider, in which nothing about a pool needs to stand.
///
/// # Errors
///
/// As [`load_with_values`].
pub(crate) fn load_provider(path: &Path) -> Result<ProviderSettings, Mistakes> {
    load_as(path, checked::check_provider)
}

/// [`load_with_values`] for the config of a job declarator server, in which nothing else about a pool needs to stand.
///
/// # Errors
///
/// As [`load_with_values`].
pub(crate) fn load_declarator(path: &Path) -> Result<DeclaratorConfig, Mistakes> {
    load_as(path, checked::check_declarator)
}

/// [`load_with_values`] for the config of a job declarator client, in which nothing about a pool needs to stand.
///
/// # Errors
///
/// As [`load_with_values`].
pub(crate) fn load_client(path: &Path) -> Result<ClientConfig, Mistakes> {
    load_as(path, checked::check_client)
}

/// [`load_with_values`] for the config of a translator, in which nothing about a pool or a node needs to stand.
///
/// # Errors
///
/// As [`load_with_values`].
pub(crate) fn load_translator(path: &Path) -> Result<TranslatorSettings, Mistakes> {
    // What `adit init` writes is a pool.
    Ok(load_both(path, translator::check, "give the pool with --pool and --user instead")?.0)
}

/// The config of a translator that is told the few things it needs on the command line: its pools, whom they credit, and further keys.
///
/// # Errors
///
/// As [`load_with_values`], by the arguments that are wrong.
pub(crate) fn translator_of(
    pools: &[String],
    user: &str,
    keys: &[(&str, String)],
) -> Result<TranslatorSettings, Mistakes> {
    let mut text = String::new();
    for pool in pools {
        // Rust writes text as TOML reads it, as far as addresses and names go.
        text.push_str(&format!("[[upstreams]]\npool = {pool:?}\nuser = {user:?}\n"));
    }
    let environment = keys.iter().map(|(path, value)| {
        (format!("{}{}", written::ENV_PREFIX, path.to_uppercase().replace('.', "__")), value.clone())
    });
    let argument = |path: &str| match path.strip_prefix("upstreams.").and_then(|rest| rest.split_once('.')) {
        Some((index, "pool")) => {
            let pool =
                index.parse().ok().and_then(|index: usize| pools.get(index)).filter(|_| pools.len() > 1);
            Some(pool.map_or_else(|| "--pool".to_owned(), |pool| format!("--pool {pool}")))
        }
        Some((_, key)) => Some(format!("--{key}")),
        None => {
            let is_given = keys.iter().any(|(key, _)| *key == path);
            path.strip_prefix("translator.").filter(|_| is_given).map(|key| format!("--{key}"))
        }
    };
    match parse(&text, environment, Path::new("."), translator::check) {
        Ok((settings, _)) => Ok(settings),
        Err(mistakes) => Err(mistakes.of_arguments(argument)),
    }
}

/// [`load_with_values`] for whichever roles the file is written for.
///
/// # Errors
///
/// As [`load_with_values`].
pub(crate) fn load_roles(path: &Path) -> Result<Roles, Mistakes> {
    load_as(path, checked::check_roles)
}

/// Makes checked values of written ones, relative to a folder, and notes mistakes.
type Check<T> = fn(Written, &Path, &mut Vec<Mistake>) -> Option<T>;

fn load_as<T>(path: &Path, check: Check<T>) -> Result<T, Mistakes> {
    Ok(load_both(path, check, INIT)?.0)
}

/// What somebody can do who has no config.
const INIT: &str = "write one with `adit init`";

/// [`load_with_values`] for any role; without a file the user is told what to do `instead` of naming one.
fn load_both<T>(path: &Path, check: Check<T>, instead: &str) -> Result<(T, Values), Mistakes> {
    let text = std::fs::read_to_string(path).map_err(|error| Mistakes::unreadable(path, &error, instead))?;
    // Variables that are not text cannot be ours; they are not looked at.
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(written::ENV_PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    parse(&text, environment, folder, check).map_err(|mistakes| mistakes.in_file(path))
}

/// [`load_both`] without the file system: `text` of a file that lies in `folder`, and `environment` as name and value.
fn parse<T>(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    folder: &Path,
    check: Check<T>,
) -> Result<(T, Values), Mistakes> {
    let Reading { written, values, origins, mut mistakes } = written::read(text, environment)?;
    let checked = check(written, folder, &mut mistakes);
    match checked {
        Some(config) if mistakes.is_empty() => Ok((config, values)),
        _ => Err(Mistakes::new(mistakes, &origins)),
    }
}

#[cfg(test)]
mod tests;

//! The config as somebody wrote it: text and environment read into optional fields, unknown keys found.

use serde::Deserialize;
use toml::de::{DeArray, DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::advice::{known, unknown, wrong_type};
use super::mistake::{Mistake, Mistakes, Origin, Origins};
use super::values::Values;

/// What the names of environment overrides start with: `ADIT__POOL__LISTEN` overrides `pool.listen`.
pub(super) const ENV_PREFIX: &str = "ADIT__";

/// The top of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Written {
    pub(super) network: Option<String>,
    pub(super) data_dir: Option<String>,
    pub(super) log: Option<String>,
    pub(super) node: WrittenNode,
    pub(super) nodes: Vec<WrittenNode>,
    pub(super) pool: Option<WrittenPool>,
    pub(super) template_provider: Option<WrittenProvider>,
    pub(super) jds: Option<WrittenDeclarator>,
    pub(super) jdc: Option<WrittenClient>,
    pub(super) translator: Option<WrittenTranslator>,
    pub(super) upstream: WrittenUpstream,
    pub(super) upstreams: Vec<WrittenUpstream>,
}

impl Written {
    /// What is in it for a job declarator client, taken out.
    pub(super) fn client(&mut self) -> Self {
        Self {
            data_dir: self.data_dir.clone(),
            jdc: self.jdc.take(),
            upstream: core::mem::take(&mut self.upstream),
            upstreams: core::mem::take(&mut self.upstreams),
            ..Self::default()
        }
    }
}

impl Written {
    /// What is in it for a translator; upstreams may be for a job declarator client too.
    pub(super) fn translator(&mut self) -> Self {
        Self {
            log: self.log.clone(),
            translator: self.translator.take(),
            upstream: self.upstream.clone(),
            upstreams: self.upstreams.clone(),
            ..Self::default()
        }
    }
}

/// The table `[node]`, or one of `[[nodes]]`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct WrittenNode {
    pub(super) url: Option<String>,
    pub(super) cookie_file: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) zmq_hashblock: Option<String>,
    pub(super) ipc: Option<String>,
    pub(super) tdp: Option<String>,
}

/// The table `[pool]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenPool {
    pub(super) listen: Option<String>,
    pub(super) payout_address: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) instance: Option<u16>,
    pub(super) shares_per_minute: Option<u32>,
    pub(super) empty_jobs: Option<String>,
    pub(super) require_worker_names: Option<bool>,
    pub(super) solo: Option<bool>,
    pub(super) successor: Option<String>,
    pub(super) connections: Option<u32>,
    pub(super) connections_per_address: Option<u32>,
    pub(super) channels_per_connection: Option<u16>,
    pub(super) server_key: Option<String>,
    pub(super) token_key: Option<String>,
    pub(super) api: Option<String>,
    pub(super) api_hosts: Option<Vec<String>>,
}

/// The table `[jds]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenDeclarator {
    pub(super) listen: Option<String>,
    pub(super) payout_address: Option<String>,
    pub(super) token_key: Option<String>,
    pub(super) server_key: Option<String>,
    pub(super) coinbase_only: Option<bool>,
    pub(super) least_pool_percent: Option<u8>,
}

/// The table `[jdc]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenClient {
    pub(super) listen: Option<String>,
    pub(super) solo_address: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) shares_per_minute: Option<u32>,
    pub(super) least_fee_gain: Option<u64>,
    pub(super) server_key: Option<String>,
}

/// The table `[upstream]`, or one of `[[upstreams]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct WrittenUpstream {
    pub(super) pool: Option<String>,
    pub(super) jds: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) pays: Option<String>,
    pub(super) least_payout_percent: Option<u8>,
}

/// The table `[translator]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenTranslator {
    pub(super) listen: Option<String>,
    pub(super) allow_public: Option<bool>,
    pub(super) mode: Option<String>,
    pub(super) shares_per_minute: Option<u32>,
    pub(super) terahashes: Option<String>,
    pub(super) vardiff: Option<bool>,
    pub(super) least_difficulty: Option<String>,
    pub(super) extranonce2_size: Option<u8>,
    pub(super) version_mask: Option<String>,
    pub(super) keepalive_secs: Option<u64>,
    pub(super) connections: Option<u32>,
    pub(super) connections_per_address: Option<u32>,
    pub(super) proxy_protocol: Option<bool>,
    pub(super) rest: Option<bool>,
    pub(super) tls_listen: Option<String>,
    pub(super) tls_certificate: Option<String>,
    pub(super) tls_key: Option<String>,
    pub(super) api: Option<String>,
    pub(super) api_hosts: Option<Vec<String>>,
    pub(super) devices: Vec<WrittenDevice>,
}

/// One of `[[translator.devices]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct WrittenDevice {
    pub(super) user_agent: Option<String>,
    pub(super) terahashes: Option<String>,
    pub(super) least_difficulty: Option<String>,
    pub(super) coinbase_bytes: Option<u32>,
    pub(super) quirks: Option<Vec<String>>,
}

/// The table `[template_provider]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenProvider {
    pub(super) listen: Option<String>,
    pub(super) server_key: Option<String>,
    pub(super) coinbase_bytes: Option<u32>,
    pub(super) empty_templates: Option<String>,
}

/// What is written, where each key comes from, and what is wrong so far.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) written: Written,
    /// Every value as it stands, environment included.
    pub(super) values: Values,
    pub(super) origins: Origins,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads `text`, lays `environment` over it, and finds unknown keys and values of the wrong type.
pub(super) fn read(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Reading, Mistakes> {
    let document = DeTable::parse(text).map_err(|error| syntax(text, &error))?;
    let mut origins = Origins::new();
    collect_lines(text, "", document.get_ref(), &mut origins);
    let mut table: Table = text.parse().map_err(|error| syntax(text, &error))?;
    keep_digits("", document.get_ref(), &mut table);
    let mut mistakes = Vec::new();
    for (name, value) in environment {
        overlay(&mut table, &mut origins, &mut mistakes, &name, &value);
    }
    let values = Values::new(table.clone());
    let written = deserialize(table, &mut mistakes);
    Ok(Reading { written, values, origins, mistakes })
}

/// Reads every key that can be read; a value of the wrong type is one mistake and keeps no other key from being read.
fn deserialize(mut table: Table, mistakes: &mut Vec<Mistake>) -> Written {
    loop {
        let mut unknown = Vec::new();
        // A table that may be left out is a question mark of its own to serde.
        let mut remember = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
        let ignored = serde_ignored::Deserializer::new(Value::Table(table.clone()), &mut remember);
        let error: serde_path_to_error::Error<toml::de::Error> =
            match serde_path_to_error::deserialize(ignored) {
                Ok(written) => {
                    mistakes.extend(unknown.into_iter().map(|path| unknown_at(&table, path)));
                    return written;
                }
                Err(error) => error,
            };
        let path = dotted(&error.path().to_string());
        mistakes.push(wrong_type(&path, error.inner().message()));
        if !remove(&mut table, &path) {
            // The table itself is not one, so there is nothing else to read.
            return Written::default();
        }
    }
}

/// Takes the key at a dotted path out of a table; tells whether it was there.
fn remove(table: &mut Table, path: &str) -> bool {
    match path.split_once('.') {
        None => table.remove(path).is_some(),
        Some((parent, rest)) => match table.get_mut(parent) {
            Some(Value::Table(inner)) => remove(inner, rest),
            Some(Value::Array(elements)) => {
                let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
                let element = index.parse::<usize>().ok().and_then(|index| elements.get_mut(index));
                match element {
                    Some(Value::Table(inner)) => remove(inner, rest),
                    _ => false,
                }
            }
            _ => false,
        },
    }
}

/// The mistake of a path that leads to a value which nobody reads.
fn unknown_at(table: &Table, path: String) -> Mistake {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| table.get(name));
    let value = names.fold(first, |value, name| match value? {
        Value::Table(inner) => inner.get(name),
        Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        _ => None,
    });
    let is_table = match value {
        Some(Value::Array(elements)) => matches!(elements.first(), Some(Value::Table(_))),
        value => matches!(value, Some(Value::Table(_))),
    };
    unknown(path, is_table)
}

/// `nodes[0].url` as all other paths are written: `nodes.0.url`.
fn dotted(path: &str) -> String {
    path.replace('[', ".").replace(']', "")
}

/// Puts the value of one environment variable into the table.
///
/// What the table of keys shows as a text is taken letter by letter, so that a password of digits stays one; other values are read
/// as TOML.
fn overlay(table: &mut Table, origins: &mut Origins, mistakes: &mut Vec<Mistake>, name: &str, value: &str) {
    let path = name.trim_start_matches(ENV_PREFIX).to_lowercase().replace("__", ".");
    origins.insert(path.clone(), Origin::Variable(name.to_owned()));
    let text = || Value::String(value.to_owned());
    let is_text = known(&path).is_some_and(|key| key.example.starts_with('"'));
    let value = if is_text { text() } else { value.parse().unwrap_or_else(|_| text()) };
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", &path));
    match table_at(table, parents) {
        Ok(table) => drop(table.insert(key.to_owned(), value)),
        Err(text) => mistakes.push(Mistake::at(path.clone(), text)),
    }
}

/// The table at a dotted path, made where there is none; the elements of a list go by their number, from zero.
fn table_at<'a>(table: &'a mut Table, path: &str) -> Result<&'a mut Table, String> {
    let mut table = table;
    let mut names = path.split('.').filter(|name| !name.is_empty());
    while let Some(name) = names.next() {
        let mut entry = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Array(elements) = entry {
            let count = elements.len();
            let index = names.next().and_then(|index| index.parse::<usize>().ok());
            let element = index.and_then(|index| elements.get_mut(index));
            entry = element.ok_or_else(|| {
                format!("{name} is a list of {count}; say which with a number from 0, as in {name}.0")
            })?;
        }
        let Value::Table(inner) = entry else { return Err(format!("{name} is not a table")) };
        table = inner;
    }
    Ok(table)
}

/// Puts the text of a number in the place of what TOML makes of it, at keys whose numbers are read digit by digit: on its way through a
/// float a fraction would be rounded.
fn keep_digits(prefix: &str, written: &DeTable<'_>, table: &mut Table) {
    for (key, value) in written.iter() {
        let path = format!("{prefix}{}", key.get_ref());
        match (value.get_ref(), table.get_mut(key.get_ref().as_ref())) {
            (DeValue::Table(inner), Some(Value::Table(kept))) => {
                keep_digits(&format!("{path}."), inner, kept)
            }
            (DeValue::Array(elements), Some(Value::Array(kept))) => {
                keep_digits_of_list(&format!("{path}."), elements, kept);
            }
            (DeValue::Integer(number), Some(kept)) if radix_at(&path) == Some(number.radix()) => {
                *kept = Value::String(number.to_string());
            }
            (DeValue::Float(number), Some(kept)) if radix_at(&path) == Some(DECIMAL) => {
                *kept = Value::String(number.as_str().to_owned());
            }
            _ => {}
        }
    }
}

/// [`keep_digits`] in each table of a list.
fn keep_digits_of_list(prefix: &str, written: &DeArray<'_>, list: &mut [Value]) {
    for (element, kept) in written.iter().zip(list) {
        if let (DeValue::Table(inner), Value::Table(kept)) = (element.get_ref(), kept) {
            keep_digits(prefix, inner, kept);
        }
    }
}

/// How a number is written where nothing else is said.
const DECIMAL: u32 = 10;

/// How the number at a path must be written, if its digits count; paths are without the places in a list. What is written otherwise, as a mask
/// in decimal digits, is left to be refused, because nobody knows which number is meant.
fn radix_at(path: &str) -> Option<u32> {
    match path {
        "translator.terahashes"
        | "translator.least_difficulty"
        | "translator.devices.terahashes"
        | "translator.devices.least_difficulty" => Some(DECIMAL),
        "translator.version_mask" => Some(16),
        _ => None,
    }
}

/// Adds the lines of the keys of one table and of those in it.
fn collect_lines(text: &str, prefix: &str, table: &DeTable<'_>, origins: &mut Origins) {
    for (key, value) in table.iter() {
        let path = format!("{prefix}{}", key.get_ref());
        origins.insert(path.clone(), Origin::Line(line_at(text, Spanned::span(key).start)));
        match value.get_ref() {
            DeValue::Table(inner) => collect_lines(text, &format!("{path}."), inner, origins),
            DeValue::Array(elements) => collect_lines_of_list(text, &path, elements, origins),
            _ => {}
        }
    }
}

/// Adds the lines of the tables of a list, and of their keys.
fn collect_lines_of_list(text: &str, path: &str, elements: &DeArray<'_>, origins: &mut Origins) {
    for (index, element) in elements.iter().enumerate() {
        let path = format!("{path}.{index}");
        origins.insert(path.clone(), Origin::Line(line_at(text, element.span().start)));
        if let DeValue::Table(inner) = element.get_ref() {
            collect_lines(text, &format!("{path}."), inner, origins);
        }
    }
}

/// The line, counted from one, that holds the byte at `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// What the TOML parser says, as a mistake with a line.
fn syntax(text: &str, error: &toml::de::Error) -> Mistakes {
    let line = error.span().map(|span| line_at(text, span.start));
    let written = line.and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    let value = written.split_once('=').map(|(_, value)| value.trim_start()).unwrap_or_default();
    // The parser takes what begins as a number for a bad one, such as an address without quotes.
    let advice = match value.starts_with(char::is_alphanumeric) {
        true => "; what is no plain number, true or false goes in quotes",
        false => "",
    };
    Mistakes::syntax(line, format!("{}{advice}", error.message()))
}

//! What to write instead of a key that does not exist or a value of the wrong type.

use super::key::{DEVICE_KEYS, KEYS, Key};
use super::mistake::Mistake;

/// Tables of which there may be several, and what one of them is called in the table of keys.
const LISTS: [(&str, &str); 3] =
    [("nodes", "node"), ("upstreams", "upstream"), ("translator.devices", "translator.devices")];

/// A key is not taken for one that differs in more letters.
const MOST_TYPOS: usize = 3;

/// The mistake of a key or a table that does not exist, with the nearest one that does.
pub(super) fn unknown(path: String, is_table: bool) -> Mistake {
    let suggestion = if is_table { nearest_table(&path) } else { nearest_key(&path) };
    let what = if is_table { "table" } else { "key" };
    let text = match suggestion {
        Some(known) => format!("unknown {what}; did you mean {known}?"),
        None => format!("unknown {what}; docs/operating.md lists those there are"),
    };
    Mistake { path, text }
}

/// The mistake at a path whose value is not what it has to be: `message` is serde's, which calls types by their names in Rust.
pub(super) fn wrong_type(path: &str, message: &str) -> Mistake {
    let (what, expected) = message.trim_end().split_once(", expected ").unwrap_or((message, ""));
    let whole = |most: u64| format!("write a whole number from 0 to {most}, without quotes");
    let advice = match expected {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" => whole(i64::MAX.unsigned_abs()),
        "a string" => "write it in quotes".to_owned(),
        "a boolean" => "write true or false, without quotes".to_owned(),
        "a sequence" if LISTS.iter().any(|(list, _)| *list == path) => {
            format!("put what belongs together below a title {}", title(path))
        }
        "a sequence" => "write a list in brackets".to_owned(),
        _ if expected.starts_with("struct ") => {
            format!(
                "put its keys below a title {}",
                title(path.trim_end_matches(|c: char| ".0123456789".contains(c)))
            )
        }
        _ => return Mistake::at(path, message),
    };
    let example = known(path).map(|key| format!(", such as {}", key.example)).unwrap_or_default();
    Mistake::at(path, format!("{what}; {advice}{example}"))
}

/// The row of a key in the table of keys.
pub(super) fn known(path: &str) -> Option<&'static Key> {
    let (_, _, key) = of_one(path);
    all_keys().find(|known| known.path == key)
}

fn all_keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(DEVICE_KEYS)
}

/// The key that somebody may have meant.
fn nearest_key(path: &str) -> Option<String> {
    let (place, one, key) = of_one(path);
    let known = nearest(&key, all_keys().map(|key| key.path))?;
    // Without a place there is nothing in front of a dot.
    Some(match known.strip_prefix(one).and_then(|name| name.strip_prefix('.')) {
        Some(name) => format!("{place}{name}"),
        None => known.to_owned(),
    })
}

/// The table that somebody may have meant, as its title is written.
fn nearest_table(path: &str) -> Option<String> {
    let parents = KEYS.iter().filter_map(|key| Some(key.path.rsplit_once('.')?.0));
    let known = nearest(path, parents.chain(LISTS.map(|(list, _)| list)))?;
    Some(title(known))
}

/// How the title of a table is written.
fn title(table: &str) -> String {
    if LISTS.iter().any(|(list, _)| *list == table) { format!("[[{table}]]") } else { format!("[{table}]") }
}

/// The nearest path, unless another name than the last one of `path` must have been meant: of a short one, half the letters agree by chance.
fn nearest<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let most = MOST_TYPOS.min(name.chars().count() / 2);
    let (typos, nearest) = known
        .map(|known| (strsim::damerau_levenshtein(known, path), known))
        .min_by_key(|(typos, _)| *typos)?;
    (typos <= most).then_some(nearest)
}

/// A key, and if it is one of several nodes, upstreams or devices, its place in the list and what starts the paths of a single one, because the
/// keys of each of several are those of one.
fn of_one(path: &str) -> (String, &'static str, String) {
    let found = LISTS.into_iter().find_map(|(list, one)| {
        let rest = path.strip_prefix(list)?.strip_prefix('.')?;
        let (index, key) = rest.split_once('.')?;
        Some((index, key, list, one))
    });
    match found {
        Some((index, key, list, one)) => (format!("{list}.{index}."), one, format!("{one}.{key}")),
        None => (String::new(), "", path.to_owned()),
    }
}

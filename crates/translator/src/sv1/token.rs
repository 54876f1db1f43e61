//! JSON tokens as they stand on the line, and what can be read from them.

use std::borrow::Cow;

use adit_channel::prints;
use adit_units::Difficulty;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The most bytes of a name that are kept.
pub(super) const TEXT_MAX: usize = 255;

/// How many parameters are looked at; no method has more.
const ITEMS: usize = 8;

/// The first items of a list, each as its token.
#[derive(Debug, Default)]
pub(super) struct Items<'a>([Option<&'a str>; ITEMS]);

impl<'a> Items<'a> {
    /// The items of a list; a single value is a list of itself, and nothing, null and objects are empty.
    pub(super) fn of(token: Option<&'a str>) -> Self {
        let Some(token) = token else {
            return Self::default();
        };
        match token.as_bytes().first() {
            Some(b'[') => serde_json::from_str(token).unwrap_or_default(),
            Some(b'{' | b'n') | None => Self::default(),
            Some(_) => {
                let mut items = Self::default();
                if let Some(slot) = items.0.first_mut() {
                    *slot = Some(token);
                }
                items
            }
        }
    }

    /// The token at a position, unless it is null.
    pub(super) fn at(&self, position: usize) -> Option<&'a str> {
        self.0.get(position).copied().flatten().filter(|&token| token != "null")
    }

    /// All that are there.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().copied().flatten()
    }
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

/// Takes the tokens without copying them.
struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<'de>, A::Error> {
        let mut items = Items::default();
        for slot in &mut items.0 {
            let Some(token) = list.next_element::<&RawValue>()? else {
                return Ok(items);
            };
            *slot = Some(token.get());
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

/// The text of a string, the digits of a number; lists, objects and null are empty.
pub(crate) fn text(token: &str) -> Cow<'_, str> {
    match token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        Some(_) => Cow::Owned(serde_json::from_str(token).unwrap_or_default()),
        None if token == "null" || token.starts_with(['[', '{']) => Cow::Borrowed(""),
        None => Cow::Borrowed(token),
    }
}

/// The text of a token that is shown or stored: printable, without space around it, at most [`TEXT_MAX`] bytes.
pub(super) fn name(token: &str) -> Cow<'_, str> {
    let plain = |text: &str| {
        let bytes = text.as_bytes();
        let ends_bare = !bytes.starts_with(b" ") && !bytes.ends_with(b" ");
        ends_bare && bytes.len() <= TEXT_MAX && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
    };
    match text(token) {
        found if plain(&found) => found,
        found => Cow::Owned(cleaned(&found)),
    }
}

/// Text without what does not print, without space around it, cut between two characters.
fn cleaned(text: &str) -> String {
    let printable: String = text.chars().filter(|&character| prints(character)).collect();
    let bare = printable.trim();
    bare.get(..bare.floor_char_boundary(TEXT_MAX)).unwrap_or_default().trim_end().to_owned()
}

/// A difficulty as a number or as text.
pub(crate) fn difficulty(token: &str) -> Option<Difficulty> {
    text(token).parse().ok()
}

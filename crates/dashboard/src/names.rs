//! Names that strangers chose, made harmless for whoever reads them.

use std::borrow::Cow;

use adit_channel::prints;

/// Most bytes of a name that are shown.
pub const PLAIN_MAX: usize = 128;

/// Most characters of a name in a label of a metric.
pub const LABEL_MAX: usize = 64;

/// A name for people: what would move a cursor, break a line, turn the direction of writing or hide is replaced by `U+FFFD`, and what is longer
/// than [`PLAIN_MAX`] bytes is cut.
#[must_use]
pub fn plain(name: &str) -> Cow<'_, str> {
    if name.len() <= PLAIN_MAX && name.chars().all(shows) {
        return Cow::Borrowed(name);
    }
    let mut shown = String::with_capacity(PLAIN_MAX);
    for character in name.chars() {
        let character = if shows(character) { character } else { char::REPLACEMENT_CHARACTER };
        if shown.len() + character.len_utf8() > PLAIN_MAX {
            break;
        }
        shown.push(character);
    }
    Cow::Owned(shown)
}

/// A name for a machine that reads metrics: as it is if it has only letters, digits, dots, dashes and underscores of ASCII and is not longer than
/// [`LABEL_MAX`], otherwise `0x` and the beginning of its bytes in hexadecimal.
#[must_use]
pub fn label(name: &str) -> Cow<'_, str> {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() <= LABEL_MAX && name.bytes().all(is_safe) {
        return Cow::Borrowed(name);
    }
    let mut hex = String::with_capacity(LABEL_MAX);
    hex.push_str("0x");
    hex.extend(name.bytes().take(LABEL_MAX / 2 - 1).flat_map(digits));
    Cow::Owned(hex)
}

/// Bytes in lowercase hexadecimal.
pub(crate) fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().flat_map(digits).collect()
}

fn digits(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'))
}

/// Whether a character takes a place of its own, or belongs to one that does, wherever it is printed.
fn shows(character: char) -> bool {
    let hides = matches!(
        character,
        '\u{ad}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    prints(character) && !hides
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["", "alice.rig-1", "élan", "鉱山 7", "a\"b</script>"] {
            assert!(matches!(plain(name), Cow::Borrowed(same) if same == name), "{name}");
        }
        assert_eq!(label("bc1qexample.rig_1"), "bc1qexample.rig_1");
        assert_eq!(label(""), "");
    }

    #[test]
    fn what_would_do_something_is_replaced() {
        assert_eq!(
            plain("a\x1b[2Jb\r\nc\0\u{202e}d\u{200b}\u{7f}\u{9b}"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}\u{fffd}d\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(label("a b"), "0x612062");
        assert_eq!(label("é"), "0xc3a9");
        assert_eq!(label(&"a".repeat(65)).len(), LABEL_MAX);
        assert_eq!(hex([0, 0x1f, 0xff]), "001fff");
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_it_may_be(name in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
            prop_assert!(plain(&name).len() <= PLAIN_MAX);
            prop_assert!(plain(&name).chars().all(shows));
            let label = label(&name);
            prop_assert!(label.len() <= LABEL_MAX);
            prop_assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        }
    }
}

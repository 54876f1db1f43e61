//! JSON that stays JSON wherever it is pasted: ASCII only, and without the characters that mean something in HTML.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes a value; what a reader of JSON gets is the value, unchanged.
///
/// # Errors
///
/// If the value has a form that JSON does not know, such as a map whose keys are no strings.
pub(crate) fn write(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii))?;
    Ok(bytes)
}

/// Writes as the compact form does, with more characters escaped.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_escaped) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = from.chars();
            let mut units = [0; 2];
            for unit in
                characters.next().into_iter().flat_map(|found| found.encode_utf16(&mut units).to_vec())
            {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Beyond what JSON itself asks for.
fn is_escaped(character: char) -> bool {
    !character.is_ascii() || matches!(character, '<' | '>' | '&' | '\'' | '\x7f')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_something_elsewhere_is_escaped() {
        let bytes = write(&"</script>&'\u{2028}\u{1f600}\x1b\"é").unwrap();
        let text = r#""\u003c/script\u003e\u0026\u0027\u2028\ud83d\ude00\u001b\"\u00e9""#;
        assert_eq!(core::str::from_utf8(&bytes).unwrap(), text);
    }

    proptest! {
        #[test]
        fn every_string_comes_back(text in any::<String>()) {
            let bytes = write(&text).unwrap();
            prop_assert!(bytes.iter().all(|byte| (0x20..0x7f).contains(byte) && !b"<>&'".contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        }
    }
}

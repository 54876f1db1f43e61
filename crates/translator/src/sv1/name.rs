//! Short text that is kept without the heap.

use core::ops::Deref;
use core::{fmt, str};

/// A user name, inline unless it is unusually long, so that a share needs no heap.
#[derive(Clone)]
pub struct Name(Store);

/// Room for an address of the longest kind, a point and a worker's name of 31 bytes.
const INLINE: usize = 94;

/// Where the text is.
#[derive(Clone)]
enum Store {
    Inline { bytes: [u8; INLINE], len: u8 },
    Heap(Box<str>),
}

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Store::Inline { bytes, len } => {
                bytes.get(..usize::from(*len)).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
            }
            Store::Heap(text) => text,
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(slots), Ok(len)) => {
                slots.copy_from_slice(text.as_bytes());
                Self(Store::Inline { bytes, len })
            }
            _ => Self(Store::Heap(text.into())),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_text_is_kept() {
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 255, 300] {
            let text = "ä".repeat(len / 2) + &"x".repeat(len % 2);
            let name = Name::from(text.as_str());
            assert_eq!(name.as_str(), text);
            assert_eq!(matches!(name.0, Store::Inline { .. }), len <= INLINE, "{len}");
        }
    }
}

//! The id of a request, kept as the machine wrote it.

use core::{fmt, str};

/// A JSON number, text, truth value or null, echoed byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    /// Zero behind the token, so that equal ids are equal bytes.
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl Id {
    /// The most bytes of an id, quotation marks included.
    pub const MAX_LEN: usize = 64;

    /// The id of messages that belong to no request.
    pub const NULL: Self = {
        let mut bytes = [0; Self::MAX_LEN];
        let (start, _) = bytes.split_at_mut(4);
        start.copy_from_slice(b"null");
        Self { bytes, len: 4 }
    };

    /// A JSON token as it is; nothing if it is a list or an object, or longer than [`Self::MAX_LEN`].
    pub(crate) fn from_token(token: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX_LEN];
        if token.starts_with(['[', '{']) {
            return None;
        }
        bytes.get_mut(..token.len())?.copy_from_slice(token.as_bytes());
        Some(Self { bytes, len: u8::try_from(token.len()).ok()? })
    }

    /// An id of ours.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self::from_token(&number.to_string()).unwrap_or(Self::NULL)
    }

    /// The number, if it is one, or text that is one.
    #[must_use]
    pub fn to_number(&self) -> Option<u64> {
        self.as_str().trim_matches('"').parse().ok()
    }

    /// The token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len));
        bytes.and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("null")
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.as_str())
    }
}

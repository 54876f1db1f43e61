//! Who a share is credited to: the account and worker that a miner names, as checked text.

use core::{fmt, str};
use std::sync::Arc;

/// The `user_identity` of a channel (spec 5.3.2), checked to be text that is safe to store and to show.
///
/// The part before the first `.` names the account that is paid, the part behind it a worker of that account. Nobody has proved
/// to be who the text says: it decides where credit goes and nothing else. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserIdentity(Arc<str>);

/// Text from a peer that cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The peer sent more bytes than the field may hold.
    #[error("name is {len} bytes long, the limit is {max}: shorten the user name in the miner's settings")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The peer sent bytes that are not UTF-8.
    #[error("name is not UTF-8 text: use plain letters and digits in the miner's settings")]
    NotUtf8,
    /// The peer sent a character that has no place in a name.
    #[error("name contains the character U+{0:04X}, which does not print: remove it in the miner's settings")]
    NotPrintable(u32),
}

impl UserIdentity {
    /// The most bytes a `user_identity` may have (`STR0_255`).
    pub const MAX_LEN: usize = 255;

    /// Checks the bytes of the message field; an empty field is an identity with an empty account.
    ///
    /// # Errors
    ///
    /// The peer is at fault if there are more than [`Self::MAX_LEN`] bytes, if they are not UTF-8, or if a character does not
    /// print.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        checked_name(bytes, Self::MAX_LEN).map(|text| Self(text.into()))
    }

    /// The whole text as the miner sent it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that names who is paid: all up to the first `.`, without space around it.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(account, _)| account).trim()
    }

    /// The part that names the device: all behind the first `.`, without space around it, if there is one and something follows it.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, worker)| worker.trim()).filter(|worker| !worker.is_empty())
    }
}

impl fmt::Display for UserIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserIdentity({:?})", &*self.0)
    }
}

/// The worker that a single share came from (`user_identity` TLV of extension 0x0002), kept inline so that a share needs no heap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName {
    /// Zero behind the name, so that equal names are equal bytes.
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl WorkerName {
    /// The most bytes a worker's name may have (extension 0x0002, section 1.1).
    pub const MAX_LEN: usize = 32;

    /// Checks the value of the TLV.
    ///
    /// # Errors
    ///
    /// The peer is at fault if there are more than [`Self::MAX_LEN`] bytes, if they are not UTF-8, or if a character does not
    /// print.
    pub fn from_wire(value: &[u8]) -> Result<Self, NameError> {
        let text = checked_name(value, Self::MAX_LEN)?;
        let mut bytes = [0; Self::MAX_LEN];
        for (slot, &byte) in bytes.iter_mut().zip(text.as_bytes()) {
            *slot = byte;
        }
        let len = u8::try_from(text.len()).map_err(|_| too_long(value, Self::MAX_LEN))?;
        Ok(Self { bytes, len })
    }

    /// The name as the miner sent it.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "cannot happen: the bytes were text when the name was made"
    )]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len)).and_then(|bytes| str::from_utf8(bytes).ok());
        text.expect("the bytes were text when the name was made")
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerName({:?})", self.as_str())
    }
}

/// The bytes as text, if they can be a name of at most `max` bytes.
fn checked_name(bytes: &[u8], max: usize) -> Result<&str, NameError> {
    if bytes.len() > max {
        return Err(too_long(bytes, max));
    }
    let text = str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    match text.chars().find(|&character| !prints(character)) {
        Some(character) => Err(NameError::NotPrintable(character.into())),
        None => Ok(text),
    }
}

/// The refusal of a name that does not fit its field.
fn too_long(bytes: &[u8], max: usize) -> NameError {
    NameError::TooLong { len: bytes.len(), max }
}

/// Whether a character may stand in a name or in a log: controls, line breaks and marks that turn the direction of writing make one name look
/// like another, or break the log that it is written to.
#[must_use]
pub fn prints(character: char) -> bool {
    let breaks = matches!(character, '\u{2028}' | '\u{2029}');
    let turns = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !breaks && !turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn account_and_worker_part_at_the_first_dot() {
        for (text, account, worker) in [
            ("", "", None),
            ("alice", "alice", None),
            ("alice.", "alice", None),
            ("alice.rig1", "alice", Some("rig1")),
            ("alice.rig.2", "alice", Some("rig.2")),
            (".rig", "", Some("rig")),
            ("élan.ß", "élan", Some("ß")),
        ] {
            let user = UserIdentity::from_wire(text.as_bytes()).unwrap();
            assert_eq!((user.as_str(), user.account(), user.worker()), (text, account, worker));
        }
    }

    #[test]
    fn what_does_not_print_is_refused() {
        for (bytes, why) in [
            (&b"a\0b"[..], NameError::NotPrintable(0)),
            (b"a\r\nSet-Cookie", NameError::NotPrintable(0x0d)),
            (b"\x1b[31m", NameError::NotPrintable(0x1b)),
            (b"\x7f", NameError::NotPrintable(0x7f)),
            ("\u{85}".as_bytes(), NameError::NotPrintable(0x85)),
            ("a\u{202e}b".as_bytes(), NameError::NotPrintable(0x202e)),
            ("\u{2066}".as_bytes(), NameError::NotPrintable(0x2066)),
            (b"\xff", NameError::NotUtf8),
            (b"\xc3", NameError::NotUtf8),
        ] {
            assert_eq!(UserIdentity::from_wire(bytes), Err(why));
            assert_eq!(WorkerName::from_wire(bytes), Err(why));
        }
    }

    #[test]
    fn lengths_at_the_limits() {
        assert!(UserIdentity::from_wire(&[b'a'; 255]).is_ok());
        assert_eq!(UserIdentity::from_wire(&[b'a'; 256]), Err(NameError::TooLong { len: 256, max: 255 }));
        assert_eq!(WorkerName::from_wire(&[b'a'; 32]).unwrap().as_str(), "a".repeat(32));
        assert_eq!(WorkerName::from_wire(&[b'a'; 33]), Err(NameError::TooLong { len: 33, max: 32 }));
    }

    proptest! {
        #[test]
        fn any_accepted_name_is_kept_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(user) = UserIdentity::from_wire(&bytes) {
                prop_assert_eq!(user.as_str().as_bytes(), &bytes);
            }
            if let Ok(worker) = WorkerName::from_wire(&bytes) {
                prop_assert_eq!(worker.as_str().as_bytes(), &bytes);
            }
        }

        #[test]
        fn ordinary_names_are_accepted(text in "[ -~]{0,32}") {
            let user = UserIdentity::from_wire(text.as_bytes()).unwrap();
            prop_assert_eq!(user.as_str(), &text);
            let worker = WorkerName::from_wire(text.as_bytes()).unwrap();
            prop_assert_eq!(worker.as_str(), &text);
        }
    }
}

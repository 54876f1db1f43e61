//! The first bytes of a connection as a header of the PROXY protocol: as a whole, in every part, and with more behind it.

use adit_translator::proxy::{self, Parsed};

/// The bytes as the beginning of a connection.
///
/// # Panics
///
/// If the pieces in which they arrive make a difference, or a header exceeds its limits.
pub fn run(bytes: &[u8]) {
    let whole = proxy::parse(bytes);
    if let Parsed::Header { length, .. } = whole {
        assert!(length <= bytes.len() && length <= proxy::V1_MAX.max(proxy::V2_MAX), "{length} bytes");
        let header = bytes.get(..length).unwrap_or_default();
        assert_eq!(proxy::parse(header), whole, "what follows a header changes it");
    }
    // Beyond its first bytes nothing changes what it is.
    for end in 0..bytes.len().min(proxy::V2_MAX + 1) {
        let part = proxy::parse(bytes.get(..end).unwrap_or_default());
        match part {
            Parsed::NeedsMore => assert!(end < proxy::V2_MAX, "more than {end} bytes are asked for"),
            Parsed::Header { .. } | Parsed::Malformed => assert_eq!(part, whole, "at {end} bytes"),
        }
    }
}

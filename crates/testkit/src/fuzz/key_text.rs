//! Keys and key files as text: what is read is written back as it was, and everything else is refused.

use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};

/// The text as each kind of key and key file.
///
/// # Panics
///
/// If something is read that is written differently.
pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = text.parse::<AuthorityPublicKey>() {
        assert_eq!(key.to_string(), text);
        assert_eq!(AuthorityPublicKey::from_bytes(key.to_bytes()), Ok(key));
    }
    if let Ok(pair) = AuthorityKeyPair::from_secret_text(text) {
        assert_eq!(pair.secret_text().as_str(), text);
    }
    if let Ok(pair) = StaticKeyPair::from_secret_text(text) {
        assert_eq!(pair.secret_text().as_str(), text);
    }
    if let Ok(pair) = AuthorityKeyPair::from_text(text) {
        let again = AuthorityKeyPair::from_text(&pair.to_text()).expect("what was written can be read");
        assert_eq!(again.public_key(), pair.public_key());
    }
    if let Ok(identity) = Identity::from_text(text) {
        let again = Identity::from_text(&identity.to_text()).expect("what was written can be read");
        assert_eq!(again.certificate(), identity.certificate());
        assert_eq!(again.to_text(), identity.to_text());
    }
}

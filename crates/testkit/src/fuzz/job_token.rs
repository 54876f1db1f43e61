//! Tokens of job declaration: what can be opened is, byte for byte, what is sealed for it.

use adit_channel::{Token, TokenError, TokenKey};
use adit_units::UnixTime;
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};

/// A key that everybody knows, as its file says it.
const KEY: &str = "format: adit-token-key-1\ntoken-key: 46WPtSJH9Mc1rNbRaWo6k2v6Bm8dc1FuCFxS2n6gFo7M27Ucu\n";

/// The same.
const KEY_BYTES: [u8; 32] = [7; 32];

/// The bytes as a token, with a good MAC behind them as one whose body is reached, and as a key file.
///
/// # Panics
///
/// If something is read that is written differently, or if what was opened is still opened with a bit flipped.
pub fn run(bytes: &[u8]) {
    let key = TokenKey::from_text(KEY).expect("this is a key file");
    check_token(&key, bytes);
    check_token(&key, &[bytes, &mac(bytes)].concat());
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(read) = TokenKey::from_text(text) {
        let again = TokenKey::from_text(&read.to_text()).expect("what was written can be read");
        assert_eq!(again.to_text(), read.to_text());
    }
}

/// Opens the bytes with that key.
fn check_token(key: &TokenKey, bytes: &[u8]) {
    let now = UnixTime::from_millis(0);
    let Ok(token) = key.open(bytes, now) else { return };
    assert!(bytes.len() <= Token::LEN_MAX);
    assert_eq!(key.seal(&token), bytes);
    assert_eq!(key.open(bytes, token.expires), Err(TokenError::Expired));
    for bit in 0..8 {
        // Another place for each token, as all of them would take too long.
        let place = usize::from(token.id[0]) % bytes.len();
        let mut forged = bytes.to_vec();
        forged[place] ^= 1 << bit;
        assert_eq!(key.open(&forged, now), Err(TokenError::Forged));
    }
}

/// The MAC that makes a token of a body.
fn mac(body: &[u8]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(&KEY_BYTES);
    engine.input(b"adit job declaration token");
    engine.input(body);
    Hmac::from_engine(engine).to_byte_array()
}

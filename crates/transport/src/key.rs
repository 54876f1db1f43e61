//! The two key pairs behind a server: the authority's, which miners pin, and the server's own, which the authority certifies.

use core::fmt;
use core::str::FromStr;

use bitcoin::secp256k1::XOnlyPublicKey;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::curve;
use crate::noise::EncodedKey;
use crate::secret::Secret;

/// What stands before an authority's public key in its text form: a version, little-endian (spec 4.7).
const PUBLIC_KEY_PREFIX: [u8; 2] = [1, 0];

/// No key's text is longer; decoding base58 takes time with the square of the length.
const KEY_TEXT_MAX: usize = 64;

/// Why a text or some bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A character is wrong or missing.
    #[error("not a base58check text: a character is wrong, missing or too many; copy the key again")]
    NotBase58Check,
    /// The text is sound but holds something else.
    #[error("the text holds {found} bytes where this kind of key has {expected}; is it another kind of key?")]
    Length {
        /// Bytes in such a key, with its prefix.
        expected: usize,
        /// Bytes in this one.
        found: usize,
    },
    /// A key of a later version of the protocol.
    #[error("the key has version {found}, and only version 1 is known; update this program")]
    Version {
        /// The version in the key.
        found: u16,
    },
    /// The bytes are no point of the curve, or no secret key.
    #[error("the bytes are no key of secp256k1")]
    NotOnCurve,
}

impl From<curve::NotASecretKey> for KeyError {
    fn from(curve::NotASecretKey: curve::NotASecretKey) -> Self {
        Self::NotOnCurve
    }
}

/// The key that a miner pins in its pool's address, by which it knows the pool's servers (spec 4.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityPublicKey(XOnlyPublicKey);

impl AuthorityPublicKey {
    /// Length of [`Self::to_bytes`].
    pub const LEN: usize = 32;

    /// The key with that x coordinate (BIP 340).
    ///
    /// # Errors
    ///
    /// If the curve has no such point.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Result<Self, KeyError> {
        XOnlyPublicKey::from_slice(&bytes).map(Self).map_err(|_| KeyError::NotOnCurve)
    }

    /// The x coordinate (BIP 340).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        self.0.serialize()
    }

    /// Whether this authority has signed that hash.
    pub(crate) fn has_signed(&self, hash: [u8; 32], signature: &[u8; 64]) -> bool {
        curve::verify(&self.0, hash, signature)
    }
}

/// As it stands in a pool's address: base58check with the prefix `[1, 0]` (spec 4.7).
impl fmt::Display for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = PUBLIC_KEY_PREFIX.to_vec();
        bytes.extend_from_slice(&self.to_bytes());
        base58ck::encode_check_to_fmt(f, &bytes)
    }
}

impl fmt::Debug for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AuthorityPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_text(text)?;
        let expected = PUBLIC_KEY_PREFIX.len() + Self::LEN;
        let length = KeyError::Length { expected, found: bytes.len() };
        let (version, key) = bytes.split_first_chunk().ok_or(length)?;
        let key = <[u8; Self::LEN]>::try_from(key).map_err(|_| length)?;
        if *version != PUBLIC_KEY_PREFIX {
            return Err(KeyError::Version { found: u16::from_le_bytes(*version) });
        }
        Self::from_bytes(key)
    }
}

/// The key pair that certifies servers; it need not, and should not, be on a server.
///
/// Its text form is `AuthorityKeyPair::to_text`, for a file of its own.
#[derive(Clone)]
pub struct AuthorityKeyPair {
    secret: Secret<32>,
    public: AuthorityPublicKey,
}

impl AuthorityKeyPair {
    /// A new key pair.
    ///
    /// # Panics
    ///
    /// If the generator is broken: it gives eight times in a row what is no key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let secret = curve::random_secret(rng);
        let public = curve::public_key(&secret).expect("a drawn secret is a key");
        Self { secret, public: AuthorityPublicKey(public) }
    }

    /// Reads a secret key as other SV2 software writes it: base58check of its 32 bytes.
    ///
    /// # Errors
    ///
    /// If the text holds no secret key.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let secret = decode_secret(text)?;
        let public = AuthorityPublicKey(curve::public_key(&secret)?);
        Ok(Self { secret, public })
    }

    /// The secret key as other SV2 software writes it.
    #[must_use]
    pub fn secret_text(&self) -> Zeroizing<String> {
        encode_secret(&self.secret)
    }

    /// What miners pin.
    #[must_use]
    pub fn public_key(&self) -> AuthorityPublicKey {
        self.public
    }

    /// Signs a hash.
    pub(crate) fn sign(&self, hash: [u8; 32]) -> [u8; 64] {
        curve::sign(&self.secret, hash).expect("a key pair holds a secret key")
    }
}

/// Tells the public key only.
impl fmt::Debug for AuthorityKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityKeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The x coordinate of a server's own key, which its certificate is about (spec 4.5.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StaticPublicKey(XOnlyPublicKey);

impl StaticPublicKey {
    /// The x coordinate (BIP 340).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.serialize()
    }

    /// The key that an encoding received in a handshake stands for.
    pub(crate) fn from_encoding(encoding: &[u8; curve::ENCODING_LEN]) -> Self {
        Self(curve::decode(encoding))
    }
}

/// In hexadecimal, as x-only keys are usually written.
impl fmt::Display for StaticPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Debug for StaticPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server's own key pair, with the encoding it shows in every handshake made once.
#[derive(Clone)]
pub struct StaticKeyPair {
    key: EncodedKey,
    public: StaticPublicKey,
}

impl StaticKeyPair {
    /// A new key pair.
    ///
    /// # Panics
    ///
    /// If the generator is broken: it gives eight times in a row what is no key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::from_secret(&curve::random_secret(rng)).expect("a drawn secret is a key")
    }

    /// Reads a secret key: base58check of its 32 bytes.
    ///
    /// # Errors
    ///
    /// If the text holds no secret key.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        Self::from_secret(&decode_secret(text)?)
    }

    /// The secret key: base58check of its 32 bytes.
    #[must_use]
    pub fn secret_text(&self) -> Zeroizing<String> {
        encode_secret(&self.key.secret())
    }

    /// What a certificate says of this key.
    #[must_use]
    pub fn public_key(&self) -> StaticPublicKey {
        self.public
    }

    /// The key as a handshake uses it.
    pub(crate) fn encoded(&self) -> &EncodedKey {
        &self.key
    }

    /// The encoding is sent encrypted and always the same, so its choice needs no entropy.
    fn from_secret(secret: &Secret<32>) -> Result<Self, KeyError> {
        Self::from_encoded(EncodedKey::encode(secret, None)?)
    }

    /// The key pair with an encoding that was chosen elsewhere.
    pub(crate) fn from_encoded(key: EncodedKey) -> Result<Self, KeyError> {
        let public = StaticPublicKey(curve::public_key(&key.secret())?);
        Ok(Self { key, public })
    }
}

/// Tells the public key only.
impl fmt::Debug for StaticKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The bytes of a base58check text of a key's length.
fn decode_text(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if text.len() > KEY_TEXT_MAX {
        return Err(KeyError::NotBase58Check);
    }
    base58ck::decode_check(text).map(Zeroizing::new).map_err(|_| KeyError::NotBase58Check)
}

pub(crate) fn decode_secret(text: &str) -> Result<Secret<32>, KeyError> {
    let bytes = decode_text(text)?;
    let mut secret = Secret::zero();
    if bytes.len() != secret.expose().len() {
        return Err(KeyError::Length { expected: secret.expose().len(), found: bytes.len() });
    }
    secret.expose_mut().copy_from_slice(&bytes);
    Ok(secret)
}

pub(crate) fn encode_secret(secret: &Secret<32>) -> Zeroizing<String> {
    let mut bytes = *secret.expose();
    let text = base58ck::encode_check(&bytes);
    bytes.zeroize();
    Zeroizing::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    const SPEC_KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    const SRI_PUBLIC: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
    const SRI_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

    #[test]
    fn the_sample_pair_of_other_software_belongs_together() {
        let authority = AuthorityKeyPair::from_secret_text(SRI_SECRET).unwrap();
        assert_eq!(authority.public_key().to_string(), SRI_PUBLIC);
        assert_eq!(authority.secret_text().as_str(), SRI_SECRET);
    }

    #[test]
    fn keys_survive_their_texts() {
        let mut rng = TestRng::new(1);
        let authority = AuthorityKeyPair::generate(&mut rng);
        let public = authority.public_key();
        assert_eq!(public.to_string().parse(), Ok(public));
        let again = AuthorityKeyPair::from_secret_text(&authority.secret_text()).unwrap();
        assert_eq!(again.public_key(), public);
        let server = StaticKeyPair::generate(&mut rng);
        let again = StaticKeyPair::from_secret_text(&server.secret_text()).unwrap();
        assert_eq!(again.public_key(), server.public_key());
        assert_eq!(again.encoded().encoding(), server.encoded().encoding());
        assert_ne!(server.public_key().to_bytes(), public.to_bytes());
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        let parse = |text: &str| text.parse::<AuthorityPublicKey>();
        for text in ["", "1", "0OIl", &SPEC_KEY[1..], &"1".repeat(65), &"z".repeat(100_000), "9bXiéd8"] {
            assert_eq!(parse(text), Err(KeyError::NotBase58Check), "{text}");
            assert_eq!(AuthorityKeyPair::from_secret_text(text).unwrap_err(), KeyError::NotBase58Check);
        }
        assert_eq!(parse(SRI_SECRET), Err(KeyError::Length { expected: 34, found: 32 }));
        let swapped = AuthorityKeyPair::from_secret_text(SRI_PUBLIC).unwrap_err();
        assert_eq!(swapped, KeyError::Length { expected: 32, found: 34 });
        let with_prefix =
            |prefix: [u8; 2], key: [u8; 32]| base58ck::encode_check(&[&prefix[..], &key].concat());
        assert_eq!(parse(&with_prefix([2, 0], [1; 32])), Err(KeyError::Version { found: 2 }));
        assert_eq!(parse(&with_prefix([1, 0], [0xff; 32])), Err(KeyError::NotOnCurve));
        let zero = base58ck::encode_check(&[0; 32]);
        assert_eq!(StaticKeyPair::from_secret_text(&zero).unwrap_err(), KeyError::NotOnCurve);
        assert_eq!(parse(&base58ck::encode_check(&[1])), Err(KeyError::Length { expected: 34, found: 1 }));
    }

    #[test]
    fn secrets_are_not_printed() {
        let authority = AuthorityKeyPair::from_secret_text(SRI_SECRET).unwrap();
        assert_eq!(format!("{authority:?}"), format!("AuthorityKeyPair {{ public: {SRI_PUBLIC}, .. }}"));
        let server = StaticKeyPair::from_secret_text(SRI_SECRET).unwrap();
        assert_eq!(format!("{server:?}"), format!("StaticKeyPair {{ public: {}, .. }}", server.public_key()));
    }
}

//! The primitives that the Noise engine calls: our key agreement, ring's cipher and ring's hash.

use core::mem;

use noise_protocol::patterns::noise_nx;
use noise_protocol::{Cipher, DH, HandshakeState, Hash, U8Array};
use ring::aead::{Aad, Tag};
use ring::digest::{Context, SHA256};

use crate::cipher::{MAC_LEN, noise_nonce, ring_key};
use crate::curve::{self, ENCODING_LEN, NotASecretKey, Party};
use crate::secret::Secret;

/// The engine for one side of `Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256`.
pub(crate) type Engine<const INITIATOR: bool> = HandshakeState<EllSwift<INITIATOR>, ChaChaPoly, Sha256>;

/// Starts the pattern with our keys; the prologue is empty (spec 4.5.1).
pub(crate) fn engine<const INITIATOR: bool>(
    static_key: Option<EncodedKey>,
    ephemeral: EncodedKey,
) -> Engine<INITIATOR> {
    HandshakeState::new(noise_nx(), INITIATOR, [], static_key, Some(ephemeral), None, None)
}

/// The keys of both directions once the pattern is complete: initiator to responder, responder to initiator.
pub(crate) fn split<const INITIATOR: bool>(engine: &Engine<INITIATOR>) -> (Secret<32>, Secret<32>) {
    let (from_initiator, from_responder) = engine.get_ciphers();
    (from_initiator.extract().0, from_responder.extract().0)
}

/// A secret key with the encoding of its public key, made once: encoding costs as much as an agreement.
#[derive(Clone)]
pub(crate) struct EncodedKey(Secret<{ 32 + ENCODING_LEN }>);

impl EncodedKey {
    /// Encodes the public key; `entropy` chooses the encoding.
    pub(crate) fn encode(secret: &Secret<32>, entropy: Option<[u8; 32]>) -> Result<Self, NotASecretKey> {
        let encoding = curve::encode(secret, entropy)?;
        Ok(Self::from_parts(secret, &encoding))
    }

    /// Puts together a key and an encoding of it.
    pub(crate) fn from_parts(secret: &Secret<32>, encoding: &[u8; ENCODING_LEN]) -> Self {
        let mut key = Secret::zero();
        let (first, second) = key.expose_mut().split_at_mut(32);
        first.copy_from_slice(secret.expose());
        second.copy_from_slice(encoding);
        Self(key)
    }

    /// The secret key.
    pub(crate) fn secret(&self) -> Secret<32> {
        Secret::new(*self.0.expose().first_chunk().expect("an encoded key starts with its secret"))
    }

    /// The encoding of the public key.
    pub(crate) fn encoding(&self) -> [u8; ENCODING_LEN] {
        *self.0.expose().last_chunk().expect("an encoded key ends with its encoding")
    }
}

/// As one array, which is the form that the engine carries keys in.
impl U8Array for EncodedKey {
    fn new() -> Self {
        Self(Secret::zero())
    }

    fn new_with(byte: u8) -> Self {
        Self(Secret::new_with(byte))
    }

    fn from_slice(bytes: &[u8]) -> Self {
        Self(Secret::from_slice(bytes))
    }

    fn len() -> usize {
        32 + ENCODING_LEN
    }

    fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn as_mut(&mut self) -> &mut [u8] {
        U8Array::as_mut(&mut self.0)
    }
}

/// Key agreement for one side; the engine's functions have no receiver, so the side is part of the type.
pub(crate) struct EllSwift<const INITIATOR: bool>;

impl<const INITIATOR: bool> DH for EllSwift<INITIATOR> {
    type Key = EncodedKey;
    type Pubkey = [u8; ENCODING_LEN];
    type Output = Secret<32>;

    fn name() -> &'static str {
        "Secp256k1+EllSwift"
    }

    /// Randomness is an argument of the handshake, so the engine always has its ephemeral key and asks for none; if it did, this
    /// key would make every agreement fail.
    fn genkey() -> EncodedKey {
        U8Array::new()
    }

    fn pubkey(key: &EncodedKey) -> [u8; ENCODING_LEN] {
        key.encoding()
    }

    fn dh(key: &EncodedKey, theirs: &[u8; ENCODING_LEN]) -> Result<Secret<32>, ()> {
        let party = if INITIATOR { Party::Initiator } else { Party::Responder };
        curve::agree(party, &key.secret(), &key.encoding(), theirs).map_err(|NotASecretKey| ())
    }
}

/// ChaCha20-Poly1305 for the few blocks of a handshake; later blocks go through [`BlockCipher`](crate::cipher::BlockCipher).
pub(crate) struct ChaChaPoly;

impl Cipher for ChaChaPoly {
    type Key = Secret<32>;

    fn name() -> &'static str {
        "ChaChaPoly"
    }

    fn encrypt(key: &Secret<32>, counter: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) {
        let (text, _) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        Self::encrypt_in_place(key, counter, ad, out, plaintext.len());
    }

    fn encrypt_in_place(
        key: &Secret<32>,
        counter: u64,
        ad: &[u8],
        in_out: &mut [u8],
        plaintext_len: usize,
    ) -> usize {
        let (text, rest) = in_out.split_at_mut(plaintext_len);
        let tag = ring_key(key).seal_in_place_separate_tag(noise_nonce(counter), Aad::from(ad), text);
        let tag = tag.expect("a handshake's block is far below the cipher's limit");
        rest.split_at_mut(MAC_LEN).0.copy_from_slice(tag.as_ref());
        plaintext_len + MAC_LEN
    }

    fn decrypt(
        key: &Secret<32>,
        counter: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<(), ()> {
        let (text, tag) = ciphertext.split_last_chunk::<MAC_LEN>().ok_or(())?;
        out.copy_from_slice(text);
        let opened = ring_key(key).open_in_place_separate_tag(
            noise_nonce(counter),
            Aad::from(ad),
            Tag::from(*tag),
            out,
            0..,
        );
        opened.map(|_| ()).map_err(|_| ())
    }

    fn decrypt_in_place(
        key: &Secret<32>,
        counter: u64,
        ad: &[u8],
        in_out: &mut [u8],
        ciphertext_len: usize,
    ) -> Result<usize, ()> {
        let (sealed, _) = in_out.split_at_mut(ciphertext_len);
        let opened = ring_key(key).open_in_place(noise_nonce(counter), Aad::from(ad), sealed);
        opened.map(|text| text.len()).map_err(|_| ())
    }
}

/// SHA-256 by ring.
pub(crate) struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hash for Sha256 {
    type Block = Secret<64>;
    type Output = Secret<32>;

    fn name() -> &'static str {
        "SHA256"
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self) -> Secret<32> {
        Secret::from_slice(mem::take(self).0.finish().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_randomness_agrees_with_nobody() {
        let theirs = curve::encode(&Secret::new([1; 32]), None).unwrap();
        let key = EllSwift::<true>::genkey();
        assert!(EllSwift::<true>::dh(&key, &theirs).is_err());
    }

    #[test]
    fn a_key_gives_back_its_parts() {
        let secret = Secret::new([0x17; 32]);
        let encoding: Vec<u8> = (0..64).collect();
        let encoding = encoding.try_into().unwrap();
        let key = EncodedKey::from_parts(&secret, &encoding);
        assert_eq!(key.secret().expose(), secret.expose());
        assert_eq!(key.encoding(), encoding);
        assert_eq!(EncodedKey::from_slice(key.as_slice()).as_slice(), key.as_slice());
    }

    #[test]
    fn both_forms_of_the_cipher_agree() {
        let (key, text) = (Secret::new([9; 32]), b"forty-two bytes, more or less");
        let mut sealed = vec![0; text.len() + MAC_LEN];
        ChaChaPoly::encrypt(&key, 5, b"ad", text, &mut sealed);
        let mut in_place = text.to_vec();
        in_place.resize(sealed.len(), 0);
        assert_eq!(ChaChaPoly::encrypt_in_place(&key, 5, b"ad", &mut in_place, text.len()), sealed.len());
        assert_eq!(in_place, sealed);
        let mut out = vec![0; text.len()];
        ChaChaPoly::decrypt(&key, 5, b"ad", &sealed, &mut out).unwrap();
        assert_eq!(out, text);
        assert_eq!(ChaChaPoly::decrypt_in_place(&key, 5, b"ad", &mut in_place, sealed.len()), Ok(text.len()));
        assert_eq!(&in_place[..text.len()], text);
        assert_eq!(ChaChaPoly::decrypt(&key, 6, b"ad", &sealed, &mut out), Err(()));
        assert_eq!(ChaChaPoly::decrypt(&key, 5, b"da", &sealed, &mut out), Err(()));
        assert_eq!(ChaChaPoly::decrypt(&key, 5, b"ad", &[0; 3], &mut []), Err(()));
    }
}

//! secp256k1 as SV2 uses it: ElligatorSwift encodings, x-only key agreement, BIP 340 signatures.

use std::sync::LazyLock;

use bitcoin::secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use bitcoin::secp256k1::{All, Keypair, Message, PublicKey, Secp256k1, SecretKey, XOnlyPublicKey, schnorr};
use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::secret::Secret;

/// Length of an ElligatorSwift encoding (spec 4.3.1.1), in bytes.
pub(crate) const ENCODING_LEN: usize = 64;

/// Random bytes are a secret key but for one in 2^128; a generator that misses this often is broken.
const KEY_TRIES: usize = 8;

/// Making a context costs as much as an encoding, so there is one.
static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The bytes are no secret key: zero, or not below the order of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotASecretKey;

/// A secret key as the curve's library wants it, wiped when it goes.
struct Scalar(SecretKey);

impl Scalar {
    fn new(secret: &[u8; 32]) -> Result<Self, NotASecretKey> {
        SecretKey::from_slice(secret).map(Self).map_err(|_| NotASecretKey)
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// Draws a secret key.
///
/// # Panics
///
/// If the generator is broken: it gives [`KEY_TRIES`] times in a row what is no key.
pub(crate) fn random_secret(rng: &mut impl CryptoRng) -> Secret<32> {
    let mut secret = Secret::zero();
    for _ in 0..KEY_TRIES {
        rng.fill_bytes(secret.expose_mut());
        if Scalar::new(secret.expose()).is_ok() {
            return secret;
        }
    }
    panic!("the random number generator is broken: {KEY_TRIES} times in a row it gave no secret key");
}

/// The x coordinate of the public key (BIP 340).
pub(crate) fn public_key(secret: &Secret<32>) -> Result<XOnlyPublicKey, NotASecretKey> {
    let scalar = Scalar::new(secret.expose())?;
    Ok(scalar.0.x_only_public_key(&SECP).0)
}

/// An encoding of the public key that looks like random bytes; `entropy` chooses among the many there are.
///
/// `ElligatorSwift::new` would be the obvious call, but it aborts the process: it wants a context that the library lacks.
pub(crate) fn encode(
    secret: &Secret<32>,
    entropy: Option<[u8; 32]>,
) -> Result<[u8; ENCODING_LEN], NotASecretKey> {
    let scalar = Scalar::new(secret.expose())?;
    Ok(ElligatorSwift::from_seckey(&SECP, scalar.0, entropy).to_array())
}

/// The x coordinate that an encoding stands for; every 64 bytes are one.
pub(crate) fn decode(encoding: &[u8; ENCODING_LEN]) -> XOnlyPublicKey {
    PublicKey::from_ellswift(ElligatorSwift::from_array(*encoding)).x_only_public_key().0
}

/// One's own part in a key agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Initiator,
    Responder,
}

/// `v2_ecdh` of BIP 324, which is `ECDH` of spec 4.4.2; both sides hash the initiator's encoding first.
pub(crate) fn agree(
    party: Party,
    secret: &Secret<32>,
    ours: &[u8; ENCODING_LEN],
    theirs: &[u8; ENCODING_LEN],
) -> Result<Secret<32>, NotASecretKey> {
    let scalar = Scalar::new(secret.expose())?;
    let (ours, theirs) = (ElligatorSwift::from_array(*ours), ElligatorSwift::from_array(*theirs));
    let shared = match party {
        Party::Initiator => {
            ElligatorSwift::shared_secret(ours, theirs, scalar.0, ElligatorSwiftParty::A, None)
        }
        Party::Responder => {
            ElligatorSwift::shared_secret(theirs, ours, scalar.0, ElligatorSwiftParty::B, None)
        }
    };
    let mut bytes = shared.to_secret_bytes();
    let agreed = Secret::new(bytes);
    bytes.zeroize();
    Ok(agreed)
}

/// A BIP 340 signature of a 32-byte hash; the same one for the same input, so that it can be made again and compared.
pub(crate) fn sign(secret: &Secret<32>, hash: [u8; 32]) -> Result<[u8; 64], NotASecretKey> {
    let scalar = Scalar::new(secret.expose())?;
    let mut keypair = Keypair::from_secret_key(&SECP, &scalar.0);
    let signature = SECP.sign_schnorr_no_aux_rand(&Message::from_digest(hash), &keypair);
    keypair.non_secure_erase();
    Ok(signature.serialize())
}

/// Whether the signature of that hash was made with that key.
pub(crate) fn verify(key: &XOnlyPublicKey, hash: [u8; 32], signature: &[u8; 64]) -> bool {
    let Ok(signature) = schnorr::Signature::from_slice(signature) else {
        return false;
    };
    SECP.verify_schnorr(&signature, &Message::from_digest(hash), key).is_ok()
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash, HashEngine, sha256};
    use bitcoin::secp256k1::ellswift::ElligatorSwiftSharedSecret;

    use super::*;

    /// The order of the curve, which is no secret key; one less is.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
        0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];

    #[test]
    fn what_is_no_secret_key_is_refused_everywhere() {
        let good = encode(&Secret::new([1; 32]), None).unwrap();
        for bad in [[0; 32], ORDER, [0xff; 32]] {
            let bad = Secret::new(bad);
            assert_eq!(public_key(&bad), Err(NotASecretKey));
            assert_eq!(encode(&bad, None), Err(NotASecretKey));
            assert_eq!(agree(Party::Initiator, &bad, &good, &good).unwrap_err(), NotASecretKey);
            assert_eq!(sign(&bad, [0; 32]), Err(NotASecretKey));
        }
        let mut last = ORDER;
        last[31] -= 1;
        assert!(public_key(&Secret::new(last)).is_ok());
    }

    #[test]
    fn an_encoding_stands_for_the_public_key_whatever_the_entropy() {
        let secret = Secret::new([0x42; 32]);
        let expected = public_key(&secret).unwrap();
        let encodings = [None, Some([0; 32]), Some([1; 32])].map(|entropy| encode(&secret, entropy).unwrap());
        assert!(encodings.iter().all(|encoding| decode(encoding) == expected));
        assert!(encodings[1] != encodings[2], "entropy chooses among encodings");
    }

    #[test]
    fn agreement_is_the_tagged_hash_of_the_specification() {
        let (ours, theirs) = (Secret::new([3; 32]), Secret::new([4; 32]));
        let (a, b) = (encode(&ours, None).unwrap(), encode(&theirs, None).unwrap());
        let tag = sha256::Hash::hash(b"bip324_ellswift_xonly_ecdh");
        // The library hands the bare x coordinate to a hash function of the caller's; here it is kept as it is.
        let x = ElligatorSwift::shared_secret_with_hasher(
            ElligatorSwift::from_array(a),
            ElligatorSwift::from_array(b),
            SecretKey::from_slice(ours.expose()).unwrap(),
            ElligatorSwiftParty::A,
            |x, _, _| ElligatorSwiftSharedSecret::from_secret_bytes(x),
        );
        let mut engine = sha256::Hash::engine();
        for part in [tag.as_byte_array(), tag.as_byte_array(), &a[..], &b[..], &x.to_secret_bytes()] {
            engine.input(part);
        }
        let expected = sha256::Hash::from_engine(engine).to_byte_array();
        assert_eq!(agree(Party::Initiator, &ours, &a, &b).unwrap().expose(), &expected);
        assert_eq!(agree(Party::Responder, &theirs, &b, &a).unwrap().expose(), &expected);
        assert_ne!(
            agree(Party::Responder, &ours, &a, &b).unwrap().expose(),
            &expected,
            "the parts are not alike"
        );
    }

    #[test]
    fn any_64_bytes_are_an_encoding_and_a_signature_to_refuse() {
        let key = public_key(&Secret::new([5; 32])).unwrap();
        for byte in 0..=255 {
            decode(&[byte; ENCODING_LEN]);
            assert!(!verify(&key, [byte; 32], &[byte; 64]));
        }
    }

    #[test]
    #[should_panic(expected = "random number generator is broken")]
    fn a_generator_of_zeros_is_noticed() {
        random_secret(&mut crate::test_rng::ConstantRng(0));
    }
}

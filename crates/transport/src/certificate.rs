//! The certificate by which an authority vouches for a server's key: signed once, sent in every handshake (spec 4.5.3).

use adit_units::UnixTime;
use ring::digest::{Context, SHA256};

use crate::key::{AuthorityKeyPair, AuthorityPublicKey, StaticPublicKey};

/// How far two clocks may be apart without anyone being refused, in seconds at each end of a certificate's time.
pub const CLOCK_LEEWAY_SECS: u32 = 10;

/// What a server sends of its certificate, `SIGNATURE_NOISE_MESSAGE` (spec 4.5.2); its key is sent beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The format: 0 in all that we sign, 0 or 1 in what we accept.
    pub version: u16,
    /// When it starts to hold, in seconds since 1970.
    pub valid_from: u32,
    /// When it has ceased to hold, in seconds since 1970.
    pub not_valid_after: u32,
    /// The authority's BIP 340 signature.
    pub signature: [u8; 64],
}

/// Why a server is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A format from the future.
    #[error(
        "the server's certificate has version {version}, and only 0 and 1 are known; update this program"
    )]
    UnknownVersion {
        /// The version in the certificate.
        version: u16,
    },
    /// Somebody else signed it, or it is about another key.
    #[error(
        "the server is not certified by the authority {authority}: the address holds a wrong key, the pool has changed its \
         key, or somebody stands between"
    )]
    WrongAuthority {
        /// The authority that was expected.
        authority: AuthorityPublicKey,
    },
    /// Its time has not come.
    #[error(
        "the server's certificate holds from {valid_from} and now it is {now} (seconds since 1970); check both clocks"
    )]
    NotYetValid {
        /// When it starts to hold, in seconds since 1970.
        valid_from: u32,
        /// The present, in seconds since 1970.
        now: u32,
    },
    /// Its time is over.
    #[error(
        "the server's certificate expired at {not_valid_after} and now it is {now} (seconds since 1970); the server needs a \
         new one"
    )]
    Expired {
        /// When it ceased to hold, in seconds since 1970.
        not_valid_after: u32,
        /// The present, in seconds since 1970.
        now: u32,
    },
}

impl Certificate {
    /// Length of [`Self::to_bytes`].
    pub const LEN: usize = 74;

    /// The format that is signed; the clients in the field accept nothing else.
    pub const VERSION: u16 = 0;

    /// The newest format that is accepted.
    const VERSION_MAX: u16 = 1;

    /// Signs a certificate for a server's key; both times are cut to whole seconds.
    #[must_use]
    pub fn sign(
        authority: &AuthorityKeyPair,
        server: &StaticPublicKey,
        valid_from: UnixTime,
        not_valid_after: UnixTime,
    ) -> Self {
        let unsigned = Self {
            version: Self::VERSION,
            valid_from: valid_from.to_secs(),
            not_valid_after: not_valid_after.to_secs(),
            signature: [0; 64],
        };
        Self { signature: authority.sign(unsigned.signed_hash(server)), ..unsigned }
    }

    /// Checks that the authority vouches with it for that server at that time, give or take [`CLOCK_LEEWAY_SECS`].
    ///
    /// # Errors
    ///
    /// The first reason not to trust the server, in the order of the variants of [`CertificateError`].
    pub fn verify(
        &self,
        server: &StaticPublicKey,
        authority: &AuthorityPublicKey,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        self.verify_version()?;
        if !authority.has_signed(self.signed_hash(server), &self.signature) {
            return Err(CertificateError::WrongAuthority { authority: *authority });
        }
        let (valid_from, not_valid_after, now) = (self.valid_from, self.not_valid_after, now.to_secs());
        if now < valid_from.saturating_sub(CLOCK_LEEWAY_SECS) {
            return Err(CertificateError::NotYetValid { valid_from, now });
        }
        if now > not_valid_after.saturating_add(CLOCK_LEEWAY_SECS) {
            return Err(CertificateError::Expired { not_valid_after, now });
        }
        Ok(())
    }

    /// Checks only that the format is known.
    pub(crate) fn verify_version(&self) -> Result<(), CertificateError> {
        match self.version {
            0..=Self::VERSION_MAX => Ok(()),
            version => Err(CertificateError::UnknownVersion { version }),
        }
    }

    /// As sent: version, both times, signature; numbers little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (fields, signature) = bytes.split_at_mut(Self::LEN - self.signature.len());
        fields.copy_from_slice(&self.signed_fields());
        signature.copy_from_slice(&self.signature);
        bytes
    }

    /// Reads what a server sent; any bytes are a certificate, if not a valid one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [v0, v1, f0, f1, f2, f3, u0, u1, u2, u3, signature @ ..] = *bytes;
        Self {
            version: u16::from_le_bytes([v0, v1]),
            valid_from: u32::from_le_bytes([f0, f1, f2, f3]),
            not_valid_after: u32::from_le_bytes([u0, u1, u2, u3]),
            signature,
        }
    }

    /// The fields before the signature, all of which it covers.
    fn signed_fields(&self) -> [u8; 10] {
        let [v0, v1] = self.version.to_le_bytes();
        let [f0, f1, f2, f3] = self.valid_from.to_le_bytes();
        let [u0, u1, u2, u3] = self.not_valid_after.to_le_bytes();
        [v0, v1, f0, f1, f2, f3, u0, u1, u2, u3]
    }

    /// What the signature is about (spec 4.5.3.1).
    fn signed_hash(&self, server: &StaticPublicKey) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&self.signed_fields());
        context.update(&server.to_bytes());
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::StaticKeyPair;
    use crate::test_rng::TestRng;

    struct Case {
        authority: AuthorityKeyPair,
        server: StaticKeyPair,
        certificate: Certificate,
    }

    /// Valid from second 1000 to second 2000.
    fn case() -> Case {
        let mut rng = TestRng::new(7);
        let (authority, server) = (AuthorityKeyPair::generate(&mut rng), StaticKeyPair::generate(&mut rng));
        let (from, until) = (UnixTime::from_secs(1000), UnixTime::from_secs(2000));
        let certificate = Certificate::sign(&authority, &server.public_key(), from, until);
        Case { authority, server, certificate }
    }

    impl Case {
        fn verify(&self, certificate: &Certificate, now: u32) -> Result<(), CertificateError> {
            let now = UnixTime::from_secs(now);
            certificate.verify(&self.server.public_key(), &self.authority.public_key(), now)
        }

        fn with_times(&self, valid_from: u32, not_valid_after: u32) -> Certificate {
            let (from, until) = (UnixTime::from_secs(valid_from), UnixTime::from_secs(not_valid_after));
            Certificate::sign(&self.authority, &self.server.public_key(), from, until)
        }
    }

    #[test]
    fn it_holds_for_its_time_and_ten_seconds_on_both_sides() {
        let case = case();
        for now in [990, 1000, 1500, 2000, 2010] {
            assert_eq!(case.verify(&case.certificate, now), Ok(()), "{now}");
        }
        for now in [0, 989] {
            let expected = Err(CertificateError::NotYetValid { valid_from: 1000, now });
            assert_eq!(case.verify(&case.certificate, now), expected);
        }
        for now in [2011, u32::MAX] {
            let expected = Err(CertificateError::Expired { not_valid_after: 2000, now });
            assert_eq!(case.verify(&case.certificate, now), expected);
        }
    }

    #[test]
    fn times_at_the_ends_of_the_clock_do_not_wrap() {
        let case = case();
        let always = case.with_times(0, u32::MAX);
        for now in [0, 5, u32::MAX - 1, u32::MAX] {
            assert_eq!(case.verify(&always, now), Ok(()));
        }
        let beyond = UnixTime::from_millis(u64::MAX);
        assert_eq!(always.verify(&case.server.public_key(), &case.authority.public_key(), beyond), Ok(()));
        assert!(case.verify(&case.with_times(5, 5), 0).is_ok());
        assert!(case.verify(&case.with_times(u32::MAX, u32::MAX), u32::MAX - 10).is_ok());
        assert!(case.verify(&case.with_times(u32::MAX, u32::MAX), u32::MAX - 11).is_err());
    }

    #[test]
    fn every_bit_is_covered_by_the_signature() {
        let case = case();
        let bytes = case.certificate.to_bytes();
        assert_eq!(Certificate::from_bytes(&bytes), case.certificate);
        for bit in 0..Certificate::LEN * 8 {
            let mut altered = bytes;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(case.verify(&Certificate::from_bytes(&altered), 1500).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn version_one_is_accepted_if_signed_as_such_and_two_is_not() {
        let case = case();
        let signed_as = |version: u16| {
            let unsigned = Certificate { version, ..case.certificate };
            let hash = unsigned.signed_hash(&case.server.public_key());
            Certificate { signature: case.authority.sign(hash), ..unsigned }
        };
        assert_eq!(case.verify(&signed_as(1), 1500), Ok(()));
        let expected = Err(CertificateError::UnknownVersion { version: 2 });
        assert_eq!(case.verify(&signed_as(2), 1500), expected);
    }

    #[test]
    fn it_is_about_one_server_and_one_authority() {
        let case = case();
        let mut rng = TestRng::new(8);
        let now = UnixTime::from_secs(1500);
        let (own, foreign) = (case.authority.public_key(), AuthorityKeyPair::generate(&mut rng).public_key());
        let other = StaticKeyPair::generate(&mut rng).public_key();
        let refused = |authority| Err(CertificateError::WrongAuthority { authority });
        assert_eq!(case.certificate.verify(&other, &own, now), refused(own));
        assert_eq!(case.certificate.verify(&case.server.public_key(), &foreign, now), refused(foreign));
    }
}

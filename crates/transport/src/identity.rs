//! What a server presents in every handshake: its own key and the authority's certificate for it, made once and shared.

use core::fmt;

use adit_units::UnixTime;

use crate::certificate::{Certificate, CertificateError};
use crate::key::{AuthorityKeyPair, AuthorityPublicKey, StaticKeyPair};

/// A server's key with a certificate for it; shared by all its connections as an `Arc`.
///
/// It holds no secret of the authority, so `adit keys` can make it elsewhere and a server can load it from a file
/// ([`Identity::to_text`]).
#[derive(Clone, Debug)]
pub struct Identity {
    authority: AuthorityPublicKey,
    static_key: StaticKeyPair,
    certificate: Certificate,
}

/// A certificate that would never hold, because it ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a certificate from {valid_from} until {not_valid_after} (seconds since 1970) would never hold; choose a later end"
)]
pub struct ValidityError {
    /// The beginning, in seconds since 1970.
    pub valid_from: u32,
    /// The end, in seconds since 1970.
    pub not_valid_after: u32,
}

impl Identity {
    /// Has the authority certify a server's key for some time.
    ///
    /// # Errors
    ///
    /// If that time ends before it begins.
    pub fn new(
        authority: &AuthorityKeyPair,
        static_key: StaticKeyPair,
        valid_from: UnixTime,
        not_valid_after: UnixTime,
    ) -> Result<Self, ValidityError> {
        let certificate = Certificate::sign(authority, &static_key.public_key(), valid_from, not_valid_after);
        let Certificate { valid_from, not_valid_after, .. } = certificate;
        if not_valid_after < valid_from {
            return Err(ValidityError { valid_from, not_valid_after });
        }
        Ok(Self { authority: authority.public_key(), static_key, certificate })
    }

    /// Puts together what was stored; whether it belongs together is for [`Self::verify`] to say.
    pub(crate) fn from_parts(
        authority: AuthorityPublicKey,
        static_key: StaticKeyPair,
        certificate: Certificate,
    ) -> Self {
        Self { authority, static_key, certificate }
    }

    /// Checks what every client will check: the certificate's signature and its time.
    ///
    /// # Errors
    ///
    /// The reason why clients will refuse this server.
    pub fn verify(&self, now: UnixTime) -> Result<(), CertificateError> {
        self.certificate.verify(&self.static_key.public_key(), &self.authority, now)
    }

    /// The authority whose key miners pin.
    #[must_use]
    pub fn authority(&self) -> AuthorityPublicKey {
        self.authority
    }

    /// The server's own key pair.
    #[must_use]
    pub fn static_key(&self) -> &StaticKeyPair {
        &self.static_key
    }

    /// The certificate, with the time for which it holds.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// One line for a log.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { valid_from, not_valid_after, .. } = self.certificate;
        let server = self.static_key.public_key();
        write!(f, "server {server} certified by {} from {valid_from} until {not_valid_after}", self.authority)
    }
}

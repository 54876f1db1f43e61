//! Key files: a few `name: value` lines that a person can read and copy.
//!
//! Names come in any order, each once, and no others. Empty lines and lines that start with `#` are skipped. What is read is
//! checked: keys must belong to each other and the signature must be the authority's.

use core::fmt::Display;
use core::str::FromStr;

use adit_units::UnixTime;
use bitcoin::hex::{DisplayHex, FromHex};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, CertificateError};
use crate::identity::Identity;
use crate::key::{AuthorityKeyPair, AuthorityPublicKey, StaticKeyPair, decode_secret, encode_secret};
use crate::secret::Secret;

const AUTHORITY_FORMAT: &str = "adit-authority-1";
const IDENTITY_FORMAT: &str = "adit-identity-1";

/// No key file is longer, in bytes.
const KEY_FILE_MAX: usize = 4096;

/// Why a text is no key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Something else was given.
    #[error("a key file has at most {KEY_FILE_MAX} bytes and this one has {length}; is it another file?")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A line without a colon.
    #[error("line {line} is not of the form `name: value`")]
    NotAField {
        /// Its number, from 1.
        line: usize,
    },
    /// A name that does not belong here.
    #[error("line {line} sets `{name}`, which this kind of key file does not have; is it another kind?")]
    UnknownName {
        /// Its number, from 1.
        line: usize,
        /// The name as written.
        name: String,
    },
    /// A name for the second time.
    #[error("line {line} sets `{name}` again")]
    Repeated {
        /// Its number, from 1.
        line: usize,
        /// The name.
        name: &'static str,
    },
    /// A name that must be there.
    #[error("the key file does not set `{name}`")]
    Missing {
        /// The name.
        name: &'static str,
    },
    /// A value that cannot be read; it is not repeated here, because it may be a secret.
    #[error("line {line} sets `{name}` to something else than it must be: {reason}")]
    Value {
        /// Its number, from 1.
        line: usize,
        /// The name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The two keys of an authority are not a pair.
    #[error("the authority's secret key belongs to another public key, {public}; two files were mixed")]
    NotAPair {
        /// The public key that the secret key has.
        public: AuthorityPublicKey,
    },
    /// The certificate is not about these keys.
    #[error("the file's certificate does not hold: {0}; sign it again")]
    Certificate(CertificateError),
}

impl AuthorityKeyPair {
    /// The key pair as the text of a file, which belongs on a machine that serves nobody:
    ///
    /// ```text
    /// format: adit-authority-1
    /// authority-public-key: <base58check with the prefix [1, 0], spec 4.7>
    /// authority-secret-key: <base58check of 32 bytes>
    /// ```
    ///
    /// The fields stand in any order, each once; empty lines and lines that start with `#` are skipped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "# The secret key of a mining pool: whoever has it can pass for the pool. Keep this file off the servers.\n\
             format: {AUTHORITY_FORMAT}\n\
             authority-public-key: {}\n\
             authority-secret-key: {}\n",
            self.public_key(),
            *self.secret_text(),
        ))
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, KeyFileError> {
        let [format, public, secret] =
            fields(text, ["format", "authority-public-key", "authority-secret-key"])?;
        format.expect(AUTHORITY_FORMAT)?;
        let public: AuthorityPublicKey = public.parse()?;
        let pair = secret.read(Self::from_secret_text)?;
        if pair.public_key() != public {
            return Err(KeyFileError::NotAPair { public: pair.public_key() });
        }
        Ok(pair)
    }
}

impl Identity {
    /// The identity as the text of a file, which a server loads; it is secret too, though not the authority's secret:
    ///
    /// ```text
    /// format: adit-identity-1
    /// authority-public-key: <base58check with the prefix [1, 0], spec 4.7>
    /// server-secret-key: <base58check of 32 bytes>
    /// certificate-version: 0
    /// valid-from: <seconds since 1970>
    /// not-valid-after: <seconds since 1970>
    /// signature: <64 bytes in hexadecimal, over version, times and the server's x-only key, spec 4.5.3.1>
    /// ```
    ///
    /// The fields stand in any order, each once; empty lines and lines that start with `#` are skipped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let certificate = self.certificate();
        Zeroizing::new(format!(
            "# The key of one server with its pool's certificate: whoever has it can pass for the pool until it expires.\n\
             format: {IDENTITY_FORMAT}\n\
             authority-public-key: {}\n\
             server-secret-key: {}\n\
             certificate-version: {}\n\
             valid-from: {}\n\
             not-valid-after: {}\n\
             signature: {}\n",
            self.authority(),
            *self.static_key().secret_text(),
            certificate.version,
            certificate.valid_from,
            certificate.not_valid_after,
            certificate.signature.to_lower_hex_string(),
        ))
    }

    /// Reads what [`Self::to_text`] wrote; an expired certificate is read too, [`Self::verify`] tells.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, KeyFileError> {
        let [format, authority, server, version, from, until, signature] = fields(
            text,
            [
                "format",
                "authority-public-key",
                "server-secret-key",
                "certificate-version",
                "valid-from",
                "not-valid-after",
                "signature",
            ],
        )?;
        format.expect(IDENTITY_FORMAT)?;
        let certificate = Certificate {
            version: version.parse()?,
            valid_from: from.parse()?,
            not_valid_after: until.parse()?,
            signature: signature.read(<[u8; 64]>::from_hex)?,
        };
        let static_key = server.read(StaticKeyPair::from_secret_text)?;
        let identity = Self::from_parts(authority.parse()?, static_key, certificate);
        let within = UnixTime::from_secs(certificate.valid_from);
        identity.verify(within).map_err(KeyFileError::Certificate)?;
        Ok(identity)
    }
}

/// A kind of key file that holds nothing but one secret of 32 bytes, which is not a key of this crate.
///
/// ```text
/// format: <its format>
/// <its name>: <base58check of 32 bytes>
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// What the file says it is.
    pub format: &'static str,
    /// The name of the secret's line.
    pub name: &'static str,
    /// What whoever opens the file should know, in one line.
    pub comment: &'static str,
}

impl SecretFile {
    /// The secret as the text of such a file.
    #[must_use]
    pub fn to_text(self, secret: &[u8; 32]) -> Zeroizing<String> {
        let Self { format, name, comment } = self;
        let secret = encode_secret(&Secret::new(*secret));
        Zeroizing::new(format!("# {comment}\nformat: {format}\n{name}: {}\n", *secret))
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the text.
    pub fn from_text(self, text: &str) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        let [format, secret] = fields(text, ["format", self.name])?;
        format.expect(self.format)?;
        Ok(Zeroizing::new(*secret.read(decode_secret)?.expose()))
    }
}

/// One line's value.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    line: usize,
    name: &'static str,
    value: &'a str,
}

impl Field<'_> {
    fn read<T, E: Display>(self, read: impl FnOnce(&str) -> Result<T, E>) -> Result<T, KeyFileError> {
        let Self { line, name, value } = self;
        read(value).map_err(|error| KeyFileError::Value { line, name, reason: error.to_string() })
    }

    fn parse<T: FromStr<Err: Display>>(self) -> Result<T, KeyFileError> {
        self.read(str::parse)
    }

    fn expect(self, expected: &'static str) -> Result<(), KeyFileError> {
        self.read(|value| if value == expected { Ok(()) } else { Err(format!("expected `{expected}`")) })
    }
}

/// The values of exactly these names, in their order.
fn fields<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], KeyFileError> {
    if text.len() > KEY_FILE_MAX {
        return Err(KeyFileError::TooLong { length: text.len() });
    }
    let mut found = names.map(|name| (name, None));
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (name, value) = content.split_once(':').ok_or(KeyFileError::NotAField { line })?;
        let Some((name, slot)) = found.iter_mut().find(|(known, _)| *known == name.trim()) else {
            return Err(KeyFileError::UnknownName { line, name: name.trim().to_owned() });
        };
        if slot.is_some() {
            return Err(KeyFileError::Repeated { line, name });
        }
        *slot = Some(Field { line, name, value: value.trim() });
    }
    if let Some((name, _)) = found.iter().find(|(_, field)| field.is_none()) {
        return Err(KeyFileError::Missing { name });
    }
    Ok(found.map(|(_, field)| field.expect("every name was found")))
}

#[cfg(test)]
mod tests;

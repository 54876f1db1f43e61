//! The certificate and the key that machines are served with over TLS.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, ServerConfig};

/// A certificate and its key, which fit each other. It holds for as long as it is used: one that was renewed is read by a restart.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

/// Why machines cannot be served over TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not in PEM form.
    #[error("{} is not in PEM form: {source}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// There is no certificate in the file that is to hold one.
    #[error("there is no certificate in {}; it is to begin with -----BEGIN CERTIFICATE-----", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no key in the file that is to hold one.
    #[error(
        "there is no private key in {}; it is to begin with -----BEGIN PRIVATE KEY-----, and one with a password cannot be used",
        file.display()
    )]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The two do not belong together, or are of a kind that cannot be used.
    #[error("the certificate in {} cannot be used with the key in {}: {source}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: Error,
    },
}

impl Tls {
    /// Reads a certificate, behind which those that vouch for it may stand, and its private key, both in PEM form.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or has not in it what it should, or if the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificates, private) = (read_certificates(certificate)?, read_key(key)?);
        let unusable =
            |source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(certificates, private)
            .map_err(unusable)?;
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|source| TlsError::NotPem { file: file.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned() });
    }
    Ok(certificates)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { file: file.to_owned() },
        source => TlsError::NotPem { file: file.to_owned(), source },
    })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-vectors/tls").join(name)
    }

    fn refused(certificate: &str, key: &str) -> String {
        Tls::read(&vector(certificate), &vector(key)).unwrap_err().to_string()
    }

    #[test]
    fn a_certificate_and_its_key_are_read() {
        Tls::read(&vector("localhost.crt"), &vector("localhost.key")).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let answer = refused("nowhere.crt", "localhost.key");
        assert!(answer.starts_with("cannot read ") && answer.contains("nowhere.crt: "), "{answer}");
        let answer = refused("localhost.key", "localhost.key");
        assert!(
            answer.starts_with("there is no certificate in ") && answer.contains("localhost.key; "),
            "{answer}"
        );
        let answer = refused("localhost.crt", "localhost.crt");
        assert!(
            answer.starts_with("there is no private key in ") && answer.contains("localhost.crt; "),
            "{answer}"
        );
        let answer = refused("localhost.crt", "other.key");
        assert!(
            answer.contains("cannot be used with the key in ") && answer.contains("other.key: "),
            "{answer}"
        );
    }
}

//! Where an upstream is, and which of the two protocols it speaks.

use core::fmt;
use core::str::FromStr;

use adit_net::{Url, UrlError};

/// An upstream's address.
///
/// Written `stratum2+tcp://host:port/KEY`, or `stratum+tcp://host:port` for a pool that speaks SV1, where there is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// It speaks SV2.
    Sv2(Url),
    /// It speaks SV1. The address has no key.
    Sv1(Url),
}

/// A text that is no [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// It speaks neither.
    #[error(
        "only Stratum is spoken; write stratum2+tcp://host:port/KEY, or stratum+tcp://host:port for an SV1 pool"
    )]
    Scheme,
    /// The address of an SV2 pool is wrong.
    #[error(transparent)]
    Sv2(UrlError),
    /// The address of an SV1 pool is wrong.
    #[error("the host or the port is missing or wrong; write stratum+tcp://host:port")]
    Sv1,
    /// SV1 knows no keys.
    #[error("an SV1 pool has no key to be known by; write stratum+tcp://host:port")]
    Key,
}

impl Pool {
    const LEGACY_SCHEME: &str = "stratum+tcp";

    /// `host:port`, as a resolver wants it.
    #[must_use]
    pub fn address(&self) -> String {
        self.url().address()
    }

    /// Whether it speaks SV1.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        matches!(self, Self::Sv1(_))
    }

    pub(super) const fn url(&self) -> &Url {
        match self {
            Self::Sv2(url) | Self::Sv1(url) => url,
        }
    }
}

impl From<Url> for Pool {
    fn from(url: Url) -> Self {
        Self::Sv2(url)
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        match text.split_once("://") {
            Some((Self::LEGACY_SCHEME, rest)) => match rest.trim_end_matches('/') {
                key if key.contains('/') => Err(PoolError::Key),
                address => address.parse().map(Self::Sv1).map_err(|_| PoolError::Sv1),
            },
            _ => text.parse().map(Self::Sv2).map_err(|error| match error {
                UrlError::Scheme => PoolError::Scheme,
                error => PoolError::Sv2(error),
            }),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sv2(url) => url.fmt(f),
            Self::Sv1(url) => write!(f, "{}://{}", Self::LEGACY_SCHEME, url.address()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_says_which_protocol() {
        for (text, is_legacy, written) in [
            ("stratum+tcp://pool.example:3333", true, "stratum+tcp://pool.example:3333"),
            ("stratum+tcp://[::1]:3333/", true, "stratum+tcp://[::1]:3333"),
            ("stratum2+tcp://10.0.0.1:3333", false, "stratum2+tcp://10.0.0.1:3333"),
            ("10.0.0.1:3333", false, "stratum2+tcp://10.0.0.1:3333"),
        ] {
            let pool: Pool = text.parse().unwrap();
            assert_eq!((pool.is_legacy(), pool.to_string().as_str()), (is_legacy, written));
            assert_eq!(written.parse(), Ok(pool));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("stratum+ssl://pool:3333", PoolError::Scheme),
            ("http://pool:3333", PoolError::Scheme),
            ("stratum+tcp://pool", PoolError::Sv1),
            ("stratum+tcp://:3333", PoolError::Sv1),
            ("stratum+tcp://user@pool:3333", PoolError::Sv1),
            ("stratum+tcp://stratum+tcp:3333", PoolError::Sv1),
            ("stratum+tcp://stratum2+tcp://pool:3333", PoolError::Key),
            ("stratum+tcp://pool:3333/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh", PoolError::Key),
            ("stratum2+tcp://pool", PoolError::Sv2(UrlError::Port)),
        ] {
            assert_eq!(text.parse::<Pool>(), Err(error), "{text}");
        }
    }
}

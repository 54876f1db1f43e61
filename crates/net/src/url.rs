//! Where a server is and which authority vouches for it (spec 4.7).

use core::fmt;
use core::str::FromStr;

use adit_transport::AuthorityPublicKey;

/// A server's address and the public key of its authority.
///
/// Written `stratum2+tcp://host:port/KEY`; the scheme and the key may be left out. An IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    authority: Option<AuthorityPublicKey>,
}

/// A text that is no [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another scheme is in front.
    #[error("only stratum2+tcp:// is spoken; write stratum2+tcp://host:port/KEY")]
    Scheme,
    /// There is no port, or it is none.
    #[error("the port is missing or not a number from 1 to 65535; write stratum2+tcp://host:port/KEY")]
    Port,
    /// There is no host, or it has characters that no host has.
    #[error(
        "the host is missing or has a character that no host name has; write stratum2+tcp://host:port/KEY"
    )]
    Host,
    /// The part behind the address is no key.
    #[error("what stands behind the address is not an authority key; copy it from the pool's address whole")]
    Key,
}

impl Url {
    const SCHEME: &str = "stratum2+tcp";
    /// Most bytes of a host, which is what `SetupConnection` can carry.
    pub const HOST_MAX: usize = 255;

    /// An address from its parts; an IPv6 address comes without brackets.
    ///
    /// # Errors
    ///
    /// If the host is not one, or the port is 0.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        authority: Option<AuthorityPublicKey>,
    ) -> Result<Self, UrlError> {
        let host = host.into();
        let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || host.len() > Self::HOST_MAX || !host.bytes().all(may_stand) {
            return Err(UrlError::Host);
        }
        if port == 0 {
            return Err(UrlError::Port);
        }
        Ok(Self { host, port, authority })
    }

    /// The name or address of the machine, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key that the server's certificate must be signed with.
    #[must_use]
    pub fn authority(&self) -> Option<AuthorityPublicKey> {
        self.authority
    }

    /// `host:port`, as a resolver wants it.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Where `Reconnect` sends its receiver: an empty host and port 0 stand for the present ones (spec 3.6.5).
    ///
    /// The authority stays. Where there is none, so does the host: nothing else could tell the pool from whoever sent the message.
    ///
    /// # Errors
    ///
    /// If the host is not one.
    pub fn redirected(&self, host: &str, port: u16) -> Result<Self, UrlError> {
        let stays = host.is_empty() || self.authority.is_none();
        let host = if stays { &self.host } else { host.trim_start_matches('[').trim_end_matches(']') };
        Self::new(host, if port == 0 { self.port } else { port }, self.authority)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = match text.split_once("://") {
            Some((Self::SCHEME, rest)) => rest,
            Some(_) => return Err(UrlError::Scheme),
            None => text,
        };
        let (address, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = address.rsplit_once(':').ok_or(UrlError::Port)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or(UrlError::Host)?,
            None if host.contains(':') => return Err(UrlError::Host),
            None => host,
        };
        let port = port.parse().map_err(|_| UrlError::Port)?;
        let authority = match key.trim_end_matches('/') {
            "" => None,
            key => Some(key.parse().map_err(|_| UrlError::Key)?),
        };
        Self::new(host, port, authority)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", Self::SCHEME, self.address())?;
        match self.authority {
            Some(key) => write!(f, "/{key}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of spec 4.7.
    const EXAMPLE: &str =
        "stratum2+tcp://thepool.com:34254/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";

    #[test]
    fn the_specifications_example_is_read_and_written() {
        let url: Url = EXAMPLE.parse().unwrap();
        assert_eq!((url.host(), url.port()), ("thepool.com", 34254));
        assert_eq!(
            url.authority().unwrap().to_string(),
            "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh"
        );
        assert_eq!(url.to_string(), EXAMPLE);
        assert_eq!(url.address(), "thepool.com:34254");
    }

    #[test]
    fn scheme_and_key_may_be_left_out() {
        for (text, host, address) in [
            ("pool.example:3333", "pool.example", "pool.example:3333"),
            ("stratum2+tcp://10.0.0.1:3333/", "10.0.0.1", "10.0.0.1:3333"),
            ("[::1]:3333", "::1", "[::1]:3333"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.authority()), (host, 3333, None), "{text}");
            assert_eq!(url.address(), address);
            assert_eq!(url.to_string().parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("stratum+tcp://pool:3333", UrlError::Scheme),
            ("pool", UrlError::Port),
            ("pool:", UrlError::Port),
            ("pool:0", UrlError::Port),
            ("pool:65536", UrlError::Port),
            (":3333", UrlError::Host),
            ("::1:3333", UrlError::Host),
            ("[::1:3333", UrlError::Host),
            ("po ol:3333", UrlError::Host),
            ("user@pool:3333", UrlError::Host),
            ("pool:3333/key", UrlError::Key),
            ("pool:3333/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXi", UrlError::Key),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_redirection_keeps_the_authority() {
        let url: Url = EXAMPLE.parse().unwrap();
        let there = url.redirected("eu.thepool.com", 1).unwrap();
        assert_eq!((there.host(), there.port(), there.authority()), ("eu.thepool.com", 1, url.authority()));
        assert_eq!(url.redirected("", 0), Ok(url.clone()));
        assert_eq!(url.redirected("[::1]", 0).unwrap().address(), "[::1]:34254");
        for host in ["a b", "a/b", "a\n", "\u{e9}"] {
            assert_eq!(url.redirected(host, 1), Err(UrlError::Host), "{host:?}");
        }
    }

    #[test]
    fn without_an_authority_nobody_is_sent_to_another_host() {
        let url: Url = "127.0.0.1:3333".parse().unwrap();
        let there = url.redirected("elsewhere.example", 4444).unwrap();
        assert_eq!(there.address(), "127.0.0.1:4444");
    }
}

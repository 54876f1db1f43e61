//! Where a node is, how it lets us in, and how long it may take.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::path::PathBuf;

use bitcoin::Network;
use reqwest::Url;

use crate::Zmq;

/// An address that no node can be reached at; the configuration is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not an address at all.
    #[error("{url:?} is not the address of a node ({reason}); write it like http://127.0.0.1:8332")]
    Address {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else than plain HTTP.
    #[error(
        "a node's RPC speaks plain http, not {0}; use http on the same machine, or through a tunnel that encrypts"
    )]
    Scheme(String),
    /// No port, and every network has another one.
    #[error(
        "{0:?} lacks the port; a node's rpcport is 8332, or 48332 on testnet4, 38332 on signet, 18443 on regtest"
    )]
    NoPort(String),
    /// Credentials in the address, where they would be logged.
    #[error(
        "leave user and password out of the node's address, as addresses are logged; configure them beside it"
    )]
    Credentials,
}

/// How a node lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// By the file that the node writes when it starts: `.cookie` in its data folder, or in that of its test network.
    Cookie(PathBuf),
    /// By a name and a password, as its `rpcauth` or `rpcuser` and `rpcpassword` say.
    UserPass {
        /// The name.
        user: String,
        /// The password.
        password: Password,
    },
}

/// A password; it never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl Password {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Room that every block keeps for our coinbase, whatever the node's own reserve (`blockreservedweight`) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoinbaseReserve {
    /// In weight units (BIP 141).
    pub weight: u64,
    /// In the cost of signature operations (BIP 141).
    pub sigops: u64,
}

/// Half of what Bitcoin Core reserves by default since v29, and enough for some 25 payouts.
impl Default for CoinbaseReserve {
    fn default() -> Self {
        Self { weight: 4000, sigops: 400 }
    }
}

/// How long things take, and may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often the node is asked for its last block, beside long polling.
    pub tip_poll: Duration,
    /// How often it is asked for a template on the same tip.
    pub refresh: Duration,
    /// How long it may take over a small answer.
    pub answer: Duration,
    /// How long it may take over a template, or over what else it has to look through whole blocks for.
    pub template: Duration,
    /// How long it may take over a found block before that is handed over again. A node that has begun to check the block goes on, so
    /// nothing is lost by that.
    pub submit: Duration,
    /// How long it may hold a long poll. A node keeps a thread busy for each one until its tip or its mempool changes, even when
    /// we have given up, so this is long; a dead connection is noticed by other means.
    pub long_poll: Duration,
    /// The pause before the first new try when something fails; it doubles from try to try.
    pub first_retry: Duration,
    /// The longest pause.
    pub max_retry: Duration,
    /// How often a found block is handed over while the node does not answer, with the same pauses between. By default these are about
    /// eight seconds in all, as a node that restarts is back within seconds; one that hangs is given up after two minutes.
    pub submit_tries: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tip_poll: Duration::from_secs(1),
            refresh: Duration::from_secs(30),
            answer: Duration::from_secs(15),
            template: Duration::from_secs(60),
            submit: Duration::from_secs(20),
            long_poll: Duration::from_secs(3600),
            first_retry: Duration::from_millis(250),
            max_retry: Duration::from_secs(5),
            submit_tries: 6,
        }
    }
}

/// Everything about one node.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    url: Url,
    auth: Auth,
    /// The network that it must be on; `None` takes any.
    pub network: Option<Network>,
    /// Room for our coinbase.
    pub coinbase: CoinbaseReserve,
    /// Where it tells of new blocks, which are then not waited for until it is asked the next time.
    pub zmq_hashblock: Zmq,
    /// Deadlines and intervals.
    pub timing: Timing,
}

impl RpcConfig {
    /// A node at `url`, such as `http://127.0.0.1:8332` or just `127.0.0.1:8332`.
    ///
    /// # Errors
    ///
    /// When that is not the address of a node.
    pub fn new(url: &str, auth: Auth) -> Result<Self, ConfigError> {
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let address = |reason: String| ConfigError::Address { url: url.to_owned(), reason };
        let parsed = Url::parse(&full).map_err(|error| address(error.to_string()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(ConfigError::Credentials);
        }
        if parsed.scheme() != "http" {
            return Err(ConfigError::Scheme(parsed.scheme().to_owned()));
        }
        // The parser drops a port that is the default of the scheme.
        if parsed.port().is_none() && !full.trim_end_matches('/').ends_with(":80") {
            return Err(ConfigError::NoPort(url.to_owned()));
        }
        Ok(Self {
            url: parsed,
            auth,
            network: None,
            coinbase: CoinbaseReserve::default(),
            zmq_hashblock: Zmq::default(),
            timing: Timing::default(),
        })
    }

    /// The node's address, for logs.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// How the node lets us in.
    #[must_use]
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether the node is on this machine.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    pub(crate) const fn address(&self) -> &Url {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<String, ConfigError> {
        let auth = Auth::UserPass { user: "u".to_owned(), password: Password::from("p".to_owned()) };
        RpcConfig::new(url, auth).map(|config| config.url())
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for url in ["127.0.0.1:8332", "http://127.0.0.1:8332", "http://127.0.0.1:8332/"] {
            assert_eq!(parse(url).unwrap(), "http://127.0.0.1:8332");
        }
        assert_eq!(parse("node.example:18443").unwrap(), "http://node.example:18443");
        assert_eq!(parse("[::1]:8332").unwrap(), "http://[::1]:8332");
        assert_eq!(parse("127.0.0.1:80").unwrap(), "http://127.0.0.1");
    }

    #[test]
    fn addresses_that_cannot_work_say_why() {
        assert_eq!(parse("https://n:8332").unwrap_err(), ConfigError::Scheme("https".to_owned()));
        assert_eq!(parse("http://n").unwrap_err(), ConfigError::NoPort("http://n".to_owned()));
        assert_eq!(parse("http://u:p@n:8332").unwrap_err(), ConfigError::Credentials);
        assert!(matches!(parse("http://n:99999").unwrap_err(), ConfigError::Address { .. }));
        assert!(matches!(parse("").unwrap_err(), ConfigError::Address { .. }));
    }

    #[test]
    fn a_node_on_this_machine_is_known_as_one() {
        let auth = || Auth::Cookie(PathBuf::new());
        let here = |url| RpcConfig::new(url, auth()).unwrap().is_on_this_machine();
        assert!(here("127.0.0.1:8332") && here("[::1]:8332") && here("localhost:8332"));
        assert!(!here("192.0.2.1:8332") && !here("node.example:8332"));
    }

    #[test]
    fn a_password_does_not_show() {
        let auth = Auth::UserPass { user: "u".to_owned(), password: Password::from("hunter2".to_owned()) };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}

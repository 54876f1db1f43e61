//! What an operator decides about the pool, checked.

use adit_channel::{VardiffConfig, VardiffConfigError};
use adit_share::MAX_SIGNATURE_LEN;
use bitcoin::{Network, ScriptBuf};

/// What holds for all connections of one pool server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Which server of the pool this is; no two servers of one pool may have the same number.
    pub instance: u16,
    /// The chain, which the addresses that miners name must be of; the default is the main network.
    pub network: Network,
    /// Who is paid by every block.
    pub payout_script: ScriptBuf,
    /// The pool's name in every coinbase, at most [`MAX_SIGNATURE_LEN`] bytes; the default is `/adit/`.
    pub signature: String,
    /// How hard shares are.
    pub vardiff: VardiffConfig,
    /// What miners do between a new tip and the node's first template on it.
    pub empty_jobs: EmptyJobs,
    /// How many blocks pass between two halvings of the subsidy: 210 000, and 150 on regtest.
    pub halving_interval: u32,
    /// Where miners are sent when the server winds down; without it they are just let go.
    pub successor: Option<Successor>,
    /// Whether a connection must agree to name the worker of each share (extension 0x0002) before it may open a channel; the default
    /// is no, because most firmware negotiates nothing.
    pub require_worker_names: bool,
    /// Whether a miner may ask for blocks that pay his address instead of the pool (`sri/solo/ADDRESS` and
    /// `sri/donate/PERCENT/ADDRESS`); the default is yes.
    pub solo: bool,
    /// Whether a channel may have [`crate::SHARES_MAX`] shares accepted and then [`crate::SHARES_PER_SECOND`]; the default is yes. It is
    /// lifted where a pool is measured.
    pub limits_shares: bool,
    /// The most channels that one connection may have open; the default is 256. Worst-case memory of a connection is
    /// proportional to it.
    pub channels_per_connection: u16,
}

/// What miners do between a new tip and the node's first template on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EmptyJobs {
    /// They mine an empty block on the new tip, which they have been given ahead.
    #[default]
    UntilTemplate,
    /// They go on with what they have, whose block would come too late.
    Never,
}

/// Another server of the same pool: miners keep the authority key that they know (spec 3.6.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Successor {
    /// Its name or address, 1 to 255 bytes.
    pub host: String,
    /// Its port, not zero.
    pub port: u16,
}

/// A configuration that a pool cannot run with; we are misconfigured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolConfigError {
    /// Blocks would pay nobody.
    #[error("the payout script is empty or can never be spent: configure an address of yours")]
    PayoutScript,
    /// The signature does not fit into a coinbase.
    #[error("the signature has {len} bytes, the limit is {MAX_SIGNATURE_LEN}: shorten it")]
    SignatureTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The signature has characters that do not print.
    #[error("the signature has a character that does not print: use plain text")]
    SignatureNotPrintable,
    /// No target lies between floor and ceiling.
    #[error(transparent)]
    Vardiff(#[from] VardiffConfigError),
    /// The chain would never have created anything.
    #[error("the subsidy halves every 0 blocks: configure 210000, or 150 on regtest")]
    HalvingInterval,
    /// A server that nobody can be sent to.
    #[error(
        "the server to send miners to has no name, one of more than 255 bytes, or port 0: give host and port"
    )]
    Successor,
    /// No miner could do anything.
    #[error("no connection may open a channel: allow at least one channel per connection")]
    NoChannels,
}

impl PoolConfig {
    /// The default for everything but the two values that have none.
    #[must_use]
    pub fn new(instance: u16, payout_script: ScriptBuf) -> Self {
        Self {
            instance,
            network: Network::Bitcoin,
            payout_script,
            signature: "/adit/".to_owned(),
            vardiff: VardiffConfig::default(),
            empty_jobs: EmptyJobs::default(),
            halving_interval: 210_000,
            successor: None,
            require_worker_names: false,
            solo: true,
            limits_shares: true,
            channels_per_connection: 256,
        }
    }

    /// Checks that a pool can run with these values.
    ///
    /// # Errors
    ///
    /// The first value that is a mistake.
    pub fn check(&self) -> Result<(), PoolConfigError> {
        if self.payout_script.is_empty() || self.payout_script.is_op_return() {
            return Err(PoolConfigError::PayoutScript);
        }
        if self.signature.len() > MAX_SIGNATURE_LEN {
            return Err(PoolConfigError::SignatureTooLong { len: self.signature.len() });
        }
        if self.signature.chars().any(char::is_control) {
            return Err(PoolConfigError::SignatureNotPrintable);
        }
        if self.halving_interval == 0 {
            return Err(PoolConfigError::HalvingInterval);
        }
        let is_server = |to: &Successor| (1..=255).contains(&to.host.len()) && to.port != 0;
        if !self.successor.as_ref().is_none_or(is_server) {
            return Err(PoolConfigError::Successor);
        }
        if self.channels_per_connection == 0 {
            return Err(PoolConfigError::NoChannels);
        }
        Ok(self.vardiff.check()?)
    }
}

#[cfg(test)]
mod tests {
    use adit_units::Target;
    use bitcoin::opcodes::all::{OP_PUSHNUM_1, OP_RETURN};

    use super::*;

    fn config() -> PoolConfig {
        PoolConfig::new(1, ScriptBuf::from_bytes(vec![OP_PUSHNUM_1.to_u8()]))
    }

    #[test]
    fn the_defaults_are_a_pool() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn mistakes_are_named() {
        let to = |host: &str, port| Some(Successor { host: host.to_owned(), port });
        let signature = "x".repeat(MAX_SIGNATURE_LEN + 1);
        let len = signature.len();
        let mut upside_down = VardiffConfig::default();
        (upside_down.easiest, upside_down.hardest) = (Target::ZERO, Target::MAX);
        let vardiff = upside_down.check().unwrap_err();
        for (config, error) in [
            (PoolConfig { payout_script: ScriptBuf::new(), ..config() }, PoolConfigError::PayoutScript),
            (
                PoolConfig { payout_script: ScriptBuf::from_bytes(vec![OP_RETURN.to_u8()]), ..config() },
                PoolConfigError::PayoutScript,
            ),
            (PoolConfig { signature, ..config() }, PoolConfigError::SignatureTooLong { len }),
            (PoolConfig { signature: "a\nb".to_owned(), ..config() }, PoolConfigError::SignatureNotPrintable),
            (PoolConfig { successor: to("", 1), ..config() }, PoolConfigError::Successor),
            (PoolConfig { successor: to("pool.example", 0), ..config() }, PoolConfigError::Successor),
            (PoolConfig { successor: to(&"x".repeat(256), 1), ..config() }, PoolConfigError::Successor),
            (PoolConfig { halving_interval: 0, ..config() }, PoolConfigError::HalvingInterval),
            (PoolConfig { channels_per_connection: 0, ..config() }, PoolConfigError::NoChannels),
            (PoolConfig { vardiff: upside_down, ..config() }, PoolConfigError::Vardiff(vardiff)),
        ] {
            assert_eq!(config.check(), Err(error));
        }
    }
}

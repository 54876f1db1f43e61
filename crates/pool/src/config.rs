//! What an operator decides about the pool, checked.

use std::sync::Arc;

use adit_channel::{ExtranonceBase, TokenKey, VardiffConfig, VardiffConfigError};
use adit_share::{FULL_EXTRANONCE_LEN, MAX_SIGNATURE_LEN};
use adit_units::Sats;
use bitcoin::{Amount, Network, ScriptBuf, TxOut};

/// What holds for all connections of one pool server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Which server of the pool this is; no two servers of one pool may have the same number.
    pub instance: u16,
    /// The chain, which the addresses that miners name must be of; the default is the main network.
    pub network: Network,
    /// Who is paid by every block.
    pub payout_script: ScriptBuf,
    /// Outputs without value that every coinbase has besides; none by default. A pool may want them of those who make jobs for it (spec 6.4.3).
    pub further_outputs: Vec<TxOut>,
    /// How the extranonces of all channels begin, and how long they are; the default is what an ordinary pool has.
    pub extranonce: ExtranonceBase,
    /// The pool's name in every coinbase, at most [`MAX_SIGNATURE_LEN`] bytes, and fewer beside longer extranonces than a pool's
    /// ([`signature_limit`]); the default is `/adit/`.
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
    /// Whether any text will do as a user identity, because nobody is paid by it; the default is no.
    pub any_user: bool,
    /// How miners may make their own jobs (spec 6); they may not by default.
    pub custom_jobs: Option<CustomJobs>,
    /// Whether accepted shares are kept for [`crate::Session::take_relayed`]; the default is no.
    pub relays_shares: bool,
    /// By how much more a template on the same tip must pay than the present one to be made a job of before that one is
    /// [`crate::JOB_AGE_MAX`] old; nothing by default. Whoever has to declare every job to somebody else may want fewer of them.
    pub least_fee_gain: Sats,
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

/// What a pool wants of jobs that miners make themselves.
#[derive(Clone, Debug)]
pub struct CustomJobs {
    /// The secret that the job declarator server knows, too: tokens are sealed with it.
    pub key: Arc<TokenKey>,
    /// Whether jobs are accepted whose transactions nobody has seen (coinbase-only mode, spec 6.3.1).
    pub accepts_undeclared: bool,
    /// The least part of what its coinbase pays out, and at least of the subsidy, that a job must pay to the pool, in percent. A job that pays
    /// the pool a part earns its miner as much of what its shares are worth.
    pub least_pool_percent: u8,
}

impl PartialEq for CustomJobs {
    /// Keys are equal if they are the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.key, &other.key)
            && self.accepts_undeclared == other.accepts_undeclared
            && self.least_pool_percent == other.least_pool_percent
    }
}

impl Eq for CustomJobs {}

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
    /// An output that was to have no value has some.
    #[error("an output besides the payout has a value: all that a block earns goes to the payout")]
    FurtherOutputs,
    /// The signature does not fit into a coinbase.
    #[error(
        "the signature has {len} bytes, the limit beside an extranonce of {extranonce_len} bytes is {limit}: shorten it"
    )]
    SignatureTooLong {
        /// Its length in bytes.
        len: usize,
        /// The length of the extranonces that it shares a script with, in bytes.
        extranonce_len: usize,
        /// The most bytes that it may have beside them.
        limit: usize,
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

/// The most bytes that a signature may have beside extranonces of `extranonce_len` bytes, at any height: both are in the coinbase's input
/// script, for which consensus has a limit.
#[must_use]
pub const fn signature_limit(extranonce_len: usize) -> usize {
    MAX_SIGNATURE_LEN.saturating_sub(extranonce_len.saturating_sub(FULL_EXTRANONCE_LEN))
}

impl PoolConfig {
    /// The default for everything but the two values that have none.
    #[must_use]
    pub fn new(instance: u16, payout_script: ScriptBuf) -> Self {
        Self {
            instance,
            network: Network::Bitcoin,
            payout_script,
            further_outputs: Vec::new(),
            extranonce: ExtranonceBase::default(),
            signature: "/adit/".to_owned(),
            vardiff: VardiffConfig::default(),
            empty_jobs: EmptyJobs::default(),
            halving_interval: 210_000,
            successor: None,
            require_worker_names: false,
            solo: true,
            any_user: false,
            custom_jobs: None,
            relays_shares: false,
            least_fee_gain: Sats::ZERO,
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
        if self.further_outputs.iter().any(|output| output.value != Amount::ZERO) {
            return Err(PoolConfigError::FurtherOutputs);
        }
        let (len, extranonce_len) = (self.signature.len(), self.extranonce.full_len());
        let limit = signature_limit(extranonce_len);
        if len > limit {
            return Err(PoolConfigError::SignatureTooLong { len, extranonce_len, limit });
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
        let (len, limit) = (MAX_SIGNATURE_LEN + 1, MAX_SIGNATURE_LEN);
        let too_long = PoolConfigError::SignatureTooLong { len, extranonce_len: 20, limit };
        let valuable = TxOut { value: Amount::ONE_SAT, script_pubkey: ScriptBuf::new() };
        let mut upside_down = VardiffConfig::default();
        (upside_down.easiest, upside_down.hardest) = (Target::ZERO, Target::MAX);
        let vardiff = upside_down.check().unwrap_err();
        for (config, error) in [
            (PoolConfig { payout_script: ScriptBuf::new(), ..config() }, PoolConfigError::PayoutScript),
            (
                PoolConfig { payout_script: ScriptBuf::from_bytes(vec![OP_RETURN.to_u8()]), ..config() },
                PoolConfigError::PayoutScript,
            ),
            (PoolConfig { further_outputs: vec![valuable], ..config() }, PoolConfigError::FurtherOutputs),
            (PoolConfig { signature, ..config() }, too_long),
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

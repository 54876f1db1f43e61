//! What an operator decides about the job declarator server, checked.

use core::time::Duration;

use adit_channel::TOKEN_LIFETIME_MAX;
use adit_share::{MAX_EXTRANONCE_LEN, MAX_SCRIPT_SIG_LEN};
use bitcoin::{Amount, ScriptBuf, TxOut, consensus};

/// Most bytes that the outputs of a token may have.
pub const TOKEN_OUTPUTS_MAX: usize = 4_096;

/// What holds for all connections of one job declarator server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JdsConfig {
    /// The script that every declared block must pay: the pool's.
    pub payout_script: ScriptBuf,
    /// Scripts of further outputs that a coinbase should carry, worth nothing; the default is none.
    pub further_outputs: Vec<ScriptBuf>,
    /// Whether clients may keep their transactions to themselves (spec 6.3.1); the default is yes.
    pub coinbase_only: bool,
    /// How much of what a coinbase creates must go to the pool, in percent, 1 to 100; the default is 100: all of it.
    pub least_percent: u8,
    /// How many bytes the whole extranonce has on the pool's channels for declared work; the default is 32.
    pub extranonce_len: usize,
    /// How long a token holds; the default is an hour.
    pub token_lifetime: Duration,
}

/// A configuration that a job declarator server cannot run with; we are misconfigured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JdsConfigError {
    /// Blocks would pay nobody.
    #[error("the payout script is empty or can never be spent: configure an address of yours")]
    PayoutScript,
    /// The outputs leave no room for anything else.
    #[error(
        "the outputs that tokens ask for have {len} bytes, the limit is {TOKEN_OUTPUTS_MAX}: ask for fewer"
    )]
    Outputs {
        /// Their length in bytes.
        len: usize,
    },
    /// No coinbase could be good, or every one.
    #[error("at least {0} percent are to go to the pool: configure a number from 1 to 100")]
    LeastPercent(u8),
    /// No extranonce has that length.
    #[error(
        "the extranonce is to have {0} bytes: configure a number from 4 to {MAX_EXTRANONCE_LEN}, the pool's"
    )]
    ExtranonceLen(usize),
    /// Tokens would be of no use.
    #[error("tokens hold for {0:?}: configure a minute to a day")]
    TokenLifetime(Duration),
}

impl JdsConfig {
    /// The default for everything but the value that has none.
    #[must_use]
    pub const fn new(payout_script: ScriptBuf) -> Self {
        Self {
            payout_script,
            further_outputs: Vec::new(),
            coinbase_only: true,
            least_percent: 100,
            extranonce_len: MAX_EXTRANONCE_LEN,
            token_lifetime: Duration::from_secs(60 * 60),
        }
    }

    /// Checks that a server can run with these values.
    ///
    /// # Errors
    ///
    /// The first value that is a mistake.
    pub fn check(&self) -> Result<(), JdsConfigError> {
        if self.payout_script.is_empty() || self.payout_script.is_op_return() {
            return Err(JdsConfigError::PayoutScript);
        }
        let len = self.token_outputs().len();
        if len > TOKEN_OUTPUTS_MAX {
            return Err(JdsConfigError::Outputs { len });
        }
        if !(1..=100).contains(&self.least_percent) {
            return Err(JdsConfigError::LeastPercent(self.least_percent));
        }
        if !(4..=MAX_EXTRANONCE_LEN.min(MAX_SCRIPT_SIG_LEN)).contains(&self.extranonce_len) {
            return Err(JdsConfigError::ExtranonceLen(self.extranonce_len));
        }
        if !(60..=TOKEN_LIFETIME_MAX.as_secs()).contains(&self.token_lifetime.as_secs()) {
            return Err(JdsConfigError::TokenLifetime(self.token_lifetime));
        }
        Ok(())
    }

    /// The outputs that come with a token, the pool's payout first (spec 6.4.3), consensus-serialised with their number before them.
    #[must_use]
    pub fn token_outputs(&self) -> Vec<u8> {
        let scripts = core::iter::once(&self.payout_script).chain(&self.further_outputs);
        let outputs: Vec<TxOut> =
            scripts.map(|script| TxOut { value: Amount::ZERO, script_pubkey: script.clone() }).collect();
        consensus::serialize(&outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> JdsConfig {
        JdsConfig::new(ScriptBuf::from_bytes(vec![0x51]))
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(config().check(), Ok(()));
        let long = vec![ScriptBuf::from_bytes(vec![0x6a; 1_000]); 5];
        for (config, error) in [
            (JdsConfig { payout_script: ScriptBuf::new(), ..config() }, JdsConfigError::PayoutScript),
            (JdsConfig::new(ScriptBuf::from_bytes(vec![0x6a])), JdsConfigError::PayoutScript),
            (JdsConfig { further_outputs: long, ..config() }, JdsConfigError::Outputs { len: 5_066 }),
            (JdsConfig { least_percent: 0, ..config() }, JdsConfigError::LeastPercent(0)),
            (JdsConfig { least_percent: 101, ..config() }, JdsConfigError::LeastPercent(101)),
            (JdsConfig { extranonce_len: 33, ..config() }, JdsConfigError::ExtranonceLen(33)),
            (JdsConfig { extranonce_len: 3, ..config() }, JdsConfigError::ExtranonceLen(3)),
            (
                JdsConfig { token_lifetime: Duration::ZERO, ..config() },
                JdsConfigError::TokenLifetime(Duration::ZERO),
            ),
        ] {
            assert_eq!(config.check(), Err(error));
        }
    }

    #[test]
    fn the_pools_payout_is_the_first_output_and_worth_nothing() {
        let further = ScriptBuf::from_bytes(vec![0x6a, 1, 7]);
        let config = JdsConfig { further_outputs: vec![further.clone()], ..config() };
        let outputs: Vec<TxOut> = consensus::deserialize(&config.token_outputs()).unwrap();
        let scripts: Vec<_> = outputs.iter().map(|output| output.script_pubkey.clone()).collect();
        assert_eq!(scripts, [config.payout_script, further]);
        assert!(outputs.iter().all(|output| output.value == Amount::ZERO));
    }
}

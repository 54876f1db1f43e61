//! Whether a pool's job pays whom the operator expects.

use adit_share::Job;
use bitcoin::{ScriptBuf, Transaction, consensus};

/// Whom jobs must pay, and how much of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The script that must be paid.
    pub script: ScriptBuf,
    /// How much of what the coinbase pays must go there at least, in percent; above 100 nothing is enough.
    pub least_percent: u8,
}

/// A job that does not pay what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayoutError {
    /// Its coinbase is no transaction, so that no block could be made of it.
    #[error("the pool's coinbase is not a transaction: {0}")]
    Malformed(String),
    /// Its coinbase has another number of inputs than one.
    #[error("the pool's coinbase has {0} inputs instead of one")]
    Inputs(usize),
    /// Nothing is paid there.
    #[error("the pool's coinbase pays the expected script nothing")]
    Unpaid,
    /// Too little is paid there.
    #[error(
        "the pool's coinbase pays the expected script {paid} of {total} satoshis; at least {least_percent} percent are expected"
    )]
    Underpaid {
        /// What is paid there, in satoshis.
        paid: u128,
        /// What the coinbase pays in all, in satoshis.
        total: u128,
        /// What was expected of it.
        least_percent: u8,
    },
}

/// Checks what a job pays.
///
/// The coinbase is read as a whole with a rolled part of zeros, wherever the pool has put the cut: what comes after the extranonce need not
/// begin with the end of the input.
///
/// # Errors
///
/// If the coinbase cannot be read, or does not pay as expected.
pub fn check(job: &Job, prefix: &[u8], size: u16, expected: &Expectation) -> Result<(), PayoutError> {
    let rolled = vec![0; size.into()];
    let bytes = [job.coinbase_prefix(), prefix, &rolled, job.coinbase_suffix()].concat();
    let coinbase: Transaction =
        consensus::deserialize(&bytes).map_err(|error| PayoutError::Malformed(error.to_string()))?;
    if coinbase.input.len() != 1 {
        return Err(PayoutError::Inputs(coinbase.input.len()));
    }
    if coinbase.input.iter().any(|input| !input.witness.is_empty()) {
        // Its hash, as miners make it, is not that of any transaction (spec 5.3.16).
        return Err(PayoutError::Malformed("it has a witness in it".to_owned()));
    }
    let value = |script: Option<&ScriptBuf>| -> u128 {
        let outputs = coinbase.output.iter();
        let wanted = outputs.filter(|output| script.is_none_or(|script| output.script_pubkey == *script));
        wanted.map(|output| u128::from(output.value.to_sat())).sum()
    };
    let (paid, total, least_percent) = (value(Some(&expected.script)), value(None), expected.least_percent);
    if !coinbase.output.iter().any(|output| output.script_pubkey == expected.script) {
        return Err(PayoutError::Unpaid);
    }
    if paid * 100 < total * u128::from(least_percent) {
        return Err(PayoutError::Underpaid { paid, total, least_percent });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

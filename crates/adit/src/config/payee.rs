//! Whom an upstream's blocks must pay, as an operator writes it.

use std::str::FromStr as _;

use adit_channel::{Reward, RewardError, UserIdentity};
use adit_translator::upstream::payout::Expectation;
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network, ScriptBuf};

/// The part of a block that must go to a bare address or script, unless the operator has another view: pools that take such a user name for
/// whom a block pays keep a fee of it.
const LEAST_PERCENT: u8 = 90;

/// The networks whose addresses differ; those of all test networks but regtest are alike.
const NETWORKS: [Network; 3] = [Network::Bitcoin, Network::Signet, Network::Regtest];

/// What cannot be checked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayeeError {
    #[error("{0:?} is not a script in hexadecimal, as in raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)")]
    Script(String),
    #[error(
        "{text:?} is not a Bitcoin address{}; write an address, sri/solo/ADDRESS, sri/donate/PERCENT/ADDRESS, raw(SCRIPT), or user",
        why.as_ref().map_or_else(String::new, |why| format!(", and none of the forms with one: {why}"))
    )]
    Nobody { text: String, why: Option<RewardError> },
    #[error("{0:?} asks for blocks that pay the pool all; leave this out, or name an address")]
    Present(String),
    #[error("is to follow the user, which is missing")]
    Missing,
}

/// What `pays` asks for: an address, a script, a user name in one of the forms that say whom a block pays, or `user` for the upstream's own.
pub(crate) fn expectation(
    pays: &str,
    user: Option<&str>,
    percent: Option<u8>,
) -> Result<Expectation, PayeeError> {
    let (script, usual) = match (pays, raw(pays)) {
        (_, Some(hex)) => {
            let script = ScriptBuf::from_hex(hex).ok().filter(|script| !script.is_empty());
            (script.ok_or_else(|| PayeeError::Script(hex.to_owned()))?, LEAST_PERCENT)
        }
        ("user", None) => named(user.ok_or(PayeeError::Missing)?)?,
        (text, None) => named(text)?,
    };
    Ok(Expectation { script, least_percent: percent.unwrap_or(usual) })
}

/// Whom a block pays by a user name's own words, and which part of it in percent.
pub(crate) fn named(user: &str) -> Result<(ScriptBuf, u8), PayeeError> {
    let nobody = |why| PayeeError::Nobody { text: user.to_owned(), why };
    let identity = UserIdentity::from_wire(user.as_bytes()).map_err(|_| nobody(None))?;
    let is_elsewhere = |read: &Result<Reward, RewardError>| matches!(read, Err(RewardError::WrongNetwork(_)));
    let mut read = NETWORKS.into_iter().map(|network| Reward::of(&identity, network));
    match read.find(|read| !is_elsewhere(read)) {
        Some(Ok(Reward::Solo(address))) => Ok((address.script_pubkey(), 100)),
        Some(Ok(Reward::Split { pool, miner })) => Ok((miner.script_pubkey(), 100 - pool.to_u8())),
        Some(Ok(Reward::Donated)) => Err(PayeeError::Present(user.to_owned())),
        Some(Ok(Reward::Pooled)) => {
            let address =
                Address::<NetworkUnchecked>::from_str(identity.account()).map_err(|_| nobody(None))?;
            Ok((address.assume_checked().script_pubkey(), LEAST_PERCENT))
        }
        Some(Err(error)) => Err(nobody(Some(error))),
        None => Err(nobody(None)),
    }
}

/// What stands within `raw(...)`.
fn raw(text: &str) -> Option<&str> {
    text.strip_prefix("raw(")?.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of the three kinds of networks, by the test vectors of BIP 173, and the first one ever paid.
    const ADDRESSES: [&str; 4] = [
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    ];

    fn script(address: &str) -> ScriptBuf {
        address.parse::<Address<NetworkUnchecked>>().unwrap().assume_checked().script_pubkey()
    }

    #[test]
    fn an_address_could_be_expected_and_nothing_else() {
        for address in ADDRESSES {
            let script = script(address);
            for (form, percent) in [
                ("ADDRESS", 90),
                ("ADDRESS.farm", 90),
                ("sri/solo/ADDRESS", 100),
                ("sri/solo/ADDRESS/farm", 100),
                ("sri/donate/30/ADDRESS", 70),
                ("sri/donate/1/ADDRESS/farm", 99),
            ] {
                let text = form.replace("ADDRESS", address);
                let expected = |least_percent| Ok(Expectation { script: script.clone(), least_percent });
                assert_eq!(expectation(&text, None, None), expected(percent), "{text}");
                assert_eq!(expectation("user", Some(&text), None), expected(percent), "{text}");
                assert_eq!(expectation("user", Some(&text), Some(50)), expected(50), "{text}");
            }
            let raw = format!("raw({})", script.to_hex_string());
            assert_eq!(expectation(&raw, None, None), Ok(Expectation { script, least_percent: 90 }));
        }
    }

    #[test]
    fn what_cannot_be_expected_is_said() {
        for (pays, user, told) in [
            ("nobody", "", "\"nobody\" is not a Bitcoin address; write an address"),
            ("user", "account.farm", "\"account.farm\" is not a Bitcoin address; write an address"),
            ("user", "sri/donate", "\"sri/donate\" asks for blocks that pay the pool all"),
            ("sri/donate/100/x", "", "the donated part must be a whole number of percent from 1 to 99"),
            ("sri/what", "", "sri/ but is none of"),
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "", "an address with a mistake in it"),
            ("raw(xyz)", "", "\"xyz\" is not a script in hexadecimal"),
            ("raw()", "", "\"\" is not a script in hexadecimal"),
        ] {
            let error = expectation(pays, Some(user), None).unwrap_err().to_string();
            assert!(error.contains(told), "{told} in {error}");
        }
        assert_eq!(expectation("user", None, None), Err(PayeeError::Missing));
    }
}

//! Who a channel's miner wants to be paid, as its user identity says it.

use std::str::FromStr as _;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};

use crate::UserIdentity;

/// Who is to be paid by what a channel finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reward {
    /// The account that the identity names, by the pool's rules: `account[.worker]` and `address[.worker]`.
    Pooled,
    /// Nobody but the pool, as a present: `sri/donate[/worker]`.
    Donated,
    /// The miner, who wants the whole block: `sri/solo/address[/worker]`.
    Solo(Address),
    /// The miner, who wants the block but for a part that the pool may keep: `sri/donate/percent/address[/worker]`.
    Split {
        /// The pool's part, 1 to 99 percent.
        pool_percent: u8,
        /// Where the rest goes.
        miner: Address,
    },
}

/// An identity that cannot be paid; the miner's settings are wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// It begins like one of the forms with slashes and goes on like none of them.
    #[error(
        "user name begins with sri/ but is none of sri/solo/ADDRESS, sri/donate, sri/donate/PERCENT/ADDRESS"
    )]
    UnknownForm,
    /// The part for the pool is not a whole number from 1 to 99.
    #[error("the donated part must be a whole number of percent from 1 to 99")]
    Percent,
    /// It is or is meant to be an address, but has a mistake.
    #[error("user name has an address with a mistake in it: copy it again")]
    Malformed,
    /// It is an address of another network.
    #[error("user name has an address that is not of {0}: use one of your own there")]
    WrongNetwork(Network),
}

impl Reward {
    /// Reads an identity on a pool of this network.
    ///
    /// # Errors
    ///
    /// If it says who is to be paid, but that cannot be done. Names that do not look like addresses are accounts.
    pub fn of(user: &UserIdentity, network: Network) -> Result<Self, RewardError> {
        let mut parts = user.as_str().split('/');
        if parts.next() != Some("sri") || !user.as_str().contains('/') {
            return match address(user.account(), network)? {
                Some(_) | None => Ok(Self::Pooled),
            };
        }
        let (form, rest) = (parts.next(), parts.collect::<Vec<_>>());
        match (form, &*rest) {
            (Some("solo"), [miner] | [miner, _]) => Ok(Self::Solo(payable(miner, network)?)),
            (Some("donate"), [] | [_]) => Ok(Self::Donated),
            (Some("donate"), [percent, miner] | [percent, miner, _]) => {
                let pool_percent = percent.parse().ok().filter(|percent| (1..=99).contains(percent));
                let pool_percent = pool_percent.ok_or(RewardError::Percent)?;
                Ok(Self::Split { pool_percent, miner: payable(miner, network)? })
            }
            _ => Err(RewardError::UnknownForm),
        }
    }
}

/// An address where there must be one.
fn payable(text: &str, network: Network) -> Result<Address, RewardError> {
    address(text, network)?.ok_or(RewardError::Malformed)
}

/// The address that a text is; `None` where it does not look like one.
fn address(text: &str, network: Network) -> Result<Option<Address>, RewardError> {
    match Address::<NetworkUnchecked>::from_str(text) {
        Ok(address) => {
            address.require_network(network).map(Some).map_err(|_| RewardError::WrongNetwork(network))
        }
        Err(_) if is_meant_as_address(text) => Err(RewardError::Malformed),
        Err(_) => Ok(None),
    }
}

/// Whether whoever wrote this most likely meant an address, so that nobody mines for an account with a typing error in its name.
fn is_meant_as_address(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_segwit = ["bc1", "tb1", "bcrt1"].iter().any(|start| lower.starts_with(start))
        && SEGWIT_LEN.contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|byte| kind(&byte));
    let is_legacy = text.starts_with(['1', '2', '3', 'm', 'n'])
        && LEGACY_LEN.contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase);
    is_segwit || is_legacy
}

/// How long an address with a checksum in the newer forms can be, give or take a few letters.
const SEGWIT_LEN: core::ops::RangeInclusive<usize> = 30..=90;
/// How long one in the older forms can be, give or take a few letters.
const LEGACY_LEN: core::ops::RangeInclusive<usize> = 25..=37;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Test vectors of BIP 173 and BIP 350, and the first address ever paid.
    const MAINNET: [&str; 4] = [
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    ];
    const SIGNET: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    const REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    fn user(text: &str) -> UserIdentity {
        UserIdentity::from_wire(text.as_bytes()).unwrap()
    }

    fn reward(text: &str, network: Network) -> Result<Reward, RewardError> {
        Reward::of(&user(text), network)
    }

    fn at(text: &str, network: Network) -> Address {
        Address::from_str(text).unwrap().require_network(network).unwrap()
    }

    #[test]
    fn accounts_and_addresses_of_the_network_are_pooled() {
        for name in ["", "alice", "alice.rig", ".rig", "sri", "sri.1", "m", "bc1", "1234567890", "bob/solo"] {
            assert_eq!(reward(name, Network::Bitcoin), Ok(Reward::Pooled), "{name}");
        }
        for address in MAINNET {
            assert_eq!(reward(address, Network::Bitcoin), Ok(Reward::Pooled));
            assert_eq!(reward(&format!("{address}.rig"), Network::Bitcoin), Ok(Reward::Pooled));
        }
        assert_eq!(reward(SIGNET, Network::Signet), Ok(Reward::Pooled));
        assert_eq!(reward(SIGNET, Network::Testnet4), Ok(Reward::Pooled));
        assert_eq!(reward(REGTEST, Network::Regtest), Ok(Reward::Pooled));
    }

    #[test]
    fn an_address_of_another_network_is_refused() {
        for (text, network) in [
            (SIGNET, Network::Bitcoin),
            (REGTEST, Network::Signet),
            (MAINNET[0], Network::Regtest),
            (MAINNET[3], Network::Testnet4),
        ] {
            for text in [text.to_owned(), format!("{text}.rig"), format!("sri/solo/{text}/rig")] {
                assert_eq!(reward(&text, network), Err(RewardError::WrongNetwork(network)), "{text}");
            }
        }
    }

    #[test]
    fn an_address_with_a_typing_error_is_refused() {
        for text in [
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0a.rig",
            "sri/solo/1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb/rig",
            "sri/solo/alice",
            "sri/donate/5/alice/rig",
        ] {
            assert_eq!(reward(text, Network::Bitcoin), Err(RewardError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_forms_of_the_reference_implementation_are_read() {
        let miner = at(SIGNET, Network::Signet);
        let read = |text: &str| reward(&text.replace("ADDRESS", SIGNET), Network::Signet);
        assert_eq!(read("sri/solo/ADDRESS"), Ok(Reward::Solo(miner.clone())));
        assert_eq!(read("sri/solo/ADDRESS/rig.1"), Ok(Reward::Solo(miner.clone())));
        assert_eq!(read("sri/donate"), Ok(Reward::Donated));
        assert_eq!(read("sri/donate/rig"), Ok(Reward::Donated));
        for pool_percent in [1, 50, 99] {
            let split = Ok(Reward::Split { pool_percent, miner: miner.clone() });
            assert_eq!(read(&format!("sri/donate/{pool_percent}/ADDRESS/rig")), split);
            assert_eq!(read(&format!("sri/donate/{pool_percent}/ADDRESS")), split);
        }
        for percent in ["0", "100", "-1", "1.5", "", "300", "x"] {
            assert_eq!(read(&format!("sri/donate/{percent}/ADDRESS/rig")), Err(RewardError::Percent));
        }
        for text in
            ["sri/", "sri/sole/ADDRESS", "sri/solo", "sri/solo/ADDRESS/a/b", "sri/donate/1/ADDRESS/a/b"]
        {
            assert_eq!(read(text), Err(RewardError::UnknownForm), "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_wrong_letter_never_makes_an_account(place in 3_usize..42, letter in "[a-z0-9]") {
            let mut text = MAINNET[0].to_owned();
            text.replace_range(place..=place, &letter);
            if text != MAINNET[0] {
                prop_assert_eq!(reward(&text, Network::Bitcoin), Err(RewardError::Malformed));
            }
        }

        #[test]
        fn any_text_gets_an_answer(text in "(sri/)?[a-z0-9/.]{0,60}") {
            let _answer = reward(&text, Network::Bitcoin);
        }
    }
}

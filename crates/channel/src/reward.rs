//! Who a channel's miner wants to be paid, as its user identity says it.

use std::str::FromStr as _;

use adit_units::Sats;
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
        /// The pool's part.
        pool: Percent,
        /// Where the rest goes.
        miner: Address,
    },
}

/// A part of something: 1 to 99 in a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    /// So many in a hundred, or `None` where that is nothing, all or more.
    #[must_use]
    pub fn new(percent: u8) -> Option<Self> {
        (1..=99).contains(&percent).then_some(Self(percent))
    }

    /// The number, 1 to 99.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self.0
    }

    /// That part of an amount, without the fraction of a satoshi.
    #[must_use]
    pub fn of(self, amount: Sats) -> Sats {
        let (hundreds, rest, percent) = (amount.to_sats() / 100, amount.to_sats() % 100, u64::from(self.0));
        Sats::from_sats(hundreds * percent + rest * percent / 100)
    }
}

/// Who owes a share its reward: what an account of shares has to know, so that nothing is paid twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RewardKind {
    /// The pool: the share counts for the account that its user identity names.
    #[default]
    Pooled,
    /// Nobody: the work was a present to the pool.
    Donated,
    /// Nobody: had it been a block, the block itself would have paid the miner all.
    Solo,
    /// Nobody: had it been a block, the block itself would have paid the miner all but the pool's part.
    Split(Percent),
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
    /// It is or is meant to be an address, but has a mistake or something around it.
    #[error(
        "user name has an address with a mistake in it: copy it again, and write it as ADDRESS or ADDRESS.WORKER"
    )]
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
                None if names_an_address(user) => Err(RewardError::Malformed),
                Some(_) | None => Ok(Self::Pooled),
            };
        }
        let (form, rest) = (parts.next(), parts.collect::<Vec<_>>());
        match (form, &*rest) {
            (Some("solo"), [miner] | [miner, _]) => Ok(Self::Solo(payable(miner, network)?)),
            (Some("donate"), [] | [_]) => Ok(Self::Donated),
            (Some("donate"), [percent, miner] | [percent, miner, _]) => {
                let pool = percent.parse().ok().and_then(Percent::new).ok_or(RewardError::Percent)?;
                Ok(Self::Split { pool, miner: payable(miner, network)? })
            }
            _ => Err(RewardError::UnknownForm),
        }
    }

    /// Whom the pool is to credit for shares of such a channel while its blocks pay the pool all the same: whoever wanted blocks of his own
    /// is known by his address, written as `address[.worker]`; everybody else as he is.
    #[must_use]
    pub fn payee(&self, user: &UserIdentity) -> UserIdentity {
        let parts = match self {
            Self::Pooled | Self::Donated => return user.clone(),
            Self::Solo(_) => user.as_str().splitn(4, '/').skip(2).collect::<Vec<_>>(),
            Self::Split { .. } => user.as_str().splitn(5, '/').skip(3).collect(),
        };
        // It is shorter than what it is made of, and of the same characters.
        UserIdentity::from_wire(parts.join(".").as_bytes()).unwrap_or_else(|_| user.clone())
    }

    /// Who owes the shares of such a channel their reward.
    #[must_use]
    pub const fn kind(&self) -> RewardKind {
        match *self {
            Self::Pooled => RewardKind::Pooled,
            Self::Donated => RewardKind::Donated,
            Self::Solo(_) => RewardKind::Solo,
            Self::Split { pool, .. } => RewardKind::Split(pool),
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
        Err(_) => Ok(None),
    }
}

/// Whether whoever wrote this most likely meant an address, so that nobody mines for an account that cannot be paid: one with a typing
/// error, with something before it as in a payment link, or with a worker behind another separator than ours.
fn names_an_address(user: &UserIdentity) -> bool {
    let text = user.as_str();
    let in_account = text.find('.').unwrap_or(text.len());
    let runs = || runs(text).take_while(|(at, _)| *at < in_account);
    // A wrong character that is no letter breaks an address in two, the second of which may look like a worker.
    let broken = |(at, first): (usize, &str)| {
        let rest = text.get(at + first.len()..).unwrap_or_default();
        let Some((gap, second)) = self::runs(rest).next() else { return false };
        let is_one_character = rest.get(..gap).is_some_and(|gap| gap.chars().count() == 1);
        is_one_character && first.len() >= BROKEN_LEN_MIN && looks_broken(&format!("{first}{second}"))
    };
    runs().any(|(_, run)| looks_like_address(run)) || runs().any(broken)
}

/// The stretches of plain letters and digits in a text, with the places where they begin.
fn runs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    let pieces = text.split(|character: char| !character.is_ascii_alphanumeric()).map(move |piece| {
        let start = at;
        let separator = text.get(start + piece.len()..).and_then(|rest| rest.chars().next());
        at = start + piece.len() + separator.map_or(0, char::len_utf8);
        (start, piece)
    });
    pieces.filter(|(_, piece)| !piece.is_empty())
}

/// Whether letters and digits begin like an address and are as many.
fn looks_like_address(run: &str) -> bool {
    let lower = run.to_ascii_lowercase();
    let is_segwit = ["bc1", "tb1", "bcrt1"].iter().any(|start| lower.starts_with(start));
    let is_legacy = run.starts_with(['1', '2', '3', 'm', 'n'])
        && LEGACY_LEN.contains(&run.len())
        && [u8::is_ascii_digit, u8::is_ascii_uppercase, u8::is_ascii_lowercase]
            .iter()
            .all(|kind| run.bytes().any(|byte| kind(&byte)));
    is_legacy || is_segwit && run.len() >= SEGWIT_LEN_MIN
}

/// Whether two stretches together look like an address so much that what is between them is a mistake. Names in words do not.
fn looks_broken(joined: &str) -> bool {
    let digits = joined.bytes().filter(u8::is_ascii_digit).count();
    looks_like_address(joined) && digits >= BROKEN_DIGITS_MIN
}

/// How long an address with a checksum in the newer forms is at least, give or take a few letters.
const SEGWIT_LEN_MIN: usize = 30;
/// How long one in the older forms can be, give or take a few letters.
const LEGACY_LEN: core::ops::RangeInclusive<usize> = 25..=37;
/// How many letters of an address there must be before a character that has no place in it, to tell it from the name of an account.
const BROKEN_LEN_MIN: usize = 3;
/// How many digits an address has in any case but very few; most have about ten.
const BROKEN_DIGITS_MIN: usize = 4;

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
    fn who_wanted_blocks_of_his_own_is_known_to_the_pool_by_his_address() {
        let address = MAINNET[0];
        for (text, known_as) in [
            ("alice.rig".to_owned(), "alice.rig".to_owned()),
            ("sri/donate/rig".to_owned(), "sri/donate/rig".to_owned()),
            (format!("sri/solo/{address}"), address.to_owned()),
            (format!("sri/solo/{address}/rig.7"), format!("{address}.rig.7")),
            (format!("sri/donate/5/{address}"), address.to_owned()),
            (format!("sri/donate/5/{address}/rig"), format!("{address}.rig")),
        ] {
            let user = user(&text);
            let payee = Reward::of(&user, Network::Bitcoin).unwrap().payee(&user);
            assert_eq!(payee.as_str(), known_as);
            assert!(Reward::of(&payee, Network::Bitcoin).is_ok(), "{text}");
        }
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
    fn an_address_with_something_around_it_never_makes_an_account_that_nobody_can_be_paid_on() {
        for address in MAINNET {
            for text in [
                format!("bitcoin:{address}"),
                format!("bitcoin:{address}?amount=1"),
                format!("{address}/rig"),
                format!("{address}_rig"),
                format!("{address}+{address}"),
                format!("{address}-a-worker-whose-name-is-far-longer-than-any-address-and-has-no-end"),
                format!("({address})"),
                format!("{address}\u{a0}rig.1"),
                format!("SRI/solo/{address}"),
                format!("farm_{address}.rig"),
            ] {
                assert_eq!(reward(&text, Network::Bitcoin), Err(RewardError::Malformed), "{text}");
            }
            for text in [format!(" {address}"), format!("{address} "), format!("{address} .rig")] {
                assert_eq!(reward(&text, Network::Bitcoin), Ok(Reward::Pooled), "{text:?}");
                assert_eq!(user(&text).account(), address, "space around an address is none of it");
            }
        }
    }

    #[test]
    fn names_in_words_are_accounts() {
        for name in [
            "bc1-mining-in-the-north-of-norway-and-sweden",
            "nice Mining Farm Number 1 of the North",
            "2nd-Container.Row-17-of-the-Northern-Hall",
            "m.1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "alice.bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "550e8400-e29b-41d4-a716-446655440000",
            "alice@example.org/rig",
        ] {
            assert_eq!(reward(name, Network::Bitcoin), Ok(Reward::Pooled), "{name}");
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
        for percent in [1, 50, 99] {
            let split = Ok(Reward::Split { pool: Percent::new(percent).unwrap(), miner: miner.clone() });
            assert_eq!(read(&format!("sri/donate/{percent}/ADDRESS/rig")), split);
            assert_eq!(read(&format!("sri/donate/{percent}/ADDRESS")), split);
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

    #[test]
    fn a_part_is_rounded_down_and_never_all() {
        assert_eq!([0, 100, 255].map(Percent::new), [None; 3]);
        let part = |percent, amount| Percent::new(percent).unwrap().of(Sats::from_sats(amount)).to_sats();
        assert_eq!([part(1, 99), part(1, 100), part(50, 3), part(99, 101)], [0, 1, 1, 99]);
    }

    proptest! {
        #[test]
        fn one_wrong_character_never_makes_an_account(
            which in 0_usize..MAINNET.len(),
            place in 3_usize..34,
            wrong in "[ -~]|\\PC",
        ) {
            let mut text = MAINNET[which].to_owned();
            text.replace_range(place..=place, &wrong);
            let Ok(user) = UserIdentity::from_wire(text.as_bytes()) else { return Ok(()) };
            if text != MAINNET[which] {
                prop_assert_eq!(Reward::of(&user, Network::Bitcoin), Err(RewardError::Malformed), "{}", text);
            }
        }

        #[test]
        fn one_character_more_never_makes_an_account(
            which in 0_usize..MAINNET.len(),
            place in 3_usize..=34,
            more in "[ -~]|\\PC",
        ) {
            let mut text = MAINNET[which].to_owned();
            text.insert_str(place, &more);
            let Ok(user) = UserIdentity::from_wire(text.as_bytes()) else { return Ok(()) };
            let payable = user.account() == MAINNET[which];
            prop_assert_eq!(Reward::of(&user, Network::Bitcoin).is_ok(), payable, "{}", text);
        }

        #[test]
        fn a_part_is_exact(percent in 1_u8..=99, amount in any::<u64>()) {
            let exact = u128::from(amount) * u128::from(percent) / 100;
            let part = Percent::new(percent).unwrap().of(Sats::from_sats(amount));
            prop_assert_eq!(u128::from(part.to_sats()), exact);
        }

        #[test]
        fn any_text_gets_an_answer(text in "(sri/)?([a-z0-9/.]|\\PC){0,60}") {
            if let Ok(user) = UserIdentity::from_wire(text.as_bytes()) {
                let _answer = Reward::of(&user, Network::Bitcoin);
            }
        }
    }
}

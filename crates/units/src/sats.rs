//! Satoshis, counted exactly.

use core::fmt;

/// An amount of money in satoshis; arithmetic is checked, because a satoshi is never lost or made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sats(u64);

impl Sats {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// All the money there can be: 21 million bitcoins.
    pub const MAX_MONEY: Self = Self(21_000_000 * 100_000_000);

    /// An amount of that many satoshis.
    #[must_use]
    pub const fn from_sats(sats: u64) -> Self {
        Self(sats)
    }

    /// The number of satoshis.
    #[must_use]
    pub const fn to_sats(self) -> u64 {
        self.0
    }

    /// The sum, or `None` if it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` if it would be negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum of many amounts, or `None` if it does not fit.
    #[must_use]
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// What a block at `height` may create on the main network, testnets and signets (BIP 42 caps the halvings).
    ///
    /// `halving_interval` is 210 000 blocks there and 150 on regtest.
    ///
    /// # Panics
    ///
    /// If `halving_interval` is zero.
    #[must_use]
    pub fn subsidy(height: crate::Height, halving_interval: u32) -> Self {
        assert!(halving_interval > 0, "a chain halves its subsidy after some number of blocks");
        let halvings = height.0 / halving_interval;
        Self(5_000_000_000_u64.checked_shr(halvings).unwrap_or(0))
    }
}

/// As bitcoins with eight decimals, the form of node and block explorers.
impl fmt::Display for Sats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08} BTC", self.0 / 100_000_000, self.0 % 100_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Height;

    #[test]
    fn arithmetic_refuses_what_does_not_fit() {
        assert_eq!(Sats::from_sats(3).checked_add(Sats::from_sats(4)), Some(Sats::from_sats(7)));
        assert_eq!(Sats::from_sats(u64::MAX).checked_add(Sats::from_sats(1)), None);
        assert_eq!(Sats::from_sats(1).checked_sub(Sats::from_sats(2)), None);
        assert_eq!(Sats::checked_sum([Sats::from_sats(u64::MAX), Sats::from_sats(1)]), None);
    }

    #[test]
    fn subsidy_halves_and_ends() {
        assert_eq!(Sats::subsidy(Height(0), 210_000).to_sats(), 5_000_000_000);
        assert_eq!(Sats::subsidy(Height(209_999), 210_000).to_sats(), 5_000_000_000);
        assert_eq!(Sats::subsidy(Height(840_000), 210_000).to_sats(), 312_500_000);
        assert_eq!(Sats::subsidy(Height(64 * 210_000), 210_000), Sats::ZERO);
        assert_eq!(Sats::subsidy(Height(150), 150).to_sats(), 2_500_000_000);
    }

    #[test]
    fn prints_as_bitcoins() {
        assert_eq!(Sats::from_sats(312_500_001).to_string(), "3.12500001 BTC");
    }
}

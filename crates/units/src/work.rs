//! Expected hashes: what a share is worth, and sums of it.

use core::fmt;

use crate::Target;

/// An expected number of hashes, the worth of one share.
///
/// A share is worth `floor(2^256 / (T + 1))` of the target that its job was issued with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work(u128);

impl Work {
    /// No work.
    pub const ZERO: Self = Self(0);

    /// That many expected hashes.
    #[must_use]
    pub const fn from_hashes(hashes: u128) -> Self {
        Self(hashes)
    }

    /// The expected number of hashes.
    #[must_use]
    pub const fn to_hashes(self) -> u128 {
        self.0
    }

    /// The sum, stopping at the greatest value (a miner would hash for longer than the universe has existed).
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whole shares of difficulty one, the unit of `SubmitShares.Success.new_shares_sum` (spec 5.3.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shares(pub u64);

/// Work that has been accepted but not yet reported in whole shares of difficulty one; the remainder is carried, never lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkSum(Work);

impl WorkSum {
    /// Adds the work of one share.
    pub fn add(&mut self, work: Work) {
        self.0 = self.0.saturating_add(work);
    }

    /// Takes out the whole shares of difficulty one and keeps the rest.
    pub fn take_shares(&mut self) -> Shares {
        let unit = Target::DIFFICULTY_1.to_work().to_hashes();
        let shares = u64::try_from(self.0.to_hashes() / unit).unwrap_or(u64::MAX);
        self.0 = Work(self.0.to_hashes() - u128::from(shares) * unit);
        Shares(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_carries_what_is_less_than_a_share() {
        let unit = Target::DIFFICULTY_1.to_work().to_hashes();
        let mut sum = WorkSum::default();
        sum.add(Work::from_hashes(unit - 1));
        assert_eq!(sum.take_shares(), Shares(0));
        sum.add(Work::from_hashes(unit + 1));
        assert_eq!(sum.take_shares(), Shares(2));
        assert_eq!(sum.take_shares(), Shares(0));
    }

    #[test]
    fn a_sum_beyond_the_wire_is_reported_in_parts() {
        let mut sum = WorkSum::default();
        sum.add(Work::from_hashes(u128::MAX));
        assert_eq!(sum.take_shares(), Shares(u64::MAX));
        assert!(sum.take_shares() > Shares(0));
    }
}

//! Hashes per second, and how often a miner should submit.

use core::fmt;

use crate::{Target, Work};

/// A speed in hashes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hashrate(u64);

/// A nominal hash rate that is not a number of hashes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HashrateError;

impl fmt::Display for HashrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nominal hash rate must be a finite number of hashes per second, not negative")
    }
}

impl core::error::Error for HashrateError {}

impl Hashrate {
    /// That many hashes per second.
    #[must_use]
    pub const fn from_hashes_per_second(hashes: u64) -> Self {
        Self(hashes)
    }

    /// The number of hashes per second.
    #[must_use]
    pub const fn to_hashes_per_second(self) -> u64 {
        self.0
    }

    /// Reads `nominal_hash_rate` (spec 5.3.2, `F32`); what exceeds 2^64 h/s is cut to that.
    ///
    /// # Errors
    ///
    /// If the value is not a number, infinite or negative.
    pub fn from_wire(hashes_per_second: f32) -> Result<Self, HashrateError> {
        if !hashes_per_second.is_finite() || hashes_per_second < 0.0 {
            return Err(HashrateError);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "finite and not negative; the cast saturates at the top and drops a fraction of a hash"
        )]
        Ok(Self(hashes_per_second as u64))
    }

    /// The value as `nominal_hash_rate` carries it, rounded to what an `F32` can hold.
    #[must_use]
    pub fn to_wire(self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "the protocol's field is an F32")]
        let hashes_per_second = self.0 as f32;
        hashes_per_second
    }

    /// The target at which a miner of this speed finds shares at `rate` on average.
    ///
    /// A speed of zero gives the easiest target; callers bound the result by their floor.
    #[must_use]
    pub fn target_at(self, rate: ShareRate) -> Target {
        Target::from_work(self.work_at(rate))
    }

    /// What a share is worth at the least where this speed finds shares at `rate` on average.
    #[must_use]
    pub fn work_at(self, rate: ShareRate) -> Work {
        let hashes_per_minute = u128::from(self.0) * 60;
        Work::from_hashes(hashes_per_minute / u128::from(rate.0.max(1)))
    }
}

/// With an SI prefix and three significant digits, as miners speak of it: `1.23 TH/s`.
impl fmt::Display for Hashrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
        let (mut scale, mut prefix) = (1_u64, "");
        for (power, name) in (0_u32..).zip(PREFIXES) {
            let candidate = 1000_u64.pow(power);
            if self.0 >= candidate {
                (scale, prefix) = (candidate, name);
            }
        }
        let (whole, rest) = (self.0 / scale, u128::from(self.0 % scale) * 1000 / u128::from(scale));
        match whole {
            _ if scale == 1 => write!(f, "{whole} H/s"),
            0..10 => write!(f, "{whole}.{:02} {prefix}H/s", rest / 10),
            10..100 => write!(f, "{whole}.{} {prefix}H/s", rest / 100),
            _ => write!(f, "{whole} {prefix}H/s"),
        }
    }
}

/// How many shares a minute a channel is meant to submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareRate(u32);

impl ShareRate {
    /// That many shares a minute; zero counts as one.
    #[must_use]
    pub const fn from_shares_per_minute(shares: u32) -> Self {
        Self(if shares == 0 { 1 } else { shares })
    }

    /// The number of shares a minute, at least one.
    #[must_use]
    pub const fn to_shares_per_minute(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_wire_values_are_refused_or_cut() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, -f32::MIN_POSITIVE] {
            assert_eq!(Hashrate::from_wire(bad), Err(HashrateError), "{bad}");
        }
        assert_eq!(Hashrate::from_wire(-0.0), Ok(Hashrate(0)));
        assert_eq!(Hashrate::from_wire(f32::MIN_POSITIVE), Ok(Hashrate(0)));
        assert_eq!(Hashrate::from_wire(1e12), Ok(Hashrate(999_999_995_904)));
        assert_eq!(Hashrate::from_wire(f32::MAX), Ok(Hashrate(u64::MAX)));
    }

    #[test]
    fn a_terahash_at_six_a_minute_needs_ten_terahashes_a_share() {
        let rate = ShareRate::from_shares_per_minute(6);
        let work = Hashrate(1_000_000_000_000).target_at(rate).to_work().to_hashes();
        assert_eq!(work, 10_000_000_000_000);
        assert_eq!(Hashrate(0).target_at(rate), Target::MAX);
    }

    #[test]
    fn prints_as_miners_speak() {
        for (hashes, text) in [
            (0, "0 H/s"),
            (999, "999 H/s"),
            (1_230, "1.23 kH/s"),
            (45_600_000, "45.6 MH/s"),
            (1_000_000_000_000, "1.00 TH/s"),
            (u64::MAX, "18.4 EH/s"),
        ] {
            assert_eq!(Hashrate(hashes).to_string(), text);
        }
    }
}

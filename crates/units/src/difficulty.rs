//! Difficulty: how much harder than the easiest target of the early network a share is.

use core::fmt;
use core::str::FromStr;

use crate::Target;

/// How many times harder than [`Target::DIFFICULTY_1`] a share is, in exact steps of a trillionth.
///
/// This is the number that SV1 machines are told. It is never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Difficulty(u128);

/// Trillionths in one.
const UNIT: u128 = 1_000_000_000_000;
/// Decimals of a trillionth.
const DECIMALS: usize = 12;
/// The numerator of both divisions is this, shifted left by [`TAIL`] bits: difficulty one's target in trillionths.
const HEAD: u128 = 0xffff * UNIT;
/// Zero bits below [`HEAD`].
const TAIL: u32 = 208;

/// A text that is no difficulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifficultyError {
    /// The text is not a decimal number.
    NotANumber,
    /// The number is negative, zero or less than a trillionth.
    TooSmall,
    /// The number is greater than 10^18.
    TooGreat,
}

impl fmt::Display for DifficultyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "difficulty must be a decimal number such as 512 or 0.001",
            Self::TooSmall => "difficulty must be greater than zero, by at least a trillionth",
            Self::TooGreat => "difficulty must not be greater than 10^18",
        })
    }
}

impl core::error::Error for DifficultyError {}

impl Difficulty {
    /// Difficulty one.
    pub const ONE: Self = Self(UNIT);
    /// The greatest that is read from text.
    const TEXT_MAX: Self = Self(1_000_000_000_000_000_000 * UNIT);
    /// The exponents of the powers of two that [`Self::power_of_two_near`] gives; the least is the last that has no more decimals than
    /// fit.
    const POWERS: core::ops::RangeInclusive<i32> = -12..=60;

    /// That many trillionths; zero counts as one.
    #[must_use]
    pub const fn from_trillionths(trillionths: u128) -> Self {
        Self(if trillionths == 0 { 1 } else { trillionths })
    }

    /// The number of trillionths, at least one.
    #[must_use]
    pub const fn to_trillionths(self) -> u128 {
        self.0
    }

    /// A whole difficulty; zero counts as a trillionth.
    #[must_use]
    pub const fn from_whole(difficulty: u64) -> Self {
        Self::from_trillionths(difficulty as u128 * UNIT)
    }

    /// Half of it, at least a trillionth.
    #[must_use]
    pub const fn half(self) -> Self {
        Self::from_trillionths(self.0 / 2)
    }

    /// The target that shares of this difficulty must meet: [`Target::DIFFICULTY_1`] divided by it, rounded down, at most
    /// [`Target::MAX`].
    #[must_use]
    pub fn to_target(self) -> Target {
        let (mut quotient, mut remainder) = ((0_u128, HEAD / self.0), HEAD % self.0);
        let mut left = TAIL;
        while left > 0 {
            // The remainder is less than the divisor, so it can be shifted as far as the divisor could be.
            let step = self.0.leading_zeros().min(left).min(127);
            let digits;
            let shift = if step == 0 {
                let fits = remainder >> 127 != 0 || remainder << 1 >= self.0;
                remainder = (remainder << 1).wrapping_sub(if fits { self.0 } else { 0 });
                digits = u128::from(fits);
                1
            } else {
                let dividend = remainder << step;
                digits = dividend / self.0;
                remainder = dividend % self.0;
                step
            };
            let (high, low) = quotient;
            if high >> (128 - shift) != 0 {
                return Target::MAX;
            }
            quotient = ((high << shift) | (low >> (128 - shift)), (low << shift) | digits);
            left -= shift;
        }
        Target::from_halves(quotient)
    }

    /// How hard a target is: [`Target::DIFFICULTY_1`] divided by it, rounded down to trillionths, at least one of them.
    #[must_use]
    pub fn from_target(target: Target) -> Self {
        if target == Target::ZERO {
            return Self(u128::MAX);
        }
        let (mut quotient, mut remainder, mut left) = match target.halves() {
            (0, low) => (HEAD / low, Target::from_halves((0, HEAD % low)), TAIL),
            (high, _) => {
                // As long as the numerator has fewer bits than the divisor, no digit of the quotient is set.
                let bits = 256 - high.leading_zeros();
                let skipped = (bits - 1 - HEAD.ilog2() - 1).min(TAIL);
                let start = match skipped.checked_sub(128) {
                    Some(beyond) => (HEAD << beyond, 0),
                    None => (HEAD.checked_shr(128 - skipped).unwrap_or(0), HEAD << skipped),
                };
                (0, Target::from_halves(start), TAIL - skipped)
            }
        };
        while left > 0 {
            let carry = remainder.halves().0 >> 127 != 0;
            remainder = remainder.shift_in(false);
            let fits = carry || remainder >= target;
            if fits {
                remainder = remainder.wrapping_sub(target);
            }
            if quotient >> 127 != 0 {
                return Self(u128::MAX);
            }
            quotient = (quotient << 1) | u128::from(fits);
            left -= 1;
        }
        Self::from_trillionths(quotient)
    }

    /// The power of two, from 2^-12 to 2^60, that is nearest to a target's difficulty on the logarithmic scale.
    #[must_use]
    pub fn power_of_two_near(target: Target) -> Self {
        // The square root of two, which lies in the middle between two powers, in parts of 10^8: with the greatest power, that is all
        // that 128 bits hold.
        const MIDDLE: u128 = 141_421_356;
        const PARTS: u128 = 100_000_000;
        let least = Self::power_of_two(*Self::POWERS.start());
        let greatest = Self::power_of_two(*Self::POWERS.end());
        let exact = Self::from_target(target).clamp(least, greatest);
        // The power of two that is not greater.
        let power = least.0 << (exact.0 / least.0).ilog2();
        let nearer_above = exact.0 * PARTS > power * MIDDLE;
        Self(power << u32::from(nearer_above)).min(greatest)
    }

    /// `2^exponent`, for an exponent in [`Self::POWERS`].
    const fn power_of_two(exponent: i32) -> Self {
        let magnitude = exponent.unsigned_abs();
        Self(if exponent < 0 { UNIT >> magnitude } else { UNIT << magnitude })
    }
}

/// As a JSON number: without an exponent, with decimals only if it is not whole, and then without trailing zeros.
impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut decimals, mut width) = (self.0 / UNIT, self.0 % UNIT, DECIMALS);
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        while decimals.is_multiple_of(10) {
            decimals /= 10;
            width -= 1;
        }
        write!(f, "{whole}.{decimals:0width$}")
    }
}

impl fmt::Debug for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Difficulty({self})")
    }
}

/// Reads a decimal number, with or without decimals and exponent, a plus sign and space around it; what is finer than a trillionth is
/// cut off.
impl FromStr for Difficulty {
    type Err = DifficultyError;

    fn from_str(text: &str) -> Result<Self, DifficultyError> {
        let text = text.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (text, 0),
        };
        let (digits, power) = read_mantissa(mantissa)?;
        if negative || digits == 0 {
            return Err(DifficultyError::TooSmall);
        }
        let power = power.saturating_add(exponent).saturating_add(12);
        let scale = u32::try_from(power.unsigned_abs()).ok().and_then(|power| 10_u128.checked_pow(power));
        let trillionths = match (power >= 0, scale) {
            (true, scale) => {
                scale.and_then(|scale| digits.checked_mul(scale)).ok_or(DifficultyError::TooGreat)?
            }
            (false, Some(scale)) => digits / scale,
            (false, None) => 0,
        };
        match trillionths {
            0 => Err(DifficultyError::TooSmall),
            _ if trillionths > Self::TEXT_MAX.0 => Err(DifficultyError::TooGreat),
            _ => Ok(Self(trillionths)),
        }
    }
}

/// The digits of a number without its sign and exponent, and the power of ten of the last of them.
///
/// Digits behind the 36th significant one are cut off: they are finer than a trillionth, or the number is too great anyway.
fn read_mantissa(text: &str) -> Result<(u128, i64), DifficultyError> {
    const SIGNIFICANT_MAX: u128 = 10_u128.pow(35);
    let (mut digits, mut power, mut any, mut behind_point) = (0_u128, 0_i64, false, false);
    for byte in text.bytes() {
        match byte {
            b'.' if !behind_point => {
                behind_point = true;
                continue;
            }
            b'0'..=b'9' => any = true,
            _ => return Err(DifficultyError::NotANumber),
        }
        let cut = digits >= SIGNIFICANT_MAX;
        if !cut {
            digits = digits * 10 + u128::from(byte - b'0');
        }
        // A digit that is cut before the point makes the rest worth more, one that is kept behind it makes all worth less.
        match (behind_point, cut) {
            (false, true) => power += 1,
            (true, false) => power -= 1,
            (false, false) | (true, true) => {}
        }
    }
    if any { Ok((digits, power)) } else { Err(DifficultyError::NotANumber) }
}

/// The exponent of ten; one that no number needs is as good as its bound.
fn read_exponent(text: &str) -> Result<i64, DifficultyError> {
    const BOUND: i64 = 1 << 32;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DifficultyError::NotANumber);
    }
    let magnitude =
        digits.bytes().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(BOUND));
    Ok(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, DifficultyError> {
        text.parse::<Difficulty>().map(|difficulty| difficulty.to_string())
    }

    /// `a * b` on little-endian digits in base 256, as at school.
    fn multiply(a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut product = vec![0_u32; a.len() + b.len() + 1];
        for (i, &x) in a.iter().enumerate() {
            for (j, &y) in b.iter().enumerate() {
                product[i + j] += u32::from(x) * u32::from(y);
            }
            for k in 0..product.len() - 1 {
                product[k + 1] += product[k] >> 8;
                product[k] &= 0xff;
            }
        }
        product.iter().map(|&digit| u8::try_from(digit).unwrap()).collect()
    }

    /// Compares little-endian digits as numbers.
    fn less_or_equal(a: &[u8], b: &[u8]) -> bool {
        let width = a.len().max(b.len());
        let digits = |x: &[u8]| (0..width).rev().map(|i| x.get(i).copied().unwrap_or(0)).collect::<Vec<_>>();
        digits(a) <= digits(b)
    }

    /// Difficulty one's target in trillionths.
    fn numerator() -> Vec<u8> {
        multiply(&Target::DIFFICULTY_1.to_le_bytes(), &UNIT.to_le_bytes())
    }

    /// Adds one to little-endian digits.
    fn plus_one(bytes: &[u8]) -> Vec<u8> {
        let mut sum = [bytes, &[0]].concat();
        for digit in &mut sum {
            *digit = digit.wrapping_add(1);
            if *digit != 0 {
                break;
            }
        }
        sum
    }

    #[test]
    fn reads_what_miners_write() {
        for (text, number) in [
            ("512", "512"),
            ("0.001", "0.001"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            (" +7.50 ", "7.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("00042", "42"),
            ("0.00024414062500000000479", "0.000244140625"),
            ("1e-12", "0.000000000001"),
            ("1000000000000000000", "1000000000000000000"),
            ("1e18", "1000000000000000000"),
            ("100000000000000000000000000000000000000000000e-40", "10000"),
            ("0.00000000000000000000000000000000000000000000001e47", "1"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(number), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_difficulty() {
        for text in
            ["", "-", ".", "e5", "1e", "1e+", "NaN", "inf", "0x10", "1,5", "1.2.3", "1 2", "1e5.0", "٣"]
        {
            assert_eq!(read(text), Err(DifficultyError::NotANumber), "{text}");
        }
        for text in ["0", "-0", "0.0", "-1", "1e-13", "0e99", "1e-99999999999999999999"] {
            assert_eq!(read(text), Err(DifficultyError::TooSmall), "{text}");
        }
        for text in ["1000000000000000000.000000000001", "1e19", "1e99999999999999999999", &"9".repeat(400)] {
            assert_eq!(read(text), Err(DifficultyError::TooGreat), "{text}");
        }
    }

    #[test]
    fn targets_at_the_edges() {
        assert_eq!(Difficulty::ONE.to_target(), Target::DIFFICULTY_1);
        assert_eq!(Difficulty::from_target(Target::DIFFICULTY_1), Difficulty::ONE);
        assert_eq!(Difficulty::from_trillionths(0).to_trillionths(), 1);
        assert_eq!(Difficulty::from_trillionths(1).to_target(), Target::MAX);
        assert_eq!(Difficulty::from_target(Target::ZERO).to_trillionths(), u128::MAX);
        assert_eq!(Difficulty::from_target(Target::from_halves((0, 1))).to_trillionths(), u128::MAX);
        assert_eq!(Difficulty::from_target(Target::MAX).to_string(), "0.000000000232");
        assert_eq!(
            Difficulty::from_whole(8).to_target().to_string(),
            "000000001fffe000000000000000000000000000000000000000000000000000"
        );
        assert_eq!(Difficulty::from_whole(1).half().to_string(), "0.5");
        assert_eq!(Difficulty::from_trillionths(1).half().to_trillionths(), 1);
    }

    #[test]
    fn the_nearest_power_of_two() {
        for (text, power) in [
            ("1", "1"),
            ("1.4", "1"),
            ("1.42", "2"),
            ("0.707", "0.5"),
            ("0.7072", "1"),
            ("1000", "1024"),
            ("700", "512"),
            ("0.000001", "0.000244140625"),
            ("0.00034", "0.000244140625"),
            ("0.00035", "0.00048828125"),
            ("1e18", "1152921504606846976"),
        ] {
            let target = text.parse::<Difficulty>().unwrap().to_target();
            assert_eq!(Difficulty::power_of_two_near(target).to_string(), power, "{text}");
        }
        assert_eq!(Difficulty::power_of_two_near(Target::ZERO), Difficulty::from_whole(1 << 60));
        assert_eq!(Difficulty::power_of_two_near(Target::MAX).to_string(), "0.000244140625");
    }

    proptest! {
        #[test]
        fn text_round_trips(trillionths in 1_u128..=Difficulty::TEXT_MAX.0, shift in 0_u32..100) {
            let difficulty = Difficulty::from_trillionths(trillionths >> shift);
            let text = difficulty.to_string();
            prop_assert_eq!(text.parse(), Ok(difficulty), "{}", text);
            prop_assert!(!text.contains(['e', 'E']) && !text.ends_with('.'));
        }

        #[test]
        fn reading_never_panics(text in "[-+0-9.eE ]{0,40}") {
            if let Ok(difficulty) = text.parse::<Difficulty>() {
                // Binary floating point is the naive twin, as far as it is exact.
                let naive: f64 = text.trim().parse().unwrap();
                let found: f64 = difficulty.to_string().parse().unwrap();
                prop_assert!((naive - found).abs() <= naive * 1e-12 + 1e-12, "{naive} {found}");
            }
        }

        /// The quotient times the divisor is the greatest product that is not above the numerator.
        #[test]
        fn to_target_is_the_quotient_rounded_down(trillionths: u128, shift in 0_u32..128) {
            let difficulty = Difficulty::from_trillionths(trillionths >> shift);
            let target = difficulty.to_target();
            let divisor = difficulty.to_trillionths().to_le_bytes();
            prop_assert!(less_or_equal(&multiply(&target.to_le_bytes(), &divisor), &numerator()));
            let above = multiply(&plus_one(&target.to_le_bytes()), &divisor);
            prop_assert!(target == Target::MAX || !less_or_equal(&above, &numerator()));
        }

        #[test]
        fn from_target_is_the_quotient_rounded_down(bytes: [u8; 32], zeros in 0_usize..32) {
            let mut bytes = bytes;
            bytes[32 - zeros..].fill(0);
            bytes[0] |= 1;
            let trillionths = Difficulty::from_target(Target::from_le_bytes(bytes)).to_trillionths();
            let product = multiply(&trillionths.to_le_bytes(), &bytes);
            prop_assert!(trillionths == 1 || less_or_equal(&product, &numerator()));
            let above = multiply(&plus_one(&trillionths.to_le_bytes()), &bytes);
            prop_assert!(trillionths == u128::MAX || !less_or_equal(&above, &numerator()));
        }

        #[test]
        fn the_power_is_within_a_factor_of_the_root_of_two(exponent in 0_u32..61, fraction in 0_u128..1_000_000) {
            let difficulty = Difficulty((UNIT << exponent) / 1_000_000 * (1_000_000 + fraction));
            let power = Difficulty::power_of_two_near(difficulty.to_target()).to_trillionths();
            let (near, exact) = (power as f64, difficulty.to_trillionths() as f64);
            let factor = (near / exact).max(exact / near);
            prop_assert!(exponent == 60 || factor <= 2_f64.sqrt() * (1.0 + 1e-6), "{difficulty} {power}");
        }
    }
}

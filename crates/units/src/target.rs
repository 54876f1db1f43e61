//! The number that a block hash must not exceed.

use core::fmt;

use bitcoin::CompactTarget;

use crate::Work;

/// A 256-bit target; a hash meets it when, read as a little-endian number, it is not greater.
///
/// Orders as a number: a greater target is easier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    // The order of the fields is the order of significance, which the derived comparisons rely on.
    high: u128,
    low: u128,
}

impl Target {
    /// The easiest target: every hash meets it.
    pub const MAX: Self = Self { high: u128::MAX, low: u128::MAX };
    /// The hardest target.
    pub const ZERO: Self = Self { high: 0, low: 0 };
    /// The target of difficulty one: `0xffff << 208`.
    pub const DIFFICULTY_1: Self = Self { high: 0xffff << 80, low: 0 };

    /// Reads a target as the wire carries it (`U256`, little-endian), which is also the byte order of a raw SHA-256d hash.
    #[must_use]
    pub fn from_le_bytes(bytes: [u8; 32]) -> Self {
        let (low, high) = split(bytes);
        Self { high: u128::from_le_bytes(high), low: u128::from_le_bytes(low) }
    }

    /// The target as the wire carries it (`U256`, little-endian).
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (low, high) = bytes.split_at_mut(16);
        low.copy_from_slice(&self.low.to_le_bytes());
        high.copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    /// The target of a number's most and least significant 128 bits.
    pub(crate) const fn from_halves((high, low): (u128, u128)) -> Self {
        Self { high, low }
    }

    /// The most and the least significant 128 bits.
    pub(crate) const fn halves(self) -> (u128, u128) {
        (self.high, self.low)
    }

    /// Expands the `nbits` of a block header: a length in bytes, then the three most significant of them.
    ///
    /// Negative and overflowing forms give [`Self::ZERO`], as nodes accept no hash for them.
    #[must_use]
    pub fn from_compact(nbits: CompactTarget) -> Self {
        let [length, mantissa @ ..] = nbits.to_consensus().to_be_bytes();
        let [sign_and_first, ..] = mantissa;
        if sign_and_first & 0x80 != 0 {
            return Self::ZERO;
        }
        let mut bytes = [0; 32];
        for (digit, position) in mantissa.into_iter().zip((0..length).rev()) {
            match bytes.get_mut(usize::from(position)) {
                Some(byte) => *byte = digit,
                None if digit == 0 => {}
                None => return Self::ZERO,
            }
        }
        Self::from_le_bytes(bytes)
    }

    /// The nearest `nbits` form that is not easier than this target.
    #[must_use]
    pub fn to_compact(self) -> CompactTarget {
        bitcoin::Target::from_le_bytes(self.to_le_bytes()).to_compact_lossy()
    }

    /// The greatest target whose expected work is at least `work` hashes.
    #[must_use]
    pub fn from_work(work: Work) -> Self {
        // T + 1 = floor(2^256 / work), and 2^256 / w = floor((2^256 - w) / w) + 1.
        match work.to_hashes() {
            0 | 1 => Self::MAX,
            hashes => Self::pow_256_div(hashes).decrement(),
        }
    }

    /// Whether the raw little-endian `hash` is not greater than the target.
    #[must_use]
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        Self::from_le_bytes(*hash) <= *self
    }

    /// The expected number of hashes to meet this target: `floor(2^256 / (T + 1))`, at most `u128::MAX`.
    #[must_use]
    pub fn to_work(self) -> Work {
        match self.increment() {
            None => Work::from_hashes(1),
            // The quotient would need more than 128 bits.
            Some(Self { high: 0, .. }) => Work::from_hashes(u128::MAX),
            Some(divisor) => Work::from_hashes(divisor.divides_pow_256()),
        }
    }

    /// `self + 1`, or `None` when that is 2^256.
    fn increment(self) -> Option<Self> {
        let (low, carry) = self.low.overflowing_add(1);
        let high = self.high.checked_add(u128::from(carry))?;
        Some(Self { high, low })
    }

    /// `self - 1`, stopping at zero.
    fn decrement(self) -> Self {
        match (self.high, self.low.overflowing_sub(1)) {
            (0, (_, true)) => Self::ZERO,
            (high, (low, borrow)) => Self { high: high - u128::from(borrow), low },
        }
    }

    /// `floor(2^256 / divisor)` for a divisor of at least two, by long division in base two.
    fn pow_256_div(divisor: u128) -> Self {
        let (mut quotient, mut remainder) = (Self::ZERO, 1_u128);
        for _ in 0..256 {
            let carry = remainder >> 127 != 0;
            remainder <<= 1;
            let fits = carry || remainder >= divisor;
            if fits {
                remainder = remainder.wrapping_sub(divisor);
            }
            quotient = quotient.shift_in(fits);
        }
        quotient
    }

    /// `floor(2^256 / self)` for `self >= 2^128`, so that the quotient is at most 2^128 and is capped to fit.
    fn divides_pow_256(self) -> u128 {
        // The digits of the quotient begin at the greatest power of two that is not above the divisor: before it they are zeros.
        let begun = 255 - self.high.leading_zeros();
        let power = Self { high: 1 << (begun - 128), low: 0 };
        let is_power = power == self;
        let (mut quotient, mut remainder) = (u128::from(is_power), if is_power { Self::ZERO } else { power });
        for _ in begun..256 {
            let carry = remainder.high >> 127 != 0;
            remainder = remainder.shift_in(false);
            let fits = carry || remainder >= self;
            if fits {
                remainder = remainder.wrapping_sub(self);
            }
            if quotient >> 127 != 0 {
                return u128::MAX;
            }
            quotient = (quotient << 1) | u128::from(fits);
        }
        quotient
    }

    /// Doubles, dropping the top bit, and sets the lowest bit to `bit`.
    pub(crate) fn shift_in(self, bit: bool) -> Self {
        Self { high: (self.high << 1) | (self.low >> 127), low: (self.low << 1) | u128::from(bit) }
    }

    /// `self - other` modulo 2^256.
    pub(crate) fn wrapping_sub(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Self { high: self.high.wrapping_sub(other.high).wrapping_sub(u128::from(borrow)), low }
    }
}

/// The low and the high half of 32 bytes.
fn split(bytes: [u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut low, mut high) = ([0; 16], [0; 16]);
    let (l, h) = bytes.split_at(16);
    low.copy_from_slice(l);
    high.copy_from_slice(h);
    (low, high)
}

/// Hexadecimal, most significant digit first, as nodes print targets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{:032x}", self.high, self.low)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The naive twin: rust-bitcoin's 256-bit work, cut to 128 bits.
    fn naive_work(target: Target) -> u128 {
        let work = bitcoin::Target::from_le_bytes(target.to_le_bytes()).to_work().to_be_bytes();
        let (high, low) = work.split_at(16);
        if high.iter().any(|&byte| byte != 0) {
            return u128::MAX;
        }
        u128::from_be_bytes(low.try_into().unwrap())
    }

    #[test]
    fn difficulty_one_is_worth_a_little_over_four_billion_hashes() {
        assert_eq!(Target::DIFFICULTY_1, Target::from_compact(CompactTarget::from_consensus(0x1d00_ffff)));
        assert_eq!(Target::DIFFICULTY_1.to_work().to_hashes(), 0x1_0001_0001);
    }

    #[test]
    fn compact_forms_that_no_node_accepts_are_met_by_nothing() {
        let expand = |nbits| Target::from_compact(CompactTarget::from_consensus(nbits)).to_string();
        let zero = "0".repeat(64);
        for nbits in
            [0, 0x0180_0000, 0x0492_3456, 0xff7f_ffff, 0x2300_0001, 0x2200_0100, 0x2101_0000, 0x407f_ffff]
        {
            assert_eq!(expand(nbits), zero, "{nbits:08x}");
        }
        // The lowest bytes of short forms are cut; the greatest forms that fit are kept.
        for (nbits, tail) in
            [(0x0112_3456, "12"), (0x0212_3456, "1234"), (0x0312_3456, "123456"), (0x0412_3456, "12345600")]
        {
            assert_eq!(expand(nbits), format!("{}{tail}", "0".repeat(64 - tail.len())), "{nbits:08x}");
        }
        assert_eq!(expand(0x2200_00ff), format!("ff{}", "0".repeat(62)));
        assert_eq!(expand(0x2100_ffff), format!("ffff{}", "0".repeat(60)));
        assert_eq!(expand(0x207f_ffff), format!("7fffff{}", "0".repeat(58)));
    }

    #[test]
    fn work_at_the_edges() {
        assert_eq!(Target::MAX.to_work().to_hashes(), 1);
        assert_eq!(Target::ZERO.to_work().to_hashes(), u128::MAX);
        assert_eq!(Target { high: 0, low: u128::MAX }.to_work().to_hashes(), u128::MAX);
        assert_eq!(Target { high: 1, low: 0 }.to_work().to_hashes(), u128::MAX);
        for exponent in 1..128 {
            let power = Work::from_hashes(1 << exponent);
            assert_eq!(Target::from_work(power).to_work(), power, "divided by a power of two");
        }
        assert_eq!(Target::from_work(Work::from_hashes(0)), Target::MAX);
        assert_eq!(Target::from_work(Work::from_hashes(2)), Target { high: u128::MAX >> 1, low: u128::MAX });
    }

    #[test]
    fn compares_as_numbers_not_as_bytes() {
        let small = Target::from_le_bytes({
            let mut bytes = [0; 32];
            bytes[0] = 0xff;
            bytes
        });
        let large = Target::from_le_bytes({
            let mut bytes = [0; 32];
            bytes[31] = 1;
            bytes
        });
        assert!(small < large);
        assert!(large.is_met_by(&small.to_le_bytes()));
        assert!(!small.is_met_by(&large.to_le_bytes()));
    }

    #[test]
    fn prints_like_a_node() {
        assert_eq!(
            Target::DIFFICULTY_1.to_string(),
            "00000000ffff0000000000000000000000000000000000000000000000000000"
        );
    }

    proptest! {
        /// The naive twin wraps on forms that no node accepts, so only the others are compared.
        #[test]
        fn compact_forms_expand_as_rust_bitcoin_says(length in 0_u32..=32, mantissa in 0_u32..0x80_0000) {
            let nbits = CompactTarget::from_consensus(length << 24 | mantissa);
            let naive = bitcoin::Target::from_compact(nbits).to_le_bytes();
            prop_assert_eq!(Target::from_compact(nbits).to_le_bytes(), naive);
        }

        #[test]
        fn a_compact_form_is_never_easier(bytes: [u8; 32]) {
            let target = Target::from_le_bytes(bytes);
            prop_assert!(Target::from_compact(target.to_compact()) <= target);
        }

        #[test]
        fn bytes_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(Target::from_le_bytes(bytes).to_le_bytes(), bytes);
        }

        #[test]
        fn work_agrees_with_the_naive_twin(bytes: [u8; 32], zeros in 0_usize..32) {
            let mut bytes = bytes;
            bytes[32 - zeros..].fill(0);
            let target = Target::from_le_bytes(bytes);
            prop_assert_eq!(target.to_work().to_hashes(), naive_work(target));
        }

        #[test]
        fn target_of_work_is_the_easiest_that_is_worth_it(hashes in 2_u128.., shift in 0_u32..127) {
            let hashes = (hashes >> shift).max(2);
            let target = Target::from_work(Work::from_hashes(hashes));
            prop_assert!(target.to_work().to_hashes() >= hashes);
            let easier = target.increment().expect("work of two or more is never the greatest target");
            prop_assert!(easier.to_work().to_hashes() < hashes || hashes == u128::MAX);
        }

        #[test]
        fn meeting_agrees_with_rust_bitcoin(hash: [u8; 32], target: [u8; 32]) {
            use bitcoin::hashes::Hash as _;
            let naive = bitcoin::Target::from_le_bytes(target).is_met_by(bitcoin::BlockHash::from_byte_array(hash));
            prop_assert_eq!(Target::from_le_bytes(target).is_met_by(&hash), naive);
        }
    }
}

//! Durations counted in buckets that are exact where it matters, so that a run of any length takes little memory.

use core::time::Duration;

/// Buckets of one power of two, as a power of two itself: a bucket is at most a thousandth wider than its start.
const PRECISION: u32 = 10;
/// Buckets in all; the last one also takes what is longer than about an hour.
const BUCKETS: usize = (1 << PRECISION) + (22 << (PRECISION - 1));

/// How often durations came up, in microseconds; exact below a millisecond, to a part in 512 above.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// The quantiles of a [`Histogram`] that a report shows, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50: u64,
    /// Nine of ten were faster.
    pub p90: u64,
    /// 99 of a hundred were faster.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    /// One more duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// How many durations were recorded.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The duration in microseconds that `per_mille` of a thousand do not exceed, rounded up to its bucket's end; 0 without any.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (u128::from(self.total) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut below = 0_u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank {
                return bucket_end(bucket).min(self.max);
            }
        }
        self.max
    }

    /// What a report shows, unless nothing was recorded.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        let quantile = |per_mille| self.quantile(per_mille);
        (self.total > 0).then(|| Quantiles {
            p50: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            max: self.max,
        })
    }
}

/// The bucket of a number of microseconds.
fn bucket(micros: u64) -> usize {
    let bits = u64::BITS - micros.leading_zeros();
    let shift = bits.saturating_sub(PRECISION);
    let rest = usize::try_from(micros >> shift).unwrap_or(usize::MAX);
    // Each power of two above the exact range adds half as many buckets as that range has.
    (rest + ((shift as usize) << (PRECISION - 1))).min(BUCKETS - 1)
}

/// The greatest number of microseconds that falls into a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let half = 1_usize << (PRECISION - 1);
    let shift = (bucket / half).saturating_sub(1);
    let rest = bucket - shift * half;
    ((rest as u64 + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_recorded_has_no_quantiles() {
        assert_eq!(Histogram::default().quantiles(), None);
    }

    #[test]
    fn what_is_longer_than_any_bucket_is_still_the_greatest() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.quantiles().unwrap().max, 100_000_000_000);
    }

    proptest! {
        /// The naive twin sorts everything.
        #[test]
        fn quantiles_are_those_of_a_sorted_list(
            mut micros in prop::collection::vec(prop_oneof![0_u64..2_000, 0_u64..4_000_000_000], 1..300),
            per_mille in 1_u64..=1000,
        ) {
            let mut histogram = Histogram::default();
            micros.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
            micros.sort_unstable();
            let rank = (micros.len() as u64 * per_mille).div_ceil(1000).max(1);
            let place = usize::try_from(rank - 1).unwrap();
            let (exact, found) = (micros[place], histogram.quantile(per_mille));
            prop_assert!(found >= exact && found - exact <= exact / 512, "{found} for {exact}");
        }

        #[test]
        fn a_number_lies_in_its_bucket(micros in 0_u64..4_000_000_000) {
            let bucket = bucket(micros);
            prop_assert!(micros <= bucket_end(bucket));
            prop_assert!(bucket == 0 || micros > bucket_end(bucket - 1));
        }
    }
}

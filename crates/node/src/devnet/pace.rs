//! How hard the blocks of a devnet are.

use core::time::Duration;

use adit_units::Work;

use super::chain::Chain;

/// How many blocks the measured hash rate is taken over.
const WINDOW: usize = 8;
/// How many times harder or easier than the last one a block can be.
const MAX_STEP: u128 = 4;
/// The least work of a block; below this the chain would run away from its miners.
const MIN_WORK: u128 = 256;

/// How hard the blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Always that many expected hashes.
    Fixed(Work),
    /// As hard as it takes for the blocks to come at this interval with the miners that are there.
    Interval {
        /// The expected hashes of the first block.
        first: Work,
        /// The time that a block should take.
        block: Duration,
    },
}

impl Pace {
    /// The work of the first block.
    pub(super) const fn first(self) -> Work {
        match self {
            Self::Fixed(work) | Self::Interval { first: work, .. } => work,
        }
    }

    /// The work of the block after the last one of `chain`.
    pub(super) fn next(self, chain: &Chain) -> Work {
        match self {
            Self::Fixed(work) => work,
            Self::Interval { block, .. } => {
                let last = chain.tip().work.to_hashes();
                let fitting = measured(chain, block).max(last / MAX_STEP).min(last.saturating_mul(MAX_STEP));
                Work::from_hashes(fitting.max(MIN_WORK))
            }
        }
    }
}

/// The hashes that the miners did in the last blocks, per `interval`.
fn measured(chain: &Chain, interval: Duration) -> u128 {
    let mut links = chain.last(WINDOW);
    let Some(first) = links.next() else { return 0 };
    let hashes = links.map(|link| link.work).fold(Work::ZERO, Work::saturating_add).to_hashes();
    let elapsed = (chain.tip().received - first.received).as_micros().max(1);
    hashes.saturating_mul(interval.as_micros()) / elapsed
}

#[cfg(test)]
mod tests {
    use adit_units::{Monotonic, Now};
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash as _;

    use super::*;

    const PACE: Pace = Pace::Interval { first: Work::from_hashes(1 << 20), block: Duration::from_secs(4) };

    /// Mines `blocks` with a miner of `rate` hashes per second, exactly as long as each takes; gives the time of the last one.
    fn mine(rate: u64, blocks: u32) -> Duration {
        let mut chain = Chain::new(BlockHash::all_zeros(), PACE.first(), Now::default());
        let (mut now, mut last) = (Monotonic::default(), Duration::ZERO);
        for number in 0..blocks {
            let work = chain.next_target().to_work();
            last = Duration::from_micros(u64::try_from(work.to_hashes() * 1_000_000).unwrap() / rate);
            now = now + last;
            chain.extend(BlockHash::hash(&number.to_le_bytes()), 0, work, now);
            chain.set_next_work(PACE.next(&chain));
        }
        last
    }

    #[test]
    fn slow_and_fast_miners_come_to_the_same_interval() {
        for rate in [1_000, 300_000, 50_000_000, 4_000_000_000] {
            let last = mine(rate, 30);
            assert!((3500..4500).contains(&last.as_millis()), "{rate} hashes per second took {last:?}");
        }
    }

    #[test]
    fn one_step_is_bounded_both_ways() {
        let mut chain = Chain::new(BlockHash::all_zeros(), PACE.first(), Now::default());
        let work = Work::from_hashes(1 << 20);
        chain.extend(BlockHash::hash(b"at once"), 0, work, Monotonic::default());
        assert_eq!(PACE.next(&chain).to_hashes(), 4 << 20);
        chain.extend(BlockHash::hash(b"a year"), 0, work, Monotonic::from_micros(1 << 45));
        assert_eq!(PACE.next(&chain).to_hashes(), 1 << 18);
        chain.extend(BlockHash::hash(b"no work"), 0, Work::from_hashes(1), Monotonic::from_micros(1 << 45));
        assert_eq!(PACE.next(&chain).to_hashes(), MIN_WORK);
    }

    #[test]
    fn a_fixed_pace_stays() {
        let mut chain = Chain::new(BlockHash::all_zeros(), Work::from_hashes(2), Now::default());
        chain.extend(BlockHash::hash(b"slow"), 0, Work::from_hashes(2), Monotonic::from_micros(1 << 45));
        assert_eq!(Pace::Fixed(Work::from_hashes(2)).next(&chain), Work::from_hashes(2));
    }
}

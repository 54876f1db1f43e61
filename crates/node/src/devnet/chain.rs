//! The blocks of a devnet, as far as later ones depend on them.

use std::collections::{HashMap, VecDeque};

use adit_units::{Height, Monotonic, Now, Target, Work};
use bitcoin::BlockHash;

/// How many blocks are remembered; an older one is as unknown as if it had never been.
const REMEMBERED_BLOCKS: usize = 100_000;
/// How many blocks the median time past looks back over (consensus, BIP 113).
const MEDIAN_TIME_SPAN: usize = 11;

/// One block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) hash: BlockHash,
    /// The header's time, in seconds since 1970.
    pub(super) time: u32,
    /// What the block's target stands for.
    pub(super) work: Work,
    /// When the block came.
    pub(super) received: Monotonic,
}

/// All remembered blocks, never empty, and the difficulty of the next.
#[derive(Debug)]
pub(super) struct Chain {
    links: VecDeque<Link>,
    heights: HashMap<BlockHash, Height>,
    tip: Link,
    height: Height,
    next_work: Work,
}

impl Chain {
    pub(super) fn new(genesis: BlockHash, next_work: Work, now: Now) -> Self {
        let tip = Link { hash: genesis, time: now.unix.to_secs(), work: Work::ZERO, received: now.monotonic };
        Self {
            links: VecDeque::from([tip]),
            heights: HashMap::from([(genesis, Height(0))]),
            tip,
            height: Height(0),
            next_work,
        }
    }

    pub(super) const fn tip(&self) -> &Link {
        &self.tip
    }

    pub(super) const fn height(&self) -> Height {
        self.height
    }

    pub(super) fn height_of(&self, hash: &BlockHash) -> Option<Height> {
        self.heights.get(hash).copied()
    }

    /// The last `count` blocks and the one before them, oldest first; fewer when the chain is shorter.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Link> {
        self.links.iter().skip(self.links.len().saturating_sub(count + 1))
    }

    /// The target of the next block.
    pub(super) fn next_target(&self) -> Target {
        Target::from_work(self.next_work)
    }

    pub(super) const fn set_next_work(&mut self, work: Work) {
        self.next_work = work;
    }

    /// The median of the last eleven block times, in seconds since 1970.
    pub(super) fn median_time_past(&self) -> u32 {
        let mut times: Vec<u32> =
            self.links.iter().rev().take(MEDIAN_TIME_SPAN).map(|link| link.time).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    pub(super) fn extend(&mut self, hash: BlockHash, time: u32, work: Work, received: Monotonic) {
        self.tip = Link { hash, time, work, received };
        self.height = Height(self.height.0 + 1);
        self.links.push_back(self.tip);
        self.heights.insert(hash, self.height);
        if self.links.len() > REMEMBERED_BLOCKS
            && let Some(oldest) = self.links.pop_front()
        {
            self.heights.remove(&oldest.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_units::UnixTime;
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn hash(number: u32) -> BlockHash {
        BlockHash::hash(&number.to_le_bytes())
    }

    fn chain(times: &[u32]) -> Chain {
        let [first, rest @ ..] = times else { panic!("a chain has a first block") };
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(*first) };
        let mut chain = Chain::new(hash(0), Work::from_hashes(2), now);
        for (number, &time) in (1..).zip(rest) {
            chain.extend(hash(number), time, Work::from_hashes(2), Monotonic::default());
        }
        chain
    }

    #[test]
    fn the_median_is_that_of_eleven_blocks_in_any_order() {
        assert_eq!(chain(&[7]).median_time_past(), 7);
        assert_eq!(chain(&[7, 9]).median_time_past(), 9, "the upper one of two");
        assert_eq!(
            chain(&[100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).median_time_past(),
            6,
            "the twelfth is out"
        );
        assert_eq!(chain(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).median_time_past(), 6);
    }

    #[test]
    fn the_last_blocks_come_with_the_one_before_them() {
        let chain = chain(&[1, 2, 3, 4]);
        let times = |count| chain.last(count).map(|link| link.time).collect::<Vec<_>>();
        assert_eq!(times(2), [2, 3, 4]);
        assert_eq!(times(9), [1, 2, 3, 4]);
    }

    #[test]
    fn old_blocks_are_forgotten() {
        let mut chain = chain(&[0]);
        for number in 1..=u32::try_from(REMEMBERED_BLOCKS).unwrap() {
            chain.extend(hash(number), number, Work::ZERO, Monotonic::default());
        }
        assert_eq!(chain.height_of(&hash(0)), None);
        assert_eq!(chain.height_of(&hash(1)), Some(Height(1)));
        assert_eq!(chain.links.len(), REMEMBERED_BLOCKS);
        assert_eq!(chain.heights.len(), REMEMBERED_BLOCKS);
    }
}

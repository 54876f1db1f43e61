//! Hashes of the shares that were accepted on jobs without a tag, per block that they stand on.

use bitcoin::BlockHash;

use crate::Seen;

/// How many of the last blocks that jobs stood on have their hashes remembered, so that a tip may come back.
pub const SEEN_TIPS: usize = 6;

/// The duplicate check of one channel for jobs that somebody else has made.
///
/// The same job may be declared again, under another number and at any time, so nothing in a share's fields tells it from others; its header's
/// hash does ([`crate::judge_by_hash`]). A header names the block before it, so there is a set for each of these, and the hashes of a tip
/// outlive it: if the chain comes back to it, none of them earns again.
///
/// Sets are packed when the first share on a further block comes, and unpacked when one comes for a block of theirs again.
#[derive(Clone, Debug)]
pub struct SeenHashes {
    key: [u8; 16],
    limit: usize,
    /// Of how many hashes of former tips the oldest tips are forgotten when a further one comes; all of them count, also those of the last one,
    /// which stays.
    former_max: usize,
    /// The one asked for last is the last one.
    sets: Vec<(BlockHash, Kept)>,
}

/// A set, which nearly always is that of a former tip.
#[derive(Clone, Debug)]
enum Kept {
    Open(Box<Seen>),
    Packed(Box<[u64]>),
}

impl Kept {
    fn len(&self) -> usize {
        match self {
            Self::Open(seen) => seen.len(),
            Self::Packed(packed) => packed.len(),
        }
    }

    fn pack(&mut self) {
        if let Self::Open(seen) = self {
            *self = Self::Packed(seen.packed());
        }
    }
}

impl SeenHashes {
    /// None yet; at most `limit` shares will be remembered for each block, see [`Seen::new`].
    ///
    /// `key` is random and unknown to miners.
    #[must_use]
    pub const fn new(key: [u8; 16], limit: usize) -> Self {
        Self { key, limit, former_max: usize::MAX, sets: Vec::new() }
    }

    /// With a further tip former ones are forgotten, oldest first, while all of them together have more hashes than that; the last one counts, and
    /// is not forgotten however many it has.
    #[must_use]
    pub const fn with_former_max(self, former_max: usize) -> Self {
        // There is nothing to drop in a field that is overwritten.
        let mut all = self;
        all.former_max = former_max;
        all
    }

    /// The set for shares that stand on that block. With the first share on a new block, the block of [`SEEN_TIPS`] that no share has come
    /// for the longest time is forgotten.
    #[expect(
        clippy::missing_panics_doc,
        reason = "cannot happen: there is a set when the last one is asked for"
    )]
    pub fn on(&mut self, prev_hash: BlockHash) -> &mut Seen {
        match self.sets.iter().rposition(|(block, _)| *block == prev_hash) {
            Some(place) => {
                if let Some(younger) = self.sets.get_mut(place..) {
                    younger.rotate_left(1);
                }
            }
            None => self.start(prev_hash),
        }
        let (_, kept) = self.sets.last_mut().expect("it was found or put there");
        if let Kept::Packed(packed) = kept {
            *kept = Kept::Open(Box::new(Seen::unpacked(self.key, self.limit, packed)));
        }
        match kept {
            Kept::Open(seen) => seen,
            Kept::Packed(_) => unreachable!("it was unpacked"),
        }
    }

    /// How many hashes are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.iter().map(|(_, kept)| kept.len()).sum()
    }

    /// How many of these are for shares on the block that was asked for last.
    #[must_use]
    pub fn last_len(&self) -> usize {
        self.sets.last().map_or(0, |(_, kept)| kept.len())
    }

    /// From now on so many shares are remembered for each block, if that is more than before; see [`Seen::new`] for the most.
    pub fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
        if let Some((_, Kept::Open(seen))) = self.sets.last_mut() {
            seen.raise_limit(limit);
        }
    }

    /// How many are remembered for each block at most.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cold]
    fn start(&mut self, prev_hash: BlockHash) {
        self.sets.iter_mut().for_each(|(_, kept)| kept.pack());
        while self.sets.len() >= SEEN_TIPS || (self.sets.len() > 1 && self.len() > self.former_max) {
            self.sets.remove(0);
        }
        self.sets.push((prev_hash, Kept::Open(Box::new(Seen::new(self.key, self.limit)))));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use adit_units::{ChannelId, JobId, SequenceNumber, Target, UnixTime};
    use bitcoin::hashes::Hash as _;
    use proptest::prelude::*;

    use super::*;
    use crate::{Assignment, Job, JobParts, Reject, Submission, Unhashed, Verdict, fixture, judge_by_hash};

    const NOW: UnixTime = UnixTime::from_secs(fixture::TIME);

    fn block(number: u8) -> BlockHash {
        BlockHash::from_byte_array([number; 32])
    }

    /// A job without a tag that is like all others but for its number and the block that it stands on.
    fn job(id: u32, above: u32) -> Job {
        let template = fixture::template(1, fixture::tip(above, 0x1702_0000), 1);
        let made = Job::new(JobId(1), &template, &fixture::spec(&template, JobId(1), 1)).unwrap();
        Job::from_parts(JobParts { id: JobId(id), ..made.parts() }).unwrap()
    }

    fn share(job: &Job, nonce: u32) -> Submission<'static> {
        Submission {
            channel_id: ChannelId(1),
            sequence_number: SequenceNumber(0),
            job_id: job.id(),
            nonce,
            ntime: job.min_ntime(),
            version: job.version(),
            extranonce: Some(&[0; 14]),
            rest: &[],
        }
    }

    /// What a share is, and its hash.
    fn judged(seen: &mut SeenHashes, job: &Job, nonce: u32) -> (Result<(), Reject>, [u8; 32]) {
        let assignment = Assignment::extended(job, Target::MAX, &[1; 6]).unwrap();
        let submission = share(job, nonce);
        let share = Unhashed { job, assignment: &assignment, submission: &submission };
        let set = seen.on(job.tip().prev_hash);
        set.make_room().unwrap();
        match judge_by_hash(share, set, None, NOW) {
            Verdict::Valid { hash, .. } | Verdict::Block { hash, .. } => (Ok(()), hash),
            Verdict::Rejected(reject) => (Err(reject), share.hash()),
        }
    }

    #[test]
    fn a_share_earns_once_however_often_its_job_is_declared() {
        let mut seen = SeenHashes::new([1; 16], 100);
        let (first, again, other) = (job(1, 900_000), job(2, 900_000), job(3, 900_001));
        assert_eq!(judged(&mut seen, &first, 7).0, Ok(()));
        for job in [&first, &again] {
            assert_eq!(judged(&mut seen, job, 7).0, Err(Reject::DuplicateShare));
        }
        assert_eq!(judged(&mut seen, &other, 7).0, Ok(()));
        assert_eq!(judged(&mut seen, &again, 7).0, Err(Reject::DuplicateShare), "the tip came back");
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn what_a_share_is_refused_for_comes_before_its_hash() {
        let (mut seen, job) = (SeenHashes::new([1; 16], 100), job(1, 900_000));
        let set = seen.on(job.tip().prev_hash);
        set.make_room().unwrap();
        let assignment = Assignment::extended(&job, Target::MAX, &[1; 6]).unwrap();
        for (submission, reject) in [
            (Submission { extranonce: Some(&[0; 13]), ..share(&job, 1) }, Reject::BadExtranonceSize),
            (Submission { version: 0, ..share(&job, 1) }, Reject::InvalidNonRollableVersionBit),
            (Submission { ntime: 0, ..share(&job, 1) }, Reject::InvalidNtime),
        ] {
            let share = Unhashed { job: &job, assignment: &assignment, submission: &submission };
            assert_eq!(judge_by_hash(share, set, None, NOW), Verdict::Rejected(reject));
        }
        let hard = Assignment::extended(&job, job.tip().target, &[1; 6]).unwrap();
        let share = Unhashed { job: &job, assignment: &hard, submission: &share(&job, 1) };
        assert_eq!(judge_by_hash(share, set, None, NOW), Verdict::Rejected(Reject::DifficultyTooLow));
        assert!(set.is_empty());
    }

    #[test]
    fn the_block_without_shares_for_the_longest_time_is_forgotten() {
        let mut seen = SeenHashes::new([1; 16], 100);
        for number in 1..=6 {
            seen.on(block(number)).make_room().unwrap();
        }
        seen.on(block(1));
        seen.on(block(7));
        let kept: Vec<_> = seen.sets.iter().map(|(block, _)| *block).collect();
        assert_eq!(kept, [3, 4, 5, 6, 1, 7].map(block));
    }

    #[test]
    fn former_tips_take_eight_bytes_for_a_share() {
        let taken = allocation_counter::measure(|| {
            let mut seen = SeenHashes::new([1; 16], 1000);
            for above in 900_000..900_006 {
                let job = job(1, above);
                (0..100).for_each(|nonce| judged(&mut seen, &job, nonce).0.unwrap());
            }
            assert_eq!(seen.len(), 600);
            core::mem::forget(seen);
        });
        // The table of the present tip has 256 places, and those of five others would have as many each.
        let former = 5 * 100 * 8;
        assert!((former..former + 256 * 8 + 1024).contains(&taken.bytes_current), "{}", taken.bytes_current);
    }

    #[test]
    fn former_tips_but_the_last_are_forgotten_beyond_their_share() {
        let mut seen = SeenHashes::new([1; 16], 1000).with_former_max(25);
        let jobs: Vec<_> = (900_000..900_005).map(|above| job(1, above)).collect();
        let mut submit = |job: usize, nonces: core::ops::Range<u32>| -> usize {
            let results = nonces.map(|nonce| judged(&mut seen, &jobs[job], nonce).0);
            results.filter(Result::is_ok).count()
        };
        assert_eq!((submit(0, 0..10), submit(1, 0..10), submit(2, 0..10)), (10, 10, 10));
        assert_eq!(submit(0, 0..10), 0, "20 are few enough");
        assert_eq!(submit(3, 0..40), 40);
        assert_eq!(
            (submit(0, 0..10), submit(2, 0..10)),
            (0, 0),
            "of 30 those without shares for longest went"
        );
        assert_eq!(submit(4, 0..1), 1);
        assert_eq!(
            (submit(3, 0..40), submit(2, 0..10)),
            (40, 0),
            "the last one stays, however many they are"
        );
    }

    #[test]
    fn a_full_set_refuses_and_forgets_nothing() {
        let (mut seen, job) = (SeenHashes::new([1; 16], 10), job(1, 900_000));
        for nonce in 0..10 {
            assert_eq!(judged(&mut seen, &job, nonce).0, Ok(()));
        }
        let assignment = Assignment::extended(&job, Target::MAX, &[1; 6]).unwrap();
        let set = seen.on(job.tip().prev_hash);
        assert!(set.make_room().is_err());
        for nonce in 0..=10 {
            let share = Unhashed { job: &job, assignment: &assignment, submission: &share(&job, nonce) };
            let reject = if nonce < 10 { Reject::DuplicateShare } else { Reject::TooManyShares };
            assert_eq!(judge_by_hash(share, set, Some(share.hash()), NOW), Verdict::Rejected(reject));
        }
    }

    #[test]
    fn judging_takes_no_memory() {
        let (mut seen, job) = (SeenHashes::new([1; 16], 1000), job(1, 900_000));
        judged(&mut seen, &job, 0).0.unwrap();
        let assignment = Assignment::extended(&job, Target::MAX, &[1; 6]).unwrap();
        let taken = allocation_counter::measure(|| {
            for nonce in 1..40 {
                let share = Unhashed { job: &job, assignment: &assignment, submission: &share(&job, nonce) };
                let set = seen.on(job.tip().prev_hash);
                set.make_room().unwrap();
                assert!(matches!(judge_by_hash(share, set, None, NOW), Verdict::Valid { .. }));
            }
        });
        assert_eq!(taken.count_total, 0);
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_hashes_for_each_of_the_last_blocks(
            key: [u8; 16],
            shares in prop::collection::vec((0_u32..3, 0_u32..9, 0_u32..12), 1..120),
        ) {
            let mut seen = SeenHashes::new(key, 1000);
            let mut naive: Vec<(u32, HashSet<[u8; 32]>)> = Vec::new();
            for (id, above, nonce) in shares {
                let job = job(id, 900_000 + above);
                let (verdict, hash) = judged(&mut seen, &job, nonce);
                let mut set = match naive.iter().position(|&(block, _)| block == above) {
                    Some(place) => naive.remove(place).1,
                    None => HashSet::new(),
                };
                let expected = if set.insert(hash) { Ok(()) } else { Err(Reject::DuplicateShare) };
                prop_assert_eq!(verdict, expected);
                naive.push((above, set));
                naive.drain(..naive.len().saturating_sub(SEEN_TIPS));
                prop_assert_eq!(seen.len(), naive.iter().map(|(_, set)| set.len()).sum::<usize>());
            }
        }
    }
}

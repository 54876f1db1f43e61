//! The shares that a channel has had accepted under the present tip, so that none earns twice.

use siphasher::sip::SipHasher13;

use crate::MAX_EXTRANONCE_LEN;

/// Most shares that one set may remember; at eight bytes each and a third of the places empty, 16 MiB.
pub const SEEN_MAX: usize = 1 << 20;

/// Blocks that a full set remembers all the same, because a block is never refused for want of room.
///
/// They go into the third of the places that shares leave free, of which even the smallest table has more than this.
pub const BLOCK_ROOM: usize = 16;

/// Places of the smallest table that is not empty.
const FIRST_PLACES: usize = 64;
const _: () = assert!(BLOCK_ROOM < FIRST_PLACES / 3, "a probe ends at an empty place");

/// A set that may not grow further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the set of seen shares holds its {limit} shares; close the channel or raise its difficulty")]
pub struct SeenFull {
    /// How many shares it holds.
    pub limit: usize,
}

/// The duplicate check of one channel.
///
/// Remembers a fingerprint of 64 bits for each accepted share, in a table with open addressing. The fingerprint covers the job's
/// number, so one set serves all jobs of a channel, as job numbers never repeat on a connection; it may be cleared once none of
/// those jobs can earn any more.
///
/// A new set owns no memory. [`Self::make_room`] takes it, between shares, so that judging never does.
#[derive(Clone, Debug)]
pub struct Seen {
    keys: Keys,
    /// Fingerprints, zero for an empty place; the length is zero or a power of two.
    places: Vec<u64>,
    len: usize,
    /// How many more shares may be put in before the next [`Self::make_room`].
    room: usize,
    limit: usize,
}

/// Where a share stands in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is there already.
    Taken,
    /// It is not there; it belongs at this place.
    Free { index: usize, fingerprint: u64 },
    /// It is not there; it belongs at this place, but only a block may still be put in.
    BlockOnly { index: usize, fingerprint: u64 },
    /// It is not there, and nothing more may be put in.
    NoRoom,
}

impl Seen {
    /// An empty set that remembers at most `limit` shares, at least one and never more than [`SEEN_MAX`], and beyond them at most
    /// [`BLOCK_ROOM`] blocks.
    ///
    /// `key` is random and unknown to miners.
    #[must_use]
    pub fn new(key: [u8; 16], limit: usize) -> Self {
        Self { keys: Keys::new(key), places: Vec::new(), len: 0, room: 0, limit: limit.clamp(1, SEEN_MAX) }
    }

    /// Sees to it that one more share can be remembered; costs nothing when it can.
    ///
    /// # Errors
    ///
    /// If the set holds as many shares as it may.
    #[inline]
    pub fn make_room(&mut self) -> Result<(), SeenFull> {
        match self.room {
            0 => self.grow(),
            _ => Ok(()),
        }
    }

    /// Gives the table's room back after [`Self::withhold_room`], or takes a larger table if that is allowed.
    #[cold]
    fn grow(&mut self) -> Result<(), SeenFull> {
        if self.len >= self.limit {
            return Err(SeenFull { limit: self.limit });
        }
        if self.len < self.capacity() {
            self.room = self.capacity() - self.len;
            return Ok(());
        }
        let places = (self.places.len() * 2).max(FIRST_PLACES);
        let old = std::mem::replace(&mut self.places, vec![0; places]);
        self.refill(&old);
        Ok(())
    }

    /// Puts the fingerprints of `old`, which are `len`, into the empty table.
    fn refill(&mut self, old: &[u64]) {
        for &fingerprint in old.iter().filter(|&&fingerprint| fingerprint != 0) {
            if let Some(Place::Free { index, .. }) = self.probe(fingerprint) {
                self.put(index, fingerprint);
            }
        }
        self.room = self.capacity().saturating_sub(self.len);
    }

    /// What is remembered, as small as it can be: for [`Self::unpacked`].
    pub(crate) fn packed(&self) -> Box<[u64]> {
        let mut packed = Vec::with_capacity(self.len);
        packed.extend(self.places.iter().filter(|&&fingerprint| fingerprint != 0));
        packed.into()
    }

    /// A set of that key and limit that remembers what one did from which [`Self::packed`] came.
    pub(crate) fn unpacked(key: [u8; 16], limit: usize, packed: &[u64]) -> Self {
        let mut seen = Self::new(key, limit);
        if !packed.is_empty() {
            let places = (packed.len() * 3 / 2 + 1).next_power_of_two().max(FIRST_PLACES);
            (seen.places, seen.len) = (vec![0; places], packed.len());
            seen.refill(packed);
        }
        seen
    }

    /// From now on at most `limit` shares, if that is more than before; never more than [`SEEN_MAX`].
    pub fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit.min(SEEN_MAX));
    }

    /// Lets nothing but [`BLOCK_ROOM`] blocks in until the next [`Self::make_room`]: for an owner of many sets that share one
    /// budget.
    pub const fn withhold_room(&mut self) {
        self.room = 0;
    }

    /// How many shares the table may hold: two thirds of its places, which keeps probes short, and no more than the limit.
    fn capacity(&self) -> usize {
        (self.places.len() * 2 / 3).min(self.limit)
    }

    /// Forgets all shares; a table much larger than they needed is given back.
    pub fn clear(&mut self) {
        let enough = (self.len * 4).next_power_of_two().max(FIRST_PLACES);
        if self.len == 0 || self.places.len() > enough {
            self.places = Vec::new();
        } else {
            self.places.fill(0);
        }
        self.len = 0;
        self.room = self.capacity();
    }

    /// How many shares are remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no share is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What stands for a share of these two numbers and this rolled extranonce.
    #[inline]
    pub(crate) fn fingerprint(&self, first: u64, second: u64, extranonce: &[u8]) -> u64 {
        // Zero marks an empty place, so the one fingerprint that is zero becomes another.
        self.keys.fingerprint(first, second, extranonce).max(1)
    }

    /// What stands for a share whose header has that hash; means nothing in a set of shares that are told by their fields.
    #[inline]
    pub(crate) fn fingerprint_of_hash(&self, hash: &[u8; 32]) -> u64 {
        self.fingerprint(0, 0, hash)
    }

    /// Whether a share is remembered.
    #[inline]
    pub(crate) fn contains(&self, fingerprint: u64) -> bool {
        matches!(self.probe(fingerprint), Some(Place::Taken))
    }

    /// Looks for the place of a share.
    #[inline]
    pub(crate) fn find(&self, fingerprint: u64) -> Place {
        match self.probe(fingerprint) {
            Some(Place::Free { index, fingerprint }) if self.room == 0 => self.beyond(index, fingerprint),
            Some(place) => place,
            None => Place::NoRoom,
        }
    }

    /// A free place for a block, while the third that shares leave free has enough of them.
    #[cold]
    fn beyond(&self, index: usize, fingerprint: u64) -> Place {
        if self.len < self.capacity() + BLOCK_ROOM {
            Place::BlockOnly { index, fingerprint }
        } else {
            Place::NoRoom
        }
    }

    /// Remembers a share at the place where [`Self::find`] found it missing.
    #[inline]
    pub(crate) fn insert(&mut self, index: usize, fingerprint: u64) {
        self.put(index, fingerprint);
        self.len = self.len.saturating_add(1);
        self.room = self.room.saturating_sub(1);
    }

    fn put(&mut self, index: usize, fingerprint: u64) {
        if let Some(place) = self.places.get_mut(index) {
            *place = fingerprint;
        }
    }

    /// Where `fingerprint` is or belongs; `None` if there are no places at all.
    #[inline]
    fn probe(&self, fingerprint: u64) -> Option<Place> {
        let mask = self.places.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low bits choose the place; the rest is compared"
        )]
        let mut index = fingerprint as usize & mask;
        // Of the places, a third but for the room of blocks is empty, so this ends.
        loop {
            match self.places.get(index)? {
                0 => return Some(Place::Free { index, fingerprint }),
                taken if *taken == fingerprint => return Some(Place::Taken),
                _ => index = (index + 1) & mask,
            }
        }
    }
}

/// Words in the fingerprint of a share: two numbers and the longest extranonce.
const WORDS: usize = 2 + MAX_EXTRANONCE_LEN / 8;

/// The key of a set, spread out.
///
/// The fingerprint of the words `w` is the upper half of `a + b1 w1 + b2 w2 + ...` modulo 2^128 with random `a` and `b`. Over the
/// choice of these, any two different shares have equal fingerprints with a probability of 2^-64 (multilinear hashing is strongly
/// universal: Lemire and Kaser, "Strongly universal string hashing is fast", 2014), so no miner can look for shares that
/// collide. It takes a tenth of the time of a hash that could also show its results to an enemy, which this one never does.
#[derive(Clone, Debug)]
struct Keys {
    a: u128,
    b: [u128; WORDS],
}

impl Keys {
    fn new(key: [u8; 16]) -> Self {
        let random = |number: u64| {
            let half = |half: u64| {
                u128::from(SipHasher13::new_with_key(&key).hash(&(2 * number + half).to_le_bytes()))
            };
            half(0) << 64 | half(1)
        };
        let mut number = 0;
        let b = [0; WORDS].map(|_: u128| {
            number += 1;
            random(number)
        });
        Self { a: random(0), b }
    }

    /// The fingerprint; all extranonces of a set have one length, so that padding them with zeros makes no two the same.
    #[inline]
    fn fingerprint(&self, first: u64, second: u64, extranonce: &[u8]) -> u64 {
        let [b1, b2, b @ ..] = &self.b;
        let sum = self.a.wrapping_add(product(b1, first)).wrapping_add(product(b2, second));
        let (words, rest) = extranonce.as_chunks::<8>();
        let rest = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).chain([rest]);
        let sum = words.zip(b).fold(sum, |sum, (word, b)| sum.wrapping_add(product(b, word)));
        (sum >> 64) as u64
    }
}

/// A product modulo 2^128.
#[inline]
fn product(key: &u128, word: u64) -> u128 {
    key.wrapping_mul(u128::from(word))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Finds a share, and puts it in if it is not there; whether it was new.
    fn add(seen: &mut Seen, share: (u64, u64, [u8; 14])) -> Option<bool> {
        match seen.find(seen.fingerprint(share.0, share.1, &share.2)) {
            Place::Taken => Some(false),
            Place::Free { index, fingerprint } => {
                seen.insert(index, fingerprint);
                Some(true)
            }
            Place::BlockOnly { .. } | Place::NoRoom => None,
        }
    }

    #[test]
    fn a_new_set_owns_nothing_and_has_no_room_until_asked() {
        let mut seen = Seen::new([1; 16], 10);
        assert_eq!(seen.places.capacity(), 0);
        assert_eq!(add(&mut seen, (1, 2, [3; 14])), None);
        seen.make_room().unwrap();
        assert_eq!(add(&mut seen, (1, 2, [3; 14])), Some(true));
        assert_eq!(add(&mut seen, (1, 2, [3; 14])), Some(false));
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn what_was_packed_is_what_it_was() {
        for count in [0, 1, 42, 43, 85, 86, 999, 1000] {
            let mut seen = Seen::new([1; 16], 1000);
            for share in 0..count {
                seen.make_room().unwrap();
                assert_eq!(add(&mut seen, (share, 0, [0; 14])), Some(true));
            }
            let packed = seen.packed();
            assert_eq!(packed.len() as u64, count);
            let mut seen = Seen::unpacked([1; 16], 1000, &packed);
            assert_eq!(seen.len() as u64, count);
            assert!((0..count).all(|share| add(&mut seen, (share, 0, [0; 14])) == Some(false)));
            assert_eq!(seen.make_room().is_ok(), count < 1000);
            assert_eq!(add(&mut seen, (count, 0, [0; 14])), (count < 1000).then_some(true));
        }
    }

    #[test]
    fn a_full_set_with_blocks_has_room_for_as_many_when_it_was_packed() {
        let mut seen = Seen::new([1; 16], 42);
        for share in 0..42 {
            seen.make_room().unwrap();
            add(&mut seen, (share, 0, [0; 14]));
        }
        let block = |seen: &mut Seen, share| match seen.find(seen.fingerprint(share, 0, &[0; 14])) {
            Place::BlockOnly { index, fingerprint } => {
                seen.insert(index, fingerprint);
                true
            }
            Place::Taken | Place::Free { .. } | Place::NoRoom => false,
        };
        assert!((42..50).all(|share| block(&mut seen, share)));
        let mut seen = Seen::unpacked([1; 16], 42, &seen.packed());
        assert_eq!(seen.make_room(), Err(SeenFull { limit: 42 }));
        assert!((50..42 + BLOCK_ROOM as u64).all(|share| block(&mut seen, share)));
        assert!(!block(&mut seen, 100), "{} blocks and no more", BLOCK_ROOM);
    }

    #[test]
    fn the_limit_holds_and_nothing_is_forgotten_at_it() {
        let mut seen = Seen::new([1; 16], 1000);
        for share in 0..1000 {
            seen.make_room().unwrap();
            assert_eq!(add(&mut seen, (share, 0, [0; 14])), Some(true));
        }
        assert_eq!(seen.make_room(), Err(SeenFull { limit: 1000 }));
        assert_eq!(add(&mut seen, (1000, 0, [0; 14])), None);
        assert!((0..1000).all(|share| add(&mut seen, (share, 0, [0; 14])) == Some(false)));
        assert!(seen.places.len() <= 2048, "{} places for 1000 shares", seen.places.len());
    }

    #[test]
    fn a_full_set_whose_limit_is_raised_has_room_and_forgets_nothing() {
        let mut seen = Seen::new([1; 16], 1000);
        for share in 0..1500 {
            if share == 1000 {
                assert_eq!(seen.make_room(), Err(SeenFull { limit: 1000 }));
                seen.raise_limit(1500);
                seen.raise_limit(10);
            }
            seen.make_room().unwrap();
            assert_eq!(add(&mut seen, (share, 0, [0; 14])), Some(true));
        }
        assert_eq!(seen.make_room(), Err(SeenFull { limit: 1500 }));
        assert!((0..1500).all(|share| add(&mut seen, (share, 0, [0; 14])) == Some(false)));
        seen.raise_limit(usize::MAX);
        assert_eq!(seen.limit, SEEN_MAX);
    }

    #[test]
    fn a_full_table_of_any_size_keeps_places_free_behind_its_blocks() {
        for limit in 1..300 {
            let mut seen = Seen::new([1; 16], limit);
            let mut share = 0;
            while seen.make_room().is_ok() {
                share += 1;
                assert_eq!(add(&mut seen, (share, 0, [0; 14])), Some(true));
            }
            for block in 0..BLOCK_ROOM as u64 {
                let print = seen.fingerprint(block, 1, &[]);
                let Place::BlockOnly { index, fingerprint } = seen.find(print) else {
                    panic!("no room for block {block} beyond {limit} shares");
                };
                seen.insert(index, fingerprint);
                assert_eq!((seen.find(print), seen.contains(print)), (Place::Taken, true));
            }
            assert_eq!(seen.find(seen.fingerprint(u64::MAX, 1, &[])), Place::NoRoom);
            assert!(seen.places.contains(&0) && seen.len() == limit + BLOCK_ROOM);
        }
    }

    #[test]
    fn room_that_was_withheld_comes_back_without_a_larger_table() {
        let mut seen = Seen::new([1; 16], 1000);
        seen.make_room().unwrap();
        assert_eq!(add(&mut seen, (1, 0, [0; 14])), Some(true));
        seen.withhold_room();
        assert_eq!(add(&mut seen, (2, 0, [0; 14])), None);
        assert_eq!(add(&mut seen, (1, 0, [0; 14])), Some(false));
        seen.make_room().unwrap();
        assert_eq!(add(&mut seen, (2, 0, [0; 14])), Some(true));
        assert_eq!(seen.places.len(), FIRST_PLACES);
    }

    #[test]
    fn no_set_is_larger_than_the_greatest() {
        assert_eq!(Seen::new([0; 16], usize::MAX).limit, SEEN_MAX);
    }

    #[test]
    fn a_cleared_set_gives_back_what_it_does_not_need() {
        let mut seen = Seen::new([1; 16], SEEN_MAX);
        let fill = |seen: &mut Seen, shares: u64| {
            for share in 0..shares {
                seen.make_room().unwrap();
                assert_eq!(add(seen, (share, 7, [0; 14])), Some(true));
            }
        };
        fill(&mut seen, 5000);
        seen.clear();
        assert!(seen.is_empty());
        assert_eq!(seen.places.len(), 8192, "as many shares are likely again");
        fill(&mut seen, 10);
        seen.clear();
        assert_eq!(seen.places.len(), 0);
        fill(&mut seen, 10);
    }

    #[test]
    fn the_key_decides_the_fingerprint() {
        let fingerprint = |key| Keys::new(key).fingerprint(1, 2, &[3; 14]);
        assert_ne!(fingerprint([0; 16]), fingerprint([1; 16]));
        assert_eq!(fingerprint([5; 16]), fingerprint([5; 16]));
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_whole_shares(
            key: [u8; 16],
            shares in prop::collection::vec((0_u64..4, 0_u64..4, prop::array::uniform14(0_u8..2)), 0..500),
        ) {
            let (mut seen, mut naive) = (Seen::new(key, 1000), HashSet::new());
            for share in shares {
                seen.make_room().unwrap();
                prop_assert_eq!(add(&mut seen, share), Some(naive.insert(share)));
            }
            prop_assert_eq!(seen.len(), naive.len());
        }

        #[test]
        fn every_bit_of_a_share_reaches_its_fingerprint(
            key: [u8; 16],
            first: u64,
            second: u64,
            extranonce in prop::collection::vec(any::<u8>(), 1..=32),
            bit in 0_usize..128,
            byte in 0_usize..32,
        ) {
            let keys = Keys::new(key);
            let fingerprint = keys.fingerprint(first, second, &extranonce);
            let flip = 1_u64 << (bit % 64);
            let (other_first, other_second) =
                if bit < 64 { (first ^ flip, second) } else { (first, second ^ flip) };
            prop_assert_ne!(keys.fingerprint(other_first, other_second, &extranonce), fingerprint);
            let mut other = extranonce.clone();
            other[byte % extranonce.len()] ^= 1 << (bit % 8);
            prop_assert_ne!(keys.fingerprint(first, second, &other), fingerprint);
        }
    }
}

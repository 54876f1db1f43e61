//! The shares that a channel has had accepted under the present tip, so that none earns twice.

use siphasher::sip::SipHasher13;

/// Most shares that one set may remember; at eight bytes each and a third of the places empty, 16 MiB.
pub const SEEN_MAX: usize = 1 << 20;

/// Places of the smallest table that is not empty.
const FIRST_PLACES: usize = 64;

/// A set that may not grow further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the set of seen shares holds its {limit} shares; close the channel or raise its difficulty")]
pub struct SeenFull {
    /// How many shares it holds.
    pub limit: usize,
}

/// The duplicate check of one channel.
///
/// Remembers a keyed fingerprint of 64 bits for each accepted share, in a table with open addressing. The key is random, so no
/// miner can look for shares that collide; by chance a share collides with one of `n` others once in `2^64 / n`.
/// The fingerprint covers the job's number, so one set serves all jobs of a channel, as job numbers never repeat on a connection;
/// it may be cleared once none of those jobs can earn any more.
///
/// A new set owns no memory. [`Self::make_room`] takes it, between shares, so that judging never does.
#[derive(Clone, Debug)]
pub struct Seen {
    hasher: SipHasher13,
    /// Fingerprints, zero for an empty place; the length is zero or a power of two.
    places: Vec<u64>,
    len: usize,
    limit: usize,
}

/// Where a share stands in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is there already.
    Taken,
    /// It is not there; it belongs at this place.
    Free { index: usize, fingerprint: u64 },
    /// It is not there, and nothing more may be put in.
    NoRoom,
}

impl Seen {
    /// An empty set that remembers at most `limit` shares, and never more than [`SEEN_MAX`].
    ///
    /// `key` is random and unknown to miners.
    #[must_use]
    pub fn new(key: [u8; 16], limit: usize) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&key),
            places: Vec::new(),
            len: 0,
            limit: limit.min(SEEN_MAX),
        }
    }

    /// Sees to it that one more share can be remembered; costs nothing when it can.
    ///
    /// # Errors
    ///
    /// If the set holds as many shares as it may.
    pub fn make_room(&mut self) -> Result<(), SeenFull> {
        if self.len >= self.limit {
            return Err(SeenFull { limit: self.limit });
        }
        if self.has_room() {
            return Ok(());
        }
        let places = (self.places.len() * 2).max(FIRST_PLACES);
        let old = std::mem::replace(&mut self.places, vec![0; places]);
        for fingerprint in old.into_iter().filter(|&fingerprint| fingerprint != 0) {
            if let Some(Place::Free { index, .. }) = self.probe(fingerprint) {
                self.put(index, fingerprint);
            }
        }
        Ok(())
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

    /// Looks a share up by its bytes.
    #[inline]
    pub(crate) fn find(&self, share: &[u8]) -> Place {
        // Zero marks an empty place, so the one fingerprint that is zero becomes another.
        let fingerprint = self.hasher.hash(share).max(1);
        match self.probe(fingerprint) {
            Some(Place::Free { .. }) if self.len >= self.limit || !self.has_room() => Place::NoRoom,
            Some(place) => place,
            None => Place::NoRoom,
        }
    }

    /// Remembers a share at the place where [`Self::find`] found it missing.
    #[inline]
    pub(crate) fn insert(&mut self, index: usize, fingerprint: u64) {
        self.put(index, fingerprint);
        self.len += 1;
    }

    fn put(&mut self, index: usize, fingerprint: u64) {
        if let Some(place) = self.places.get_mut(index) {
            *place = fingerprint;
        }
    }

    /// Whether one more share leaves a third of the places empty, which keeps probes short.
    fn has_room(&self) -> bool {
        (self.len + 1) * 3 <= self.places.len() * 2
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
        // A third of the places is empty, so this ends.
        loop {
            match self.places.get(index)? {
                0 => return Some(Place::Free { index, fingerprint }),
                taken if *taken == fingerprint => return Some(Place::Taken),
                _ => index = (index + 1) & mask,
            }
        }
    }
}
